-- What cuts the tables of a migrated database into partitions by account: the statements, in order, made from the catalog, so
-- that they fit every schema. $1 is the tables that stay whole, $2 the number of partitions. The texts are made before the
-- first of them is run, under the tables' own names.
WITH cut AS (
    SELECT oid, relname AS name, relname || '_whole' AS whole, array_to_string(reloptions, ', ') AS options,
        relrowsecurity AS walled, relforcerowsecurity AS forced,
        CASE relname WHEN 'account' THEN 'id' ELSE 'account_id' END AS key
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> ALL ($1::text[])
), keys AS (
    -- Those of the tables, and those that lead to them from others.
    SELECT pg_constraint.oid, conrelid, conname, contype IN ('p', 'u') AS indexed FROM pg_constraint
    WHERE contype IN ('p', 'u') AND conrelid IN (SELECT oid FROM cut)
        OR contype = 'f' AND (conrelid IN (SELECT oid FROM cut) OR confrelid IN (SELECT oid FROM cut))
)
SELECT 1 AS step, name::text AS place, format('ALTER TABLE %I RENAME TO %I', name, whole) AS statement FROM cut
UNION ALL
SELECT 2, name, format('CREATE TABLE %I (LIKE %I INCLUDING ALL EXCLUDING INDEXES) PARTITION BY HASH (%I)', name, whole, key)
FROM cut
UNION ALL
SELECT 3, name, format('CREATE TABLE partitions.%I PARTITION OF %I FOR VALUES WITH (MODULUS %s, REMAINDER %s)%s',
    name || '_' || remainder, name, $2::integer, remainder, ' WITH (' || options || ')')
FROM cut, generate_series(0, $2::integer - 1) AS remainder
UNION ALL
SELECT 4, name, format('DROP TABLE %I CASCADE', whole) FROM cut
UNION ALL
-- In the order in which they were made: of two keys that a row violates the first one is told.
SELECT 5, lpad(keys.oid::text, 10, '0'), format('ALTER TABLE %I ADD CONSTRAINT %I %s', relname, conname, pg_get_constraintdef(keys.oid))
FROM keys JOIN pg_class ON pg_class.oid = conrelid WHERE indexed
UNION ALL
SELECT 6, indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index JOIN cut ON indrelid = cut.oid
WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))
UNION ALL
SELECT 7, conname, format('ALTER TABLE %I ADD CONSTRAINT %I %s', relname, conname, pg_get_constraintdef(keys.oid))
FROM keys JOIN pg_class ON pg_class.oid = conrelid WHERE NOT indexed
UNION ALL
SELECT 8, tgname, pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger JOIN cut ON tgrelid = cut.oid WHERE NOT tgisinternal
UNION ALL
SELECT 9, policyname, format('CREATE POLICY %I ON %I AS %s FOR %s TO %s%s%s', policyname, tablename, permissive, cmd,
    (SELECT string_agg(CASE role WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(role) END, ', ') FROM unnest(roles) AS role),
    ' USING (' || qual || ')', ' WITH CHECK (' || with_check || ')')
FROM pg_policies JOIN cut ON schemaname = 'public' AND tablename = name
UNION ALL
SELECT 10, name, format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name) FROM cut WHERE walled
UNION ALL
SELECT 11, name, format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name) FROM cut WHERE forced
ORDER BY step, place
