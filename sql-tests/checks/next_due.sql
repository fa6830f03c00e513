-- When the next replica falls due: what a follower sleeps until.
SET client_min_messages = warning;
SET TimeZone = 'UTC';
SELECT plan(16);

SELECT on_source($$ CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1) $$) \g /dev/null
SELECT roneo.create_source('src', :'source_conninfo'), roneo.create_source('other', :'source_conninfo') \g /dev/null
SELECT is(roneo.next_due(), NULL, 'without replicas nothing ever is');
SELECT roneo.create_plain('src', 't', 'unscheduled', copy_data => false) \g /dev/null
SELECT is(roneo.next_due(), NULL, 'nor what has no interval');

SELECT roneo.create_plain('src', 't', 'hourly', refresh_every => '1 hour', copy_data => false),
       roneo.create_plain('src', 't', 'daily', refresh_every => '1 day', copy_data => false),
       roneo.create_snapshot('other', 't', 'weekly', refresh_every => '7 days', copy_data => false) \g /dev/null
SELECT is(roneo.next_due(), NULL, 'what is due already is not among those that will be');
UPDATE roneo.replica SET created_at = now() - interval '10 minutes', last_success_at = now(), last_attempt_at = now();
CREATE TEMPORARY VIEW expected AS
SELECT dest_name, roneo.due_at(r) AS due_at FROM roneo.replica AS r;
SELECT is(roneo.next_due(), (SELECT due_at FROM expected WHERE dest_name = 'hourly'), 'the first of the others counts');
SELECT is(roneo.next_due('{other}'), (SELECT due_at FROM expected WHERE dest_name = 'weekly'), 'of some sources');
SELECT is(roneo.next_due(methods => '{snapshot}'), (SELECT due_at FROM expected WHERE dest_name = 'weekly'), 'of some methods');
SELECT is(roneo.next_due('{other}', '{plain}'), NULL, 'of both');
SELECT is(roneo.next_due(refresh_groups => '{none}'), NULL, 'of some refresh groups');
SELECT ok(roneo.next_due('{other}', jitter => '10 min') > due_at AND roneo.next_due('{other}', jitter => '10 min') < due_at + interval '10 min', 'with jitter it is a little later')
FROM expected WHERE dest_name = 'weekly';
SELECT is(roneo.next_due('{other}', jitter => '0'), due_at, 'with none it is not') FROM expected WHERE dest_name = 'weekly';
UPDATE roneo.replica SET enabled = false WHERE dest_name = 'hourly';
SELECT is(roneo.next_due(), (SELECT due_at FROM expected WHERE dest_name = 'daily'), 'one that is paused is passed over');
UPDATE roneo.replica SET last_success_at = NULL, failures = 5 WHERE dest_name = 'daily';
SELECT is(roneo.next_due(), (SELECT last_attempt_at + interval '16 minutes' FROM roneo.replica WHERE dest_name = 'daily'),
    'one that fails is due when it has been left alone long enough');

-- Whoever holds the lock asks again.
UPDATE roneo.replica SET last_success_at = NULL, failures = 0, enabled = true;
SELECT is(roneo.still_due(ARRAY(SELECT replica_id FROM roneo.replica WHERE dest_name = 'hourly')), true, 'one that nobody has refreshed is still due');
SELECT roneo.refresh('hourly') \g /dev/null
SELECT is(roneo.still_due(ARRAY(SELECT replica_id FROM roneo.replica WHERE dest_name = 'hourly')), false, 'and then it is not');
SELECT is(roneo.still_due(ARRAY(SELECT replica_id FROM roneo.replica WHERE dest_name IN ('hourly', 'daily'))), true, 'a group is as long as one of it is');
SELECT is(roneo.still_due('{}'), false, 'and of none, none is');
