-- What a person does with captures beside refreshing from them.

CREATE OR REPLACE FUNCTION roneo.require_captured(dest regclass)
RETURNS roneo.capture_replica LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo.capture_replica;
BEGIN
    PERFORM roneo.require_replicas(ARRAY[dest]);
    SELECT k.* INTO c FROM roneo.capture_replica AS k JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = require_captured.dest;
    IF NOT FOUND THEN
        PERFORM roneo.bad_argument(format('%s is not fed from a capture', dest), 'Only replicas of the methods dml and logdel are.');
    END IF;
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo.require_captured(regclass) IS 'What is known of a dml or logdel replica; raises RO001 or RO007 for others.';

CREATE OR REPLACE FUNCTION roneo.tell_source(dest regclass, query text)
RETURNS text LANGUAGE sql
RETURN (
    SELECT roneo.call_source(s.source_name, query)
    FROM roneo.replica AS r JOIN roneo.source AS s USING (source_id) WHERE r.dest = tell_source.dest
);
COMMENT ON FUNCTION roneo.tell_source(regclass, text) IS 'Runs one query on the source of a replica, committed there, and returns its answer.';

CREATE OR REPLACE FUNCTION roneo.leave_source(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c       roneo.capture_replica := roneo.require_captured(dest);
    problem text;
BEGIN
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.expire(%L, %L)', c.consumer_id, roneo.dest_identity()));
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.remove(%s)', c.capture_id));
EXCEPTION WHEN query_canceled THEN
    RAISE;
WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT;
    RAISE WARNING USING
        MESSAGE = format('the source still captures changes for %s: %s', dest, problem),
        HINT    = format('On the source: SELECT roneo_capture.expire(%L); SELECT roneo_capture.remove(%s);', c.consumer_id, c.capture_id);
END;
$$;
COMMENT ON FUNCTION roneo.leave_source(regclass) IS
    'Ends what the source does for a copy: its place, and with the last one the capture. Where that cannot be, a warning says how it is done there.';

CREATE OR REPLACE FUNCTION roneo.remove_capture(r roneo.replica, c roneo.capture_replica, keep_table boolean)
RETURNS TABLE (statement text) LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT format('SELECT roneo.leave_source(%s::regclass)', r.dest::oid)
    UNION ALL
    SELECT format('DROP TABLE %I.%I', n.nspname, t.relname)
    FROM pg_class AS t JOIN pg_namespace AS n ON n.oid = t.relnamespace
    WHERE t.oid = r.dest AND NOT keep_table;
END;
COMMENT ON FUNCTION roneo.remove_capture(roneo.replica, roneo.capture_replica, boolean) IS 'What is dropped with a dml or logdel replica.';

CREATE OR REPLACE FUNCTION roneo.renew_consumer(r roneo.replica, c roneo.capture_replica)
RETURNS roneo.capture_replica LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    source_name text := (SELECT s.source_name FROM roneo.source AS s WHERE s.source_id = r.source_id);
    description jsonb := roneo.describe_source(source_name, roneo.source_name_of(r), NULL);
    old         roneo.capture_replica := c;
BEGIN
    PERFORM roneo.require_capturable(description, c.key_columns::text[], r.wanted_columns::text[],
                                     roneo.natural_key(description, r.wanted_columns::text[]));
    c := roneo.register_consumer(source_name, description, r, c,
        CASE WHEN c.deleted_column IS NULL THEN '{}' ELSE roneo.image_columns(description, r.wanted_columns::text[], r.filter) END);
    BEGIN
        -- Of a clone it is the original's, which goes on.
        PERFORM roneo.tell_source(r.dest, format('SELECT roneo_capture.expire(%L, %L)', old.consumer_id, roneo.dest_identity()));
        PERFORM roneo.tell_source(r.dest, format('SELECT roneo_capture.remove(%s)', old.capture_id));
    EXCEPTION WHEN insufficient_privilege OR lock_not_available THEN
        RAISE WARNING USING
            MESSAGE = format('the source still keeps changes for an earlier registration of %I.%I', r.dest_schema, r.dest_name),
            HINT    = format('On the source: SELECT roneo_capture.expire(%L);', old.consumer_id);
    END;
    RETURN c;
END;
$$;
COMMENT ON FUNCTION roneo.renew_consumer(roneo.replica, roneo.capture_replica) IS
    'Mends the capture where needed, registers the copy anew, and ends its old registration.';

CREATE OR REPLACE FUNCTION roneo.resync(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo.capture_replica := roneo.require_captured(dest);
    r roneo.replica;
BEGIN
    SELECT k.* INTO STRICT r FROM roneo.replica AS k WHERE k.dest = resync.dest;
    PERFORM roneo.lock_replica(r.replica_id, dest::text, 'Ask again when that refresh has ended.');
    c := roneo.renew_consumer(r, c);
    UPDATE roneo.replica AS k SET identity = NULL WHERE k.replica_id = r.replica_id;
    UPDATE roneo.capture_replica AS k SET
        capture_id = c.capture_id, consumer_id = c.consumer_id, packs = c.packs, position = NULL, tables = NULL
    WHERE k.replica_id = r.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.resync(regclass) IS
    'Begins a dml or logdel replica anew: mends the capture on the source where that is needed, takes the source as it is now, and has the next refresh compare the whole table. Rows that are the same stay untouched. Raises RO024 where the role of the connection may not mend the capture.';

CREATE OR REPLACE FUNCTION roneo.accept_capture(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo.capture_replica;
BEGIN
    SELECT k.* INTO c FROM roneo.capture_replica AS k JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = accept_capture.dest;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.readdress(%L, %L, %L)', c.consumer_id, roneo.dest_identity(),
        (SELECT roneo.dest_label(r.dest_schema, r.dest_name) FROM roneo.replica AS r WHERE r.replica_id = c.replica_id)));
    -- They stay known: what was not among them is new, and read whole.
    UPDATE roneo.capture_replica AS k SET tables = (SELECT jsonb_object_agg(t.key, t.value || '{"accepted": true}') FROM jsonb_each(c.tables) AS t)
    WHERE k.replica_id = c.replica_id;
END;
$$;
COMMENT ON FUNCTION roneo.accept_capture(regclass) IS
    'For a dml or logdel replica: takes the triggers and partitions of the source as they are now, and makes its place on the source ours.';

CREATE OR REPLACE FUNCTION roneo.pause_capture(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.pause(%s)', (roneo.require_captured(dest)).capture_id));
END;
$$;
COMMENT ON FUNCTION roneo.pause_capture(regclass) IS
    'Around a change of most rows of a source table: from now on nothing is recorded, for any copy. Refreshes are deferred (RO026) until resume_capture.';

CREATE OR REPLACE FUNCTION roneo.resume_capture(dest regclass)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.resume(%s)', (roneo.require_captured(dest)).capture_id));
END;
$$;
COMMENT ON FUNCTION roneo.resume_capture(regclass) IS
    'Ends a pause: changes are recorded again, and the next refresh of every copy compares the whole table.';

CREATE OR REPLACE FUNCTION roneo.set_queue_limit(dest regclass, queue_limit text)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    bytes bigint;
BEGIN
    BEGIN
        bytes := pg_size_bytes(queue_limit);
    EXCEPTION WHEN data_exception THEN
        -- Reported below.
        NULL;
    END;
    IF coalesce(bytes, 0) <= 0 THEN
        PERFORM roneo.bad_argument(format('queue_limit is %L', queue_limit), 'Give a size such as ''10 GB''.');
    END IF;
    PERFORM roneo.tell_source(dest, format('SELECT roneo_capture.set_limit(%s, %s)', (roneo.require_captured(dest)).capture_id, bytes));
END;
$$;
COMMENT ON FUNCTION roneo.set_queue_limit(regclass, text) IS
    'How large the queue of a captured table may grow on the source, with its unit, before nothing is recorded any more and the copies are compared whole: 10 GB unless it is set.';

CREATE OR REPLACE FUNCTION roneo.pending_transactions(dest regclass)
RETURNS TABLE (transaction_id xid8, changed_keys bigint, truncated boolean) LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c roneo.capture_replica := roneo.require_captured(dest);
BEGIN
    IF c.position IS NULL THEN
        RETURN;
    END IF;
    RETURN QUERY
        SELECT (t.row ->> 'xid')::xid8, (t.row ->> 'keys')::bigint, (t.row ->> 'truncated')::boolean
        FROM jsonb_array_elements(roneo.tell_source(dest, format(
            'SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(g) ORDER BY g.keys DESC), ''[]'') FROM ('
            'SELECT p.xid::text AS xid, pg_catalog.sum(p.keys) AS keys, pg_catalog.bool_or(p.op IN (''t'', ''r'')) IS TRUE AS truncated FROM (%s) AS p GROUP BY p.xid) AS g',
            roneo.queue_query(c, format('q.xid, q.op, %s AS keys', roneo.key_count(c.packs)), NULL)))::jsonb) AS t (row);
END;
$$;
COMMENT ON FUNCTION roneo.pending_transactions(regclass) IS
    'The transactions of the source whose changes wait for a dml or logdel replica, the largest first: their numbers, how many keys they changed, and whether they truncated or ask for a comparison.';

CREATE OR REPLACE FUNCTION roneo.forget_transaction(dest regclass, transaction_id xid8)
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN roneo.tell_source(dest, format('SELECT roneo_capture.forget(%s, %L)', (roneo.require_captured(dest)).capture_id, transaction_id));
END;
$$;
COMMENT ON FUNCTION roneo.forget_transaction(regclass, xid8) IS
    'Takes what one transaction of the source changed out of the queue, for all copies: a mass change that was brought to them by other means, or must not get there. Rows it shares with other transactions still come with their values of then. Returns the rows of the queue that went.';

CREATE OR REPLACE FUNCTION roneo.captures(source text)
RETURNS TABLE (
    capture_id integer, source_table text, key_columns name[], state text, problem text, queue_bytes bigint,
    consumer_id uuid, destination text, role_name name, confirmed_at timestamptz)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found jsonb := '[]';
BEGIN
    IF roneo.call_source(source, 'SELECT pg_catalog.to_regclass(''roneo_capture.capture'') IS NOT NULL')::boolean THEN
        found := roneo.call_source(source,
            'SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(c) || pg_catalog.jsonb_build_object('
            '''problem'', roneo_capture.problem(c), ''bytes'', roneo_capture.queue_size(c.capture_id), ''consumer'', pg_catalog.to_jsonb(u)) '
            'ORDER BY c.capture_id, u.registered_at), ''[]'') '
            'FROM roneo_capture.capture AS c LEFT JOIN roneo_capture.consumer AS u ON u.capture_id = c.capture_id');
    END IF;
    -- The source knows a copy by the name that it had at its last refresh.
    RETURN QUERY
        SELECT (f.row ->> 'capture_id')::integer, f.row ->> 'relation_name',
               ARRAY(SELECT k::name FROM jsonb_array_elements_text(f.row -> 'key_columns') AS k),
               f.row ->> 'state', f.row ->> 'problem', (f.row ->> 'bytes')::bigint,
               (f.row #>> '{consumer,consumer_id}')::uuid,
               coalesce((SELECT roneo.dest_label(n.nspname, t.relname)
                         FROM roneo.capture_replica AS c
                         JOIN roneo.replica AS r USING (replica_id)
                         JOIN pg_class AS t ON t.oid = r.dest
                         JOIN pg_namespace AS n ON n.oid = t.relnamespace
                         WHERE c.consumer_id = (f.row #>> '{consumer,consumer_id}')::uuid
                           AND f.row #>> '{consumer,dest_identity}' = roneo.dest_identity()), f.row #>> '{consumer,destination}'),
               (f.row #>> '{consumer,role_name}')::name, (f.row #>> '{consumer,confirmed_at}')::timestamptz
        FROM jsonb_array_elements(found) AS f (row);
END;
$$;
COMMENT ON FUNCTION roneo.captures(text) IS
    'What is captured on a source, and for whom: one line a copy, those of other destinations too; problem: why changes are missed, or NULL. A copy that does not confirm any more, because its database is gone, holds the queue until expire_consumer.';

CREATE OR REPLACE FUNCTION roneo.expire_consumer(source text, consumer_id uuid)
RETURNS boolean LANGUAGE sql
RETURN roneo.call_source(source, format('SELECT roneo_capture.expire(%L)', consumer_id))::boolean;
COMMENT ON FUNCTION roneo.expire_consumer(text, uuid) IS
    'Has a source forget a copy, of this or another destination, for which it keeps changes. Should that copy be refreshed again, it says RO025, and is compared whole after resync. False: there was none.';

CREATE OR REPLACE FUNCTION roneo.unprepare_commands()
RETURNS text LANGUAGE sql IMMUTABLE
RETURN $do$DO $commands$
BEGIN
    LOCK TABLE roneo_capture.capture IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM roneo_capture.capture) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = 'a capture was made meanwhile';
    END IF;
    DROP OWNED BY roneo_capture;
    BEGIN
        DROP ROLE roneo_capture;
    EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN
        -- Another database of the cluster is prepared too, or somebody else made the role.
        NULL;
    END;
END;
$commands$ $do$;
COMMENT ON FUNCTION roneo.unprepare_commands() IS 'What takes schema and role roneo_capture away from a source that has no captures.';

CREATE OR REPLACE FUNCTION roneo.unprepare_source(source text)
RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link   text := roneo.open_link(source);
    in_use text;
    found  boolean;
BEGIN
    found := roneo.ask_link(link, 'SELECT pg_catalog.to_regclass(''roneo_capture.capture'') IS NOT NULL');
    IF found THEN
        PERFORM roneo.ask_link(link, 'SELECT pg_catalog.count(roneo_capture.remove(c.capture_id)) FROM roneo_capture.capture AS c');
        in_use := roneo.ask_link(link,
            'SELECT pg_catalog.string_agg(pg_catalog.concat_ws('' for '', c.relation_name, u.destination), '', '' ORDER BY c.capture_id, u.registered_at) '
            'FROM roneo_capture.capture AS c LEFT JOIN roneo_capture.consumer AS u ON u.capture_id = c.capture_id');
        IF in_use IS NOT NULL THEN
            RAISE EXCEPTION USING
                ERRCODE = 'dependent_objects_still_exist',
                MESSAGE = format('tables of source %s are captured', quote_ident(source)),
                DETAIL  = format('They are: %s.', in_use),
                HINT    = 'roneo.drop_replica(dest) ends the captures of a copy; roneo.expire_consumer(source, consumer_id) those of one whose database is gone.';
        END IF;
        PERFORM roneo.tell_link(link, 'SET lock_timeout = ''2s''');
        PERFORM roneo.tell_link(link, roneo.unprepare_commands());
        IF roneo.ask_link(link, 'SELECT pg_catalog.to_regrole(''roneo_capture'') IS NOT NULL')::boolean THEN
            RAISE NOTICE 'role roneo_capture stays on source %: another database of its cluster needs it, or this role may not drop it', quote_ident(source);
        END IF;
    END IF;
    PERFORM roneo.close_link(link);
    RETURN found;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.unprepare_source(text) IS
    'Takes away from a source what dml and logdel have left there when the last copy is dropped: schema roneo_capture, and the role of that name unless another database of the cluster needs it. False where there is none. Raises 2BP01 where a copy is still fed, of this or another destination.';
