CREATE OR REPLACE FUNCTION roneo.lock_class()
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN 1919905381;
COMMENT ON FUNCTION roneo.lock_class() IS
    'The first key of the advisory lock on a replica, "rone" in ASCII; the second one is its replica_id.';

-- What a value looks like as text depends on these, and so do the names of types. Without
-- row_security a policy that would hide rows is an error: a copy of some rows is not a copy, and a
-- table of which some rows were deleted is not empty.
CREATE OR REPLACE FUNCTION roneo.pinned_settings()
RETURNS TABLE (setting_name text, value text) LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    VALUES ('search_path',         'pg_catalog, pg_temp'),
           ('TimeZone',            'UTC'),
           ('DateStyle',           'ISO, YMD'),
           ('IntervalStyle',       'postgres'),
           ('extra_float_digits',  '3'),
           ('bytea_output',        'hex'),
           ('xmloption',           'content'),
           ('lc_monetary',         'C'),
           ('standard_conforming_strings', 'on'),
           ('row_security',        'off'),
           -- Compiling a probe takes longer than running it.
           ('jit',                 'off'),
           ('statement_timeout',   '0'),
           -- Patient steps have a shorter one. Whoever forgot a lock is not waited for.
           ('lock_timeout',        '5min'),
           ('idle_in_transaction_session_timeout', '0');
END;
COMMENT ON FUNCTION roneo.pinned_settings() IS
    'The settings that every refresh runs under, on both ends, for its transaction only.';

CREATE OR REPLACE FUNCTION roneo.pin_settings()
RETURNS void LANGUAGE sql
BEGIN ATOMIC
    SELECT count(set_config(setting_name, value, true)) FROM roneo.pinned_settings();
END;
COMMENT ON FUNCTION roneo.pin_settings() IS 'Applies roneo.pinned_settings() to this transaction.';

-- SET, BEGIN and LOCK take no snapshot; so the lock that follows precedes the snapshot.
-- Behind an ALTER TABLE it waits for half a minute; then the refresh is deferred. A client that is
-- gone without a word is noticed in a minute, not in hours.
CREATE OR REPLACE FUNCTION roneo.source_opening()
RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT concat('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ',
        string_agg(format('SET LOCAL %s = %s; ', setting_name,
            CASE WHEN setting_name = 'search_path' THEN value ELSE quote_literal(value) END), ''),
        'SET LOCAL tcp_keepalives_idle = 30; SET LOCAL tcp_keepalives_interval = 10; ',
        'SET LOCAL tcp_keepalives_count = 3; SET LOCAL tcp_user_timeout = 60000; ',
        'SET LOCAL lock_timeout = ''30s''')
    FROM roneo.pinned_settings()
);
COMMENT ON FUNCTION roneo.source_opening() IS
    'Statements that open the transaction in which a source is read, without taking its snapshot yet.';

CREATE OR REPLACE FUNCTION roneo.require_replicas(dests regclass[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unknown regclass;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO010',
            MESSAGE = format('a refresh cannot run in a %s transaction',
                             current_setting('transaction_isolation')),
            DETAIL  = 'It must see the position that its lock protects, and that may be newer than the snapshot.',
            HINT    = 'Use READ COMMITTED, the default of PostgreSQL.';
    END IF;
    SELECT d INTO unknown
    FROM unnest(dests) AS d
    WHERE NOT EXISTS (SELECT FROM roneo.replica AS r WHERE r.dest = d)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO001',
            MESSAGE = format('%s is not a replica', unknown),
            HINT    = 'SELECT dest FROM roneo.replica lists those that are; roneo.create_snapshot and its like make one.';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_replicas(regclass[]) IS
    'Raises RO001 for a table that is not a replica, and RO010 where the isolation level is not READ COMMITTED.';

CREATE OR REPLACE FUNCTION roneo.with_group(dests regclass[])
RETURNS regclass[] LANGUAGE sql STABLE
RETURN ARRAY(
    SELECT r.dest
    FROM roneo.replica AS r
    WHERE r.dest = ANY (dests)
       OR (r.source_id, r.refresh_group) IN (SELECT k.source_id, k.refresh_group FROM roneo.replica AS k WHERE k.dest = ANY (dests))
    ORDER BY r.replica_id);
COMMENT ON FUNCTION roneo.with_group(regclass[]) IS 'Replicas, and with each all those of its refresh group.';

-- In one transaction deferred triggers of all of them fire as one role.
CREATE OR REPLACE FUNCTION roneo.require_one_owner(members regclass[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owners text := (SELECT string_agg(DISTINCT quote_ident(pg_get_userbyid(c.relowner)), ', ') FROM pg_class AS c WHERE c.oid = ANY (members)
                    HAVING count(DISTINCT c.relowner) > 1);
BEGIN
    IF owners IS NOT NULL THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO007',
            MESSAGE = format('the tables of a refresh group have several owners: %s', owners),
            DETAIL  = 'They are written in one transaction, as their owner.',
            HINT    = 'ALTER TABLE … OWNER TO, or take one out: roneo.set_refresh_group(dest, NULL).';
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_one_owner(regclass[]) IS 'Raises RO007 where the tables of a refresh group do not belong to one role.';

CREATE OR REPLACE FUNCTION roneo.lock_replicas(dests regclass[])
RETURNS integer[] LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    candidate integer;
    locked    integer[] := '{}';
BEGIN
    FOR candidate IN
        SELECT replica_id FROM roneo.replica WHERE dest = ANY (dests) ORDER BY replica_id
    LOOP
        IF pg_try_advisory_xact_lock(roneo.lock_class(), candidate) THEN
            locked := array_append(locked, candidate);
        END IF;
    END LOOP;
    RETURN locked;
END;
$$;
COMMENT ON FUNCTION roneo.lock_replicas(regclass[]) IS
    'Locks replicas until the end of the transaction, without waiting; returns those that it got.';

CREATE OR REPLACE FUNCTION roneo.lock_replica(id integer, dest text, advice text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(roneo.lock_class(), id) THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO002',
            MESSAGE = format('%s is being refreshed by another session', dest),
            HINT    = advice;
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.lock_replica(integer, text, text) IS
    'Locks a replica until the end of the transaction; raises RO002 where another session has it.';

CREATE OR REPLACE FUNCTION roneo.note_names(ids integer[])
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone roneo.replica;
BEGIN
    SELECT r.* INTO gone
    FROM roneo.replica AS r
    WHERE r.replica_id = ANY (ids)
      AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = r.dest);
    IF FOUND THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO018',
            MESSAGE = format('the destination %I.%I is gone', gone.dest_schema, gone.dest_name),
            HINT    = format('Forget the replica with SELECT roneo.drop_replica(%s), and create it anew if you want it back.',
                             gone.dest::oid);
    END IF;
    UPDATE roneo.replica AS r
    SET dest_schema = n.nspname, dest_name = c.relname
    FROM pg_class AS c
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE r.replica_id = ANY (ids) AND c.oid = r.dest
      AND (r.dest_schema, r.dest_name) <> (n.nspname, c.relname);
END;
$$;
COMMENT ON FUNCTION roneo.note_names(integer[]) IS
    'Keeps the names of destinations that were renamed; raises RO018 for one that was dropped.';

-- A refresh may give a replica the new oid of its view, or the new name of its table; never another
-- relation. Roles that refresh may write these columns, and the owner of that one would not know.
CREATE OR REPLACE FUNCTION roneo.guard_dest()
RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NEW.dest <> OLD.dest AND (NEW.dest_schema, NEW.dest_name) <> (OLD.dest_schema, OLD.dest_name)
       OR to_regclass(format('%I.%I', NEW.dest_schema, NEW.dest_name)) IS DISTINCT FROM NEW.dest THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO009',
            MESSAGE = format('the destination of replica %I.%I cannot be changed', OLD.dest_schema, OLD.dest_name),
            HINT    = 'Drop the replica and create one with the other dest.';
    END IF;
    RETURN NEW;
END;
$$;
COMMENT ON FUNCTION roneo.guard_dest() IS
    'Trigger function: lets a replica follow its destination to a new oid or a new name, and to nothing else.';

CREATE OR REPLACE TRIGGER guard_dest
BEFORE UPDATE OF dest, dest_schema, dest_name ON roneo.replica
FOR EACH ROW WHEN ((OLD.dest, OLD.dest_schema, OLD.dest_name) IS DISTINCT FROM (NEW.dest, NEW.dest_schema, NEW.dest_name))
EXECUTE FUNCTION roneo.guard_dest();
COMMENT ON TRIGGER guard_dest ON roneo.replica IS 'A refresh cannot point a replica at another relation.';

CREATE OR REPLACE FUNCTION roneo.probes(ids integer[])
RETURNS TABLE (replica_id integer, probe roneo.probe) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_method text;
BEGIN
    FOR found_method IN
        SELECT DISTINCT r.method FROM roneo.replica AS r WHERE r.replica_id = ANY (ids) ORDER BY 1
    LOOP
        RETURN QUERY EXECUTE format(
            'SELECT r.replica_id, roneo.%I(r, m)
             FROM roneo.replica AS r
             JOIN roneo.%I AS m ON m.replica_id = r.replica_id
             WHERE r.replica_id = ANY ($1)',
            concat('probe_', found_method), concat(found_method, '_replica'))
        USING ids;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION roneo.probes(integer[]) IS
    'What is to be asked of the source for each replica: one statement a method, not one a replica.';

CREATE OR REPLACE FUNCTION roneo.begin_refresh(dests regclass[])
RETURNS TABLE (
    replica_id integer, dest text, source_name text, method text, state text, dest_owner name,
    before text, opening text, lock text, inside text,
    lock_timeout_ms integer, lock_attempts integer
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    locked  integer[];
    members regclass[];
BEGIN
    PERFORM roneo.require_replicas(dests);
    members := roneo.with_group(dests);
    PERFORM roneo.require_one_owner(members);
    -- Lock and read are two statements: a snapshot taken with the lock could show the position
    -- from before the refresh that has just let go of it.
    locked := roneo.lock_replicas(members);
    PERFORM roneo.note_names(locked);
    RETURN QUERY
        SELECT r.replica_id, format('%I.%I', r.dest_schema, r.dest_name), s.source_name, r.method,
               CASE WHEN p.replica_id IS NULL THEN 'busy' ELSE 'ready' END,
               pg_get_userbyid(c.relowner),
               (p.probe).before, roneo.source_opening(), (p.probe).lock, (p.probe).inside,
               roneo.setting('lock_timeout_ms'), roneo.setting('lock_attempts')
        FROM roneo.replica AS r
        JOIN roneo.source AS s ON s.source_id = r.source_id
        LEFT JOIN pg_class AS c ON c.oid = r.dest
        LEFT JOIN roneo.probes(locked) AS p ON p.replica_id = r.replica_id
        WHERE r.dest = ANY (members)
        ORDER BY r.replica_id;
    PERFORM roneo.pin_settings();
    PERFORM roneo.pin_limits(members);
END;
$$;
COMMENT ON FUNCTION roneo.begin_refresh(regclass[]) IS
    'First phase: locks the replicas, and those of their refresh groups (state busy: another session has the lock), pins the settings of the transaction, and returns what to ask of their sources. What belongs to one group is asked in one transaction of the source.';
