-- What create_dml and create_logdel have in common.

CREATE OR REPLACE FUNCTION roneo.require_capturable(description jsonb, key_columns text[], columns text[], natural_key name[])
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF description #>> '{relation,kind}' NOT IN ('r', 'p') THEN
        PERFORM roneo.bad_argument(
            format('%I.%I is no table, and its changes cannot be captured', description #>> '{relation,schema}', description #>> '{relation,name}'),
            'Triggers are made on tables. Capture the tables it reads, or use a snapshot, inserter or updater.');
    ELSIF description #>> '{relation,persistence}' = 'u' THEN
        PERFORM roneo.bad_argument(
            format('%I.%I is unlogged', description #>> '{relation,schema}', description #>> '{relation,name}'),
            'A crash of the source empties it, and the queue would not know. Use a snapshot.');
    END IF;
    PERFORM roneo.require_key(description, key_columns);
    IF natural_key IS NULL OR NOT natural_key <@ key_columns::name[] THEN
        PERFORM roneo.bad_argument(format('no unique index of the source vouches for the key (%s)', array_to_string(key_columns, ', ')),
            'Changes are replayed by key: it must hold the columns of the primary key, or of a unique index on NOT NULL columns.');
    ELSIF NOT key_columns <@ coalesce(columns, key_columns) THEN
        PERFORM roneo.bad_argument('the list of columns lacks those of the key', 'Add them, or leave the argument out.');
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_capturable(jsonb, text[], text[], name[]) IS
    'Raises RO007 for a source whose changes cannot be captured, or not by that key.';

-- In one statement two rows can swap a unique value only where that is checked at its end; the key
-- itself must not be deferrable, for ON CONFLICT.
CREATE OR REPLACE FUNCTION roneo.replay_indexes(indexes jsonb, key_columns name[], deleted_column name)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT coalesce(jsonb_agg(CASE
        WHEN NOT (i.index ->> 'unique')::boolean THEN i.index
        -- A key that was deleted can come again, and its old row stays.
        WHEN deleted_column IS NOT NULL THEN i.index || jsonb_build_object('constraint', false, 'primary', false, 'deferrable', false, 'deferred', false,
            'predicate', concat_ws(' AND ', format(CASE WHEN i.index ->> 'predicate' IS NOT NULL THEN '(%s)' END, i.index ->> 'predicate'),
                                   format('%I IS NULL', deleted_column)))
        WHEN i.names @> ARRAY(SELECT quote_ident(k) FROM unnest(key_columns) AS k) AND cardinality(i.names) = cardinality(key_columns)
            THEN i.index || '{"deferrable": false, "deferred": false}'
        WHEN i.index ->> 'predicate' IS NOT NULL OR i.index ->> 'method' <> 'btree' OR i.expressions
             OR NOT roneo.is_plain_key(i.index || '{"constraint": true}') THEN i.index
        ELSE i.index || '{"constraint": true, "deferrable": true}' END ORDER BY i.nr), '[]')
    FROM (
        SELECT x.index, x.nr, ARRAY(SELECT k.key ->> 'text' FROM jsonb_array_elements(x.index -> 'keys') AS k (key)) AS names,
               EXISTS (SELECT FROM jsonb_array_elements(x.index -> 'keys') AS k (key)
                       WHERE k.key ->> 'text' NOT IN (SELECT quote_ident(u) FROM jsonb_array_elements_text(x.index -> 'uses') AS u)) AS expressions
        FROM jsonb_array_elements(indexes) WITH ORDINALITY AS x (index, nr)) AS i
);
COMMENT ON FUNCTION roneo.replay_indexes(jsonb, name[], name) IS
    'The indexes of a source as a table needs them that changes are replayed into: unique ones other than the key deferrable; for logdel only among rows that are not deleted.';

CREATE OR REPLACE FUNCTION roneo.require_replay_index(target regclass, key_columns name[], deleted_column name)
RETURNS void LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    unconditional regclass;
BEGIN
    IF deleted_column IS NULL THEN
        IF NOT roneo.has_arbiter(target, key_columns) THEN
            PERFORM roneo.bad_argument(format('%s has no unique index on (%s)', target, roneo.column_list(key_columns)),
                format('CREATE UNIQUE INDEX ON %s (%s);', target, roneo.column_list(key_columns)));
        END IF;
        RETURN;
    END IF;
    SELECT i.indexrelid INTO unconditional FROM pg_index AS i
    WHERE i.indrelid = target AND i.indisunique AND coalesce(strpos(pg_get_expr(i.indpred, i.indrelid), format('%I IS NULL', deleted_column)), 0) = 0;
    IF NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = target AND a.attname = deleted_column
                                                     AND a.atttypid = 'timestamptz'::regtype AND NOT a.attnotnull) THEN
        PERFORM roneo.bad_argument(format('%s has no column %I for the time of the deletion', target, deleted_column),
            format('ALTER TABLE %s ADD COLUMN %I timestamptz;', target, deleted_column));
    ELSIF FOUND THEN
        PERFORM roneo.bad_argument(format('unique index %s of %s would not let a deleted key come again', unconditional, target),
            format('Make it one of the rows that are there: … WHERE %I IS NULL.', deleted_column));
    ELSIF NOT roneo.has_arbiter(target, key_columns, deleted_column) THEN
        PERFORM roneo.bad_argument(format('%s has no unique index on (%s) of the rows that are not deleted', target, roneo.column_list(key_columns)),
            format('CREATE UNIQUE INDEX ON %s (%s) WHERE %I IS NULL;', target, roneo.column_list(key_columns), deleted_column));
    END IF;
END;
$$;
COMMENT ON FUNCTION roneo.require_replay_index(regclass, name[], name) IS
    'Raises RO007 where a table lacks what rows are matched by, with the statement that makes it.';

CREATE OR REPLACE FUNCTION roneo.make_replay_table(
    table_schema name, table_name name, description jsonb, columns text[], with_indexes boolean,
    key_columns name[], deleted_column name)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    target  regclass;
    statement text;
BEGIN
    target := roneo.make_table(table_schema, table_name, description, roneo.described_columns(description, columns), false, true);
    IF deleted_column IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s ADD COLUMN %I timestamptz', target, deleted_column);
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', target, deleted_column, 'When the row was deleted on the source; NULL: it is there.');
    END IF;
    IF with_indexes THEN
        FOR statement IN
            SELECT i.statement
            FROM roneo.index_statements(table_schema, table_name,
                roneo.replay_indexes(description -> 'indexes', key_columns, deleted_column),
                roneo.column_names(roneo.described_columns(description, columns)), true) AS i
            ORDER BY i.position
        LOOP
            EXECUTE statement;
        END LOOP;
    END IF;
    IF NOT roneo.has_arbiter(target, key_columns, deleted_column) THEN
        EXECUTE concat_ws(' ', format('CREATE UNIQUE INDEX ON %s (%s)', target, roneo.column_list(key_columns)),
                          format(CASE WHEN deleted_column IS NOT NULL THEN 'WHERE %I IS NULL' END, deleted_column));
    END IF;
    RETURN target;
END;
$$;
COMMENT ON FUNCTION roneo.make_replay_table(name, name, jsonb, text[], boolean, name[], name) IS
    'Makes an empty table that changes can be replayed into.';

CREATE OR REPLACE FUNCTION roneo.image_columns(description jsonb, columns text[], filter text)
RETURNS name[] LANGUAGE sql STABLE
RETURN roneo.column_names(roneo.described_columns(description, CASE WHEN filter IS NULL THEN columns END));
COMMENT ON FUNCTION roneo.image_columns(jsonb, text[], text) IS
    'What is kept of deleted rows: the columns that are copied; with a filter all of them, for it may read any.';

CREATE OR REPLACE FUNCTION roneo.register_consumer(
    source_name text, description jsonb, r roneo.replica, c roneo.capture_replica, image name[])
RETURNS roneo.capture_replica LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    link       text := roneo.open_link(source_name);
    registered jsonb;
BEGIN
    c.capture_id := roneo.ensure_capture(link, source_name, description, c.key_columns, image, c.row_level);
    registered := roneo.ask_link(link, roneo.register_query(c.capture_id, r.dest_schema, r.dest_name))::jsonb;
    PERFORM roneo.close_link(link);
    c.consumer_id := registered ->> 'consumer_id';
    c.position := registered ->> 'position';
    c.packs := registered ->> 'packs';
    c.tables := registered -> 'tables';
    RETURN c;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    -- A dblink connection stays open after a rollback.
    PERFORM roneo.close_link(link);
    RAISE;
END;
$$;
COMMENT ON FUNCTION roneo.register_consumer(text, jsonb, roneo.replica, roneo.capture_replica, name[]) IS
    'Captures the source and registers this copy there, committed; returns its row with the numbers and the snapshot from which on everything is kept.';

CREATE OR REPLACE FUNCTION roneo.unregister(source_name text, c roneo.capture_replica)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM roneo.call_source(source_name, format('SELECT roneo_capture.expire(%L)', c.consumer_id));
    PERFORM roneo.call_source(source_name, format('SELECT roneo_capture.remove(%s)', c.capture_id));
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING USING
        MESSAGE = format('source %s still keeps changes for a copy that was not made: %s', quote_ident(source_name), SQLERRM),
        HINT    = format('On the source: SELECT roneo_capture.expire(%L); SELECT roneo_capture.remove(%s);', c.consumer_id, c.capture_id);
END;
$$;
COMMENT ON FUNCTION roneo.unregister(text, roneo.capture_replica) IS 'Takes back what register_consumer did; where that cannot be, a warning says how.';

CREATE OR REPLACE FUNCTION roneo.register_capture(
    source text, source_table text, dest text, method text, columns text[], filter text, with_indexes boolean,
    copy_data boolean, refresh_every interval, wish roneo.capture_replica)
RETURNS regclass LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    description jsonb := roneo.describe_source(source, source_table, filter);
    natural_key name[] := roneo.natural_key(description, columns);
    place       record;
    target      regclass;
    made        roneo.replica;
BEGIN
    SELECT * INTO place FROM roneo.require_dest_name(dest, description);
    PERFORM roneo.require_columns_exist(columns, description);
    wish.key_columns := coalesce(wish.key_columns, natural_key);
    PERFORM roneo.require_capturable(description, wish.key_columns::text[], columns, natural_key);
    IF wish.batch_limit <= 0 THEN
        PERFORM roneo.bad_argument(format('batch_limit is %s', wish.batch_limit), 'Give the number of keys that one transaction may read, or NULL.');
    END IF;
    target := to_regclass(format('%I.%I', place.place_schema, place.place_name));
    wish.is_fresh := target IS NULL;
    IF wish.is_fresh THEN
        target := roneo.make_replay_table(place.place_schema, place.place_name, description, columns, with_indexes,
                                          wish.key_columns, wish.deleted_column);
    ELSE
        PERFORM roneo.require_adoptable(target, roneo.described_columns(description, columns), columns);
        PERFORM roneo.require_replay_index(target, wish.key_columns, wish.deleted_column);
    END IF;
    made := roneo.new_replica(source, description, target, method, columns, filter, refresh_every);
    wish.replica_id := made.replica_id;
    -- Last, for it is committed over there.
    wish := roneo.register_consumer(source, description, made, wish,
        CASE WHEN wish.deleted_column IS NULL THEN '{}' ELSE roneo.image_columns(description, columns, filter) END);
    BEGIN
        -- A table that others fill has to be filled after this moment; one of ours is filled by a refresh.
        IF copy_data OR wish.is_fresh THEN
            wish.position := NULL;
        END IF;
        INSERT INTO roneo.capture_replica SELECT wish.*;
        IF copy_data THEN
            PERFORM roneo.refresh(made.dest, raise_errors => true);
        END IF;
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        PERFORM roneo.unregister(source, wish);
        RAISE;
    END;
    RETURN made.dest;
END;
$$;
COMMENT ON FUNCTION roneo.register_capture(text, text, text, text, text[], text, boolean, boolean, interval, roneo.capture_replica) IS
    'Registers a dml or logdel replica, whose own arguments are in wish.';
