-- All that an installed roneo is, fact by fact: psql -X -A -t -q -f fingerprint.sql
-- Two databases with the same facts are the same to whoever uses them. What may differ without
-- harm is left out: oids, and the numbers of columns (not their order) after one was dropped.
SET client_min_messages = warning;
SET search_path = pg_catalog;
SET timezone = 'UTC';

CREATE TEMPORARY TABLE member AS
SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS object
FROM pg_depend AS d
JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'roneo' AND d.deptype = 'e';

-- The members that are tables, views, sequences or (by their row) composite types.
CREATE TEMPORARY TABLE relation AS
SELECT m.object, c.*, c.oid AS relation_oid
FROM pg_temp.member AS m
JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
UNION ALL
SELECT m.object, c.*, c.oid
FROM pg_temp.member AS m
JOIN pg_type AS t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
JOIN pg_class AS c ON c.oid = t.typrelid AND c.relkind = 'c';

CREATE TEMPORARY TABLE fact (object text, aspect text, value text);

INSERT INTO fact
SELECT 'extension ' || extname, 'itself',
       format('version %s, schema %s, relocatable %s', extversion, extnamespace::regnamespace,
           extrelocatable)
FROM pg_extension
WHERE extname = 'roneo';

INSERT INTO fact SELECT object, 'is a member', '' FROM member;

INSERT INTO fact
SELECT 'extension roneo', 'dumps the rows of', format('%s %s', u.config::regclass, u.condition)
FROM pg_extension AS e, unnest(e.extconfig, e.extcondition) AS u(config, condition)
WHERE e.extname = 'roneo';

INSERT INTO fact
SELECT m.object, 'definition', pg_get_functiondef(m.objid)
FROM member AS m
JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
WHERE p.prokind IN ('f', 'p', 'w');

INSERT INTO fact
SELECT object, 'relation', format('kind %s, persistence %s, row security %s, options %s',
           relkind, relpersistence, relrowsecurity, reloptions)
FROM relation;

INSERT INTO fact
SELECT r.object, 'column ' || a.attname,
       format('%s. %s, not null %s, identity "%s", generated "%s", collation %s, default %s',
           row_number() OVER (PARTITION BY r.relation_oid ORDER BY a.attnum),
           format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
           a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid))
FROM relation AS r
JOIN pg_attribute AS a ON a.attrelid = r.relation_oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE r.relkind <> 'S';

INSERT INTO fact
SELECT r.object, 'constraint ' || c.conname,
       format('%s, validated %s', pg_get_constraintdef(c.oid), c.convalidated)
FROM relation AS r
JOIN pg_constraint AS c ON c.conrelid = r.relation_oid
-- PostgreSQL 18 lists NOT NULL here too, which the column says already.
WHERE c.contype <> 'n';

INSERT INTO fact
SELECT r.object, 'index ' || c.relname, pg_get_indexdef(i.indexrelid)
FROM relation AS r
JOIN pg_index AS i ON i.indrelid = r.relation_oid
JOIN pg_class AS c ON c.oid = i.indexrelid;

INSERT INTO fact
SELECT r.object, 'trigger ' || t.tgname, format('%s, %s', pg_get_triggerdef(t.oid), t.tgenabled)
FROM relation AS r
JOIN pg_trigger AS t ON t.tgrelid = r.relation_oid AND NOT t.tgisinternal;

INSERT INTO fact
SELECT r.object, 'rule ' || w.rulename, pg_get_ruledef(w.oid)
FROM relation AS r
JOIN pg_rewrite AS w ON w.ev_class = r.relation_oid;

INSERT INTO fact
SELECT r.object, 'policy ' || p.polname,
       format('%s %s', p.polcmd, pg_get_expr(p.polqual, p.polrelid))
FROM relation AS r
JOIN pg_policy AS p ON p.polrelid = r.relation_oid;

INSERT INTO fact
SELECT r.object, 'sequence', format('%s from %s by %s, %s to %s, cache %s, cycle %s, of %s',
           format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
           s.seqcache, s.seqcycle, pg_describe_object(o.refclassid, o.refobjid, o.refobjsubid))
FROM relation AS r
JOIN pg_sequence AS s ON s.seqrelid = r.relation_oid
LEFT JOIN pg_depend AS o
    ON o.classid = 'pg_class'::regclass AND o.objid = r.relation_oid AND o.deptype IN ('a', 'i');

INSERT INTO fact
SELECT m.object, 'type', format('%s, not null %s, default %s, labels %s', t.typtype, t.typnotnull,
           t.typdefault, (SELECT array_agg(l.enumlabel ORDER BY l.enumsortorder)
                          FROM pg_enum AS l WHERE l.enumtypid = t.oid))
FROM member AS m
JOIN pg_type AS t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid;

INSERT INTO fact
SELECT m.object, concat_ws(' ', 'comment', a.attname), c.description
FROM member AS m
JOIN pg_description AS c ON c.classoid = m.classid AND c.objoid = m.objid
LEFT JOIN pg_attribute AS a
    ON c.objsubid > 0 AND m.classid = 'pg_class'::regclass AND a.attrelid = m.objid
    AND a.attnum = c.objsubid;

-- An absent list means the default one; both are spelt out.
INSERT INTO fact
SELECT r.object, 'privilege', format('%s to %s, may grant %s', x.privilege_type,
           CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END, x.is_grantable)
FROM relation AS r,
     aclexplode(coalesce(r.relacl,
         acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))) AS x
WHERE r.relkind <> 'c'
UNION ALL
SELECT r.object, 'privilege on column ' || a.attname,
       format('%s to %s', x.privilege_type, x.grantee::regrole)
FROM relation AS r
JOIN pg_attribute AS a ON a.attrelid = r.relation_oid AND NOT a.attisdropped,
     aclexplode(a.attacl) AS x
UNION ALL
SELECT m.object, 'privilege', format('%s to %s, may grant %s', x.privilege_type,
           CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END, x.is_grantable)
FROM member AS m
JOIN pg_proc AS p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid,
     aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS x
UNION ALL
SELECT m.object, 'privilege', format('%s to %s, may grant %s', x.privilege_type,
           CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END, x.is_grantable)
FROM member AS m
JOIN pg_type AS t ON m.classid = 'pg_type'::regclass AND t.oid = m.objid,
     aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) AS x
-- Arrays have none of their own.
WHERE t.typtype <> 'b' AND t.typarray <> 0
UNION ALL
SELECT 'schema ' || n.nspname, 'privilege', format('%s to %s, may grant %s', x.privilege_type,
           CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END, x.is_grantable)
FROM pg_namespace AS n,
     aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS x
WHERE n.nspname = 'roneo';

-- What users built on ours, and what grant_refresh made for them.
INSERT INTO fact
SELECT pg_describe_object('pg_proc'::regclass, p.oid, 0), 'made later',
       format('%s, owner %s, privileges %s', pg_get_functiondef(p.oid), p.proowner::regrole,
           (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(p.proacl) AS x))
FROM pg_proc AS p
WHERE p.pronamespace = 'roneo'::regnamespace
  AND NOT EXISTS (SELECT FROM member AS m
                  WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid);

INSERT INTO fact
SELECT DISTINCT pg_describe_object('pg_class'::regclass, v.oid, 0), 'view of a user',
       pg_get_viewdef(v.oid)
FROM member AS m
JOIN pg_depend AS d
    ON d.refclassid = m.classid AND d.refobjid = m.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_rewrite AS w ON w.oid = d.objid
JOIN pg_class AS v ON v.oid = w.ev_class
WHERE NOT EXISTS (SELECT FROM member AS o
                  WHERE o.classid = 'pg_class'::regclass AND o.objid = v.oid);

-- Sequences, and rows: as objects of JSON, so that a column's place does not matter.
SELECT CASE c.relkind
           WHEN 'S' THEN format(
               'INSERT INTO pg_temp.fact SELECT %L, %L, format(%L, last_value, is_called) FROM %s',
               'sequence ' || c.oid::regclass, 'stands at', '%s, called %s', c.oid::regclass)
           ELSE format('INSERT INTO pg_temp.fact SELECT %L, %L, to_jsonb(t)::text FROM %s AS t',
               'table ' || c.oid::regclass, 'row', c.oid::regclass)
       END
FROM pg_extension AS e, unnest(e.extconfig) AS u(config)
JOIN pg_class AS c ON c.oid = u.config
WHERE e.extname = 'roneo' \gexec

SELECT format('%s | %s | %s', object, aspect, value) FROM fact
ORDER BY object COLLATE "C", aspect COLLATE "C", value COLLATE "C";
