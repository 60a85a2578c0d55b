-- What there is to a schema, one line for each thing, in words that are the same whether a table is cut into partitions or not
-- (which is why conditions of triggers are told without the brackets that make no difference).
WITH held AS (
    SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
)
SELECT format('table %s: owner %s, acl %s, walled %s, forced %s, %s', relname, relowner::regrole, relacl, relrowsecurity,
    relforcerowsecurity, relpersistence) AS line
FROM held
UNION ALL
SELECT format('column %s.%s: %s, %s, not null %s, default %s, generated %s, identity %s, %s %s', relname, attname,
    row_number() OVER (PARTITION BY attrelid ORDER BY attnum),
    format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid), attgenerated, attidentity, attstorage,
    attcollation::regcollation)
FROM held JOIN pg_attribute ON attrelid = held.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped
UNION ALL
SELECT format('constraint %s.%s: %s, valid %s', relname, conname, pg_get_constraintdef(pg_constraint.oid), convalidated)
FROM held JOIN pg_constraint ON conrelid = held.oid AND conparentid = 0
UNION ALL
SELECT format('index on %s: %s, valid %s', relname, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON '), indisvalid)
FROM held JOIN pg_index ON indrelid = held.oid
UNION ALL
SELECT format('trigger: %s, enabled %s', pg_get_triggerdef(pg_trigger.oid, true), tgenabled)
FROM held JOIN pg_trigger ON tgrelid = held.oid WHERE NOT tgisinternal
UNION ALL
SELECT format('policy %s.%s: %s %s %s USING %s CHECK %s', tablename, policyname, permissive, roles, cmd, qual, with_check)
FROM pg_policies WHERE schemaname = 'public'
UNION ALL
SELECT format('function %s', pg_get_functiondef(oid)) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
-- Of a table that is cut, the settings are its partitions': each must have them.
SELECT DISTINCT format('settings of %s: %s', held.relname, coalesce(part.reloptions, held.reloptions))
FROM held LEFT JOIN pg_inherits ON inhparent = held.oid LEFT JOIN pg_class AS part ON part.oid = inhrelid
