-- A verification, or a repair, as an alternation of two pure functions: verify_plan says what to do
-- next, and verify_judge what to make of the reports. A hand carries the state from one to the other
-- without reading it, after finish_refresh and before the commit, while the source's snapshot is open.
--
-- A step of kind compare is two queries, one for each side, to be run at the same time: statement is
-- for the source, into_types the one for here.

CREATE OR REPLACE FUNCTION roneo.compare_step(purpose text, there text, here text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(2, 'compare', purpose, there, NULL, NULL, here, NULL, NULL, NULL, false)::roneo.step;
COMMENT ON FUNCTION roneo.compare_step(text, text, text) IS 'A step that is a query on each side, at the same time; each answers with one JSON document.';

CREATE OR REPLACE FUNCTION roneo.asking_step(purpose text, query text)
RETURNS roneo.step LANGUAGE sql IMMUTABLE
RETURN ROW(4, 'dest', purpose, query, NULL, NULL, NULL, NULL, NULL, 'put', false)::roneo.step;
COMMENT ON FUNCTION roneo.asking_step(text, text) IS 'A step that is a query here and answers with one JSON document.';

CREATE OR REPLACE FUNCTION roneo.key_wanted(subject jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (SELECT coalesce(jsonb_agg(w.col ORDER BY w.nr), '[]') FROM jsonb_array_elements(subject -> 'wanted') WITH ORDINALITY AS w (col, nr)
        WHERE subject -> 'key' ? (w.col ->> 'name'));
COMMENT ON FUNCTION roneo.key_wanted(jsonb) IS 'The source''s columns that are the key.';

CREATE OR REPLACE FUNCTION roneo.rows_steps(r roneo.replica, subject jsonb, state jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    weak   text[] := ARRAY(SELECT jsonb_array_elements_text(state -> 'weak'));
    keyed  boolean := roneo.has_key(subject);
    names  name[] := CASE WHEN keyed THEN roneo.key_names(subject) ELSE '{roneo_hash,roneo_lacks}' END;
BEGIN
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    RETURN NEXT roneo.dest_step(1, 'make a table for keys and hashes', roneo.verify_table_statement(r, subject, 'there',
        CASE WHEN keyed THEN 'NULL::pg_catalog.int8 AS roneo_hash, NULL::pg_catalog.bool AS roneo_ready, NULL::pg_catalog.bool AS roneo_inside'
             ELSE 'NULL::pg_catalog.int8 AS roneo_hash, NULL::pg_catalog.int8 AS roneo_count' END));
    RETURN NEXT roneo.transfer_from(r, 'read keys and hashes where sums differ', roneo.hashes_there(subject, weak, state ->> 'bits'),
        roneo.key_wanted(subject), roneo.extra_column('roneo_hash', 'bigint') || CASE WHEN keyed
            THEN roneo.extra_column('roneo_ready', 'boolean') || roneo.extra_column('roneo_inside', 'boolean')
            ELSE roneo.extra_column('roneo_count', 'bigint') END,
        'pg_temp', roneo.verify_table(r, 'there'), false);
    RETURN NEXT roneo.dest_step(4, 'find what differs', roneo.differing_statement(r, subject, weak, state ->> 'bits'));
    RETURN NEXT roneo.asking_step('count it', roneo.found_query(r, subject, greatest((state #>> '{options,show}')::integer, 1)));
    IF (state #>> '{options,apply}')::boolean THEN
        RETURN NEXT roneo.asking_step('collect keys', roneo.chunks_query(r, names,
            CASE WHEN keyed THEN 'f.roneo_kind <> ''extra''' ELSE 'f.roneo_kind = ''missing''' END, roneo.most_repaired() + 1));
    END IF;
    RETURN NEXT roneo.moved_step(r);
END;
$$;
COMMENT ON FUNCTION roneo.rows_steps(roneo.replica, jsonb, jsonb) IS
    'Steps that find, in the buckets whose sums differ, the keys that do: only keys and hashes are moved, into a temporary table here.';

CREATE OR REPLACE FUNCTION roneo.shown_chunk(subject jsonb, state jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT jsonb_agg(k.list ORDER BY k.nr)
    FROM (SELECT n.nr, array_agg(s.one -> 'key' ->> n.name ORDER BY s.nr)::text AS list
          FROM unnest(roneo.key_names(subject)) WITH ORDINALITY AS n (name, nr)
          CROSS JOIN jsonb_array_elements(state -> 'shown') WITH ORDINALITY AS s (one, nr)
          WHERE s.one ->> 'kind' = 'changed'
          GROUP BY n.nr) AS k
);
COMMENT ON FUNCTION roneo.shown_chunk(jsonb, jsonb) IS 'The keys of rows whose columns are to be named, as an array of each column of the key.';

CREATE OR REPLACE FUNCTION roneo.columns_steps(r roneo.replica, subject jsonb, state jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    weak   text[] := ARRAY(SELECT jsonb_array_elements_text(state -> 'weak'));
    shows  boolean := (state #>> '{options,values}')::boolean;
BEGIN
    RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
    RETURN NEXT roneo.dest_step(1, 'make a table for columns', roneo.verify_table_statement(r, subject, 'shown', 'NULL::pg_catalog.text[] AS roneo_images'));
    RETURN NEXT roneo.transfer_from(r, 'read the columns of rows that differ', roneo.images_there(subject, weak, roneo.shown_chunk(subject, state), shows),
        roneo.key_wanted(subject), roneo.extra_column('roneo_images', 'text[]'), 'pg_temp', roneo.verify_table(r, 'shown'), false);
    RETURN NEXT roneo.asking_step('see which columns differ', roneo.changed_columns_query(r, subject, weak, shows));
END;
$$;
COMMENT ON FUNCTION roneo.columns_steps(roneo.replica, jsonb, jsonb) IS 'Steps that tell in which columns rows differ.';

-- A copy that was not made because the source had counted nothing new: its sessions hand their counters
-- over within ten seconds.
CREATE OR REPLACE FUNCTION roneo.settle_step(r roneo.replica, seconds numeric)
RETURNS roneo.step LANGUAGE sql STABLE
RETURN ROW(2, 'check', 'wait for what the source has counted', format(
    'DO ''BEGIN PERFORM pg_catalog.pg_sleep(%s); PERFORM pg_catalog.pg_stat_clear_snapshot(); END''; SELECT pg_catalog.jsonb_build_object(''state'', %s)',
    seconds, roneo.state_of(roneo.source_regclass(r))), NULL, NULL, NULL, NULL, NULL, NULL, false)::roneo.step;
COMMENT ON FUNCTION roneo.settle_step(roneo.replica, numeric) IS 'A step on the source that asks again, after a while, whether the table has changed.';

CREATE OR REPLACE FUNCTION roneo.verify_steps(r roneo.replica, answer jsonb, state jsonb)
RETURNS SETOF roneo.step LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    subject jsonb := state -> 'subject';
    weak    text[] := ARRAY(SELECT jsonb_array_elements_text(state -> 'weak'));
BEGIN
    CASE state ->> 'phase'
        WHEN 'hands' THEN
            RETURN NEXT roneo.compare_step('see that both sides hash alike', roneo.handshake_query(), roneo.handshake_query());
        WHEN 'total' THEN
            RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
            RETURN NEXT roneo.compare_step('add up hashes on both sides', roneo.total_query(subject, 'there', weak), roneo.total_query(subject, 'here', weak));
            RETURN NEXT roneo.moved_step(r);
        WHEN 'sums' THEN
            RETURN QUERY SELECT * FROM roneo.filter_path_step(r);
            RETURN NEXT roneo.compare_step('see where hashes differ', roneo.sums_query(subject, 'there', weak), roneo.sums_query(subject, 'here', weak));
            RETURN NEXT roneo.moved_step(r);
        WHEN 'rows' THEN
            RETURN QUERY SELECT * FROM roneo.raw_bytes_step(answer);
            RETURN QUERY SELECT * FROM roneo.rows_steps(r, subject, state);
        WHEN 'settle' THEN
            RETURN NEXT roneo.settle_step(r, (state #>> '{options,settle}')::numeric);
        WHEN 'columns' THEN
            RETURN QUERY SELECT * FROM roneo.columns_steps(r, subject, state);
        WHEN 'repair' THEN
            RETURN QUERY SELECT * FROM roneo.repair_steps(r, subject, state, answer);
        WHEN 'done' THEN
            RETURN;
    END CASE;
END;
$$;
COMMENT ON FUNCTION roneo.verify_steps(roneo.replica, jsonb, jsonb) IS 'The steps of the phase that a verification is in; none when it is done.';

CREATE OR REPLACE FUNCTION roneo.replica_of(answer jsonb)
RETURNS roneo.replica LANGUAGE sql STABLE
RETURN (SELECT r FROM roneo.replica AS r WHERE r.replica_id = (answer ->> 'replica_id')::integer);
COMMENT ON FUNCTION roneo.replica_of(jsonb) IS 'The replica that an answer is about.';

CREATE OR REPLACE FUNCTION roneo.verify_plan(answer jsonb, state jsonb)
RETURNS TABLE (
    replica_id integer, number integer, stage integer, kind text, purpose text, statement text,
    into_table text, into_list text, into_types text, copy_out text, copy_in text,
    counts text, patient boolean, here text
)
LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT r.replica_id, s.ordinality::integer, s.stage::integer, s.kind, s.purpose, s.statement, s.into_table, s.into_list,
           CASE WHEN s.kind <> 'compare' THEN s.into_types END,
           CASE WHEN s.kind = 'transfer' THEN roneo.copy_out(t.step, o.source_encoding) END,
           CASE WHEN s.kind = 'transfer' THEN roneo.copy_in(t.step, o.source_encoding) END,
           s.counts, coalesce(s.patient, false), CASE WHEN s.kind = 'compare' THEN s.into_types END
    FROM roneo.replica AS r
    JOIN roneo.source AS o ON o.source_id = r.source_id
    CROSS JOIN LATERAL roneo.verify_steps(r, answer, state) WITH ORDINALITY AS s
    CROSS JOIN LATERAL (SELECT ROW(s.stage, s.kind, s.purpose, s.statement, s.into_table, s.into_list,
                                   s.into_types, s.copy_format, s.copy_freeze, s.counts, s.patient)::roneo.step) AS t (step)
    WHERE r.replica_id = (answer ->> 'replica_id')::integer
    ORDER BY 2;
END;
COMMENT ON FUNCTION roneo.verify_plan(jsonb, jsonb) IS
    'What a verification does next: steps as of plan_refresh, to be run as the destination''s owner, and steps of kind compare, which are statement on the source and here on the destination, at the same time. None: it is done.';

CREATE OR REPLACE FUNCTION roneo.most_repaired()
RETURNS integer LANGUAGE sql IMMUTABLE
RETURN 100000;
COMMENT ON FUNCTION roneo.most_repaired() IS 'How many rows a repair reads by their keys; beyond, a copy of the whole is the better repair.';

CREATE OR REPLACE FUNCTION roneo.verify_start(answer jsonb, options jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    subject jsonb := roneo.verify_subject(roneo.replica_of(answer), answer, options);
BEGIN
    RETURN jsonb_build_object('subject', subject, 'options', '{"show": 100, "values": false, "repair": false, "apply": false, "most_deleted": 10, "settle": 11}'::jsonb || jsonb_strip_nulls(options)) || CASE
        WHEN subject ->> 'trouble' IS NOT NULL THEN jsonb_build_object('phase', 'done', 'verdict', 'undecided', 'why', subject -> 'trouble')
        ELSE '{"phase": "hands"}' END;
END;
$$;
COMMENT ON FUNCTION roneo.verify_start(jsonb, jsonb) IS
    'The state that a verification begins with. options: from, to (a half-open range of control values or keys), skipped and state (that the copy was not made because the source was in this state), show (how many differences are named), values (with their values), repair, apply, deletes (whether rows that the source has no more are a difference), most_deleted (percent that a repair may remove), settle (seconds until the source''s counters are believed).';

CREATE OR REPLACE FUNCTION roneo.reported(reports jsonb, kind text, nr integer DEFAULT 0)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (
    SELECT r.report -> 'answer'
    FROM jsonb_array_elements(reports) WITH ORDINALITY AS r (report, place)
    WHERE r.report ->> 'kind' = reported.kind AND nullif(r.report -> 'answer', 'null') IS NOT NULL
    ORDER BY r.place
    OFFSET nr LIMIT 1
);
COMMENT ON FUNCTION roneo.reported(jsonb, text, integer) IS 'The answer of the first step of a kind that has one, or of a later one.';

CREATE OR REPLACE FUNCTION roneo.judge_sums(state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sums    jsonb := roneo.reported(reports, 'compare');
    buckets integer[] := roneo.differing_buckets(sums -> 'there', sums -> 'here');
BEGIN
    RETURN state || jsonb_build_object('rows_there', sums #> '{there,rows}', 'rows_here', sums #> '{here,rows}') || CASE
        WHEN buckets = '{}' THEN '{"phase": "done", "verdict": "equal"}'
        ELSE jsonb_build_object('phase', 'rows', 'bits', roneo.bucket_bits(buckets)) END;
END;
$$;
COMMENT ON FUNCTION roneo.judge_sums(jsonb, jsonb) IS 'Equal, or where to look.';

CREATE OR REPLACE FUNCTION roneo.refusal(state jsonb, found jsonb)
RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN NOT (state #>> '{options,repair}')::boolean THEN NULL
    WHEN (found ->> 'deletable')::boolean
         AND (found ->> 'extra')::numeric * 100 > (state ->> 'rows_here')::numeric * (state #>> '{options,most_deleted}')::numeric
        THEN format('a repair would remove %s of %s rows, more than %s percent', found ->> 'extra', state ->> 'rows_here', state #>> '{options,most_deleted}')
    WHEN (found ->> 'missing')::bigint + (found ->> 'changed')::bigint > roneo.most_repaired()
        THEN format('%s rows are more than a repair reads one by one; copy the table again', (found ->> 'missing')::bigint + (found ->> 'changed')::bigint)
END;
COMMENT ON FUNCTION roneo.refusal(jsonb, jsonb) IS 'Why a repair is not made; NULL where it may be.';

CREATE OR REPLACE FUNCTION roneo.judge_rows(subject jsonb, state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deletes boolean := roneo.repairs_deletes(subject, state -> 'options');
    found   jsonb := roneo.reported(reports, 'dest') || jsonb_build_object('deletable', deletes);
    refused text := roneo.refusal(state, found);
    wrong   bigint := (found ->> 'missing')::bigint + (found ->> 'changed')::bigint + CASE WHEN deletes THEN (found ->> 'extra')::bigint ELSE 0 END;
BEGIN
    IF wrong > 0 AND (subject ->> 'counted')::boolean AND (state #>> '{options,skipped}')::boolean AND NOT state ? 'settled' AND state #>> '{options,state}' IS NOT NULL THEN
        RETURN state || '{"phase": "settle"}';
    END IF;
    state := state - 'bits' || jsonb_build_object('missing', found -> 'missing', 'extra', found -> 'extra', 'changed', found -> 'changed',
        'shown', CASE WHEN (state #>> '{options,show}')::integer > 0 THEN coalesce(nullif(found -> 'shown', 'null'), '[]') ELSE '[]' END,
        'chunks', coalesce(roneo.reported(reports, 'dest', 1), '[]'),
        'verdict', CASE WHEN wrong > 0 THEN 'differs' ELSE 'equal' END,
        'refused', refused IS NOT NULL,
        'why', CASE WHEN refused IS NOT NULL THEN refused
                    WHEN NOT deletes AND (found ->> 'extra')::bigint > 0 THEN format('%s rows are gone from the source and kept here', found ->> 'extra') END);
    RETURN state || jsonb_build_object('phase', CASE
        WHEN wrong = 0 THEN 'done'
        WHEN roneo.has_key(subject) AND state -> 'shown' @> '[{"kind": "changed"}]' THEN 'columns'
        WHEN (state #>> '{options,apply}')::boolean AND refused IS NULL THEN 'repair'
        ELSE 'done' END);
END;
$$;
COMMENT ON FUNCTION roneo.judge_rows(jsonb, jsonb, jsonb) IS 'The verdict, by the differences that were found, and what is to follow.';

CREATE OR REPLACE FUNCTION roneo.judge_shown(state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN state || jsonb_build_object(
    'phase', CASE WHEN (state #>> '{options,apply}')::boolean AND NOT (state ->> 'refused')::boolean THEN 'repair' ELSE 'done' END,
    'shown', (SELECT jsonb_agg(s.one || coalesce(d.one - 'key', '{}') ORDER BY s.nr)
              FROM jsonb_array_elements(state -> 'shown') WITH ORDINALITY AS s (one, nr)
              LEFT JOIN jsonb_array_elements(roneo.reported(reports, 'dest')) AS d (one) ON d.one -> 'key' = s.one -> 'key' AND s.one ->> 'kind' = 'changed'));
COMMENT ON FUNCTION roneo.judge_shown(jsonb, jsonb) IS 'The differences, with the columns that differ.';

CREATE OR REPLACE FUNCTION roneo.report_count(reports jsonb, what text)
RETURNS bigint LANGUAGE sql IMMUTABLE
RETURN (SELECT coalesce(sum((r.report ->> 'rows')::bigint), 0) FROM jsonb_array_elements(reports) AS r (report)
        WHERE r.report ->> 'kind' = 'dest' AND r.report ->> 'counts' = what);
COMMENT ON FUNCTION roneo.report_count(jsonb, text) IS 'How many rows steps touched that count as something.';

CREATE OR REPLACE FUNCTION roneo.judge_repair(subject jsonb, state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wanted jsonb := jsonb_build_object('deleted', CASE WHEN roneo.repairs_deletes(subject, state -> 'options') THEN (state ->> 'extra')::bigint ELSE 0 END);
    done   jsonb := jsonb_build_object('deleted', roneo.report_count(reports, 'deleted'),
                                       'inserted', roneo.report_count(reports, 'inserted'), 'updated', roneo.report_count(reports, 'updated'));
BEGIN
    IF NOT done @> wanted OR NOT roneo.has_key(subject) AND done -> 'inserted' <> state -> 'missing' THEN
        RAISE EXCEPTION USING
            ERRCODE = 'RO014',
            MESSAGE = format('the repair of %s is not accepted: %s rows were to be removed and %s were', subject ->> 'target', wanted ->> 'deleted', done ->> 'deleted'),
            HINT    = 'Look for a trigger or a rule on the destination that prevents it.';
    END IF;
    RETURN state - 'chunks' || done || jsonb_build_object('phase', 'done', 'verdict', 'repaired', 'steps',
        (SELECT jsonb_agg(r.report - 'answer' ORDER BY r.nr) FROM jsonb_array_elements(reports) WITH ORDINALITY AS r (report, nr)));
END;
$$;
COMMENT ON FUNCTION roneo.judge_repair(jsonb, jsonb, jsonb) IS 'What a repair has done; raises RO014 where rows did not go.';

CREATE OR REPLACE FUNCTION roneo.verify_judge(answer jsonb, state jsonb, reports jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r       roneo.replica := roneo.replica_of(answer);
    subject jsonb := state -> 'subject';
    told    jsonb;
BEGIN
    PERFORM roneo.require_unmoved(r, jsonb_build_object('steps', reports));
    PERFORM roneo.require_complete(r, jsonb_build_object('planned', jsonb_array_length(reports), 'steps', reports));
    CASE state ->> 'phase'
        WHEN 'hands' THEN
            told := roneo.reported(reports, 'compare');
            -- Who repairs expects differences.
            RETURN state || jsonb_build_object('phase', CASE WHEN (state #>> '{options,repair}')::boolean THEN 'sums' ELSE 'total' END, 'weak', to_jsonb(roneo.weak_kinds(told -> 'there', told -> 'here')));
        WHEN 'total' THEN
            told := roneo.reported(reports, 'compare');
            RETURN state || CASE WHEN told -> 'there' = told -> 'here'
                THEN jsonb_build_object('phase', 'done', 'verdict', 'equal', 'rows_there', told #> '{there,rows}', 'rows_here', told #> '{here,rows}')
                ELSE '{"phase": "sums"}' END;
        WHEN 'sums' THEN
            RETURN roneo.judge_sums(state, reports);
        WHEN 'rows' THEN
            RETURN roneo.judge_rows(subject, state, reports);
        WHEN 'settle' THEN
            -- It has changed after all; what was found says nothing, and a copy is made first.
            RETURN state || CASE WHEN roneo.reported(reports, 'check') ->> 'state' IS DISTINCT FROM state #>> '{options,state}'
                                 THEN '{"phase": "done", "verdict": "undecided", "again": true, "why": "the source was changing"}'::jsonb
                                 ELSE '{"phase": "rows", "settled": true}' END;
        WHEN 'columns' THEN
            RETURN roneo.judge_shown(state, reports);
        WHEN 'repair' THEN
            RETURN roneo.judge_repair(subject, state, reports);
    END CASE;
END;
$$;
COMMENT ON FUNCTION roneo.verify_judge(jsonb, jsonb, jsonb) IS
    'The next state of a verification, from the reports of its steps as of finish_refresh. Raises RO013 where the source was rewritten meanwhile, RO014 where rows were lost on the way.';

CREATE OR REPLACE FUNCTION roneo.verify_options(dest regclass, options jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (options ->> 'show')::integer NOT BETWEEN 0 AND 10000 THEN
        PERFORM roneo.bad_argument(format('%s differences cannot be shown', options ->> 'show'), 'Give a number from 0 to 10000.');
    ELSIF (options ->> 'most_deleted')::numeric NOT BETWEEN 0 AND 100 THEN
        PERFORM roneo.bad_argument(format('most_deleted is %s percent', options ->> 'most_deleted'), 'Give a percentage from 0 to 100.');
    END IF;
    RETURN jsonb_strip_nulls(jsonb_build_object('deletes', (
        SELECT v.deletes FROM roneo.verification AS v JOIN roneo.replica AS r USING (replica_id) WHERE r.dest = verify_options.dest)))
        || jsonb_strip_nulls(options);
END;
$$;
COMMENT ON FUNCTION roneo.verify_options(regclass, jsonb) IS
    'Options of a verification, with what set_verification has said of the replica; raises RO007 for values that make no sense.';
