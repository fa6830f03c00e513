-- One transaction of a writer of sql-tests/stress/captures.
\set pause random(1, 400)
\set fate random(1, 20)
\set one random(1, 12)
\set two random(1, 12)
\set three random(1, 12)
\set number random(1, 1000000000)
BEGIN;
CALL app.change(:one);
\if :fate > 15
\sleep :pause ms
\endif
SAVEPOINT one;
CALL app.change(:two);
\if :fate % 3 = 0
ROLLBACK TO one;
\endif
CALL app.change(:three);
\if :fate = 4 and :one < 3
CALL app.truncate_one();
\endif
\if :fate > 17
\sleep :pause ms
\endif
\if :fate = 1
ROLLBACK;
\elif :fate = 2
PREPARE TRANSACTION 'stress_:number';
\sleep :pause ms
COMMIT PREPARED 'stress_:number';
\elif :fate = 3
PREPARE TRANSACTION 'stress_:number';
\sleep :pause ms
ROLLBACK PREPARED 'stress_:number';
\else
COMMIT;
\endif
