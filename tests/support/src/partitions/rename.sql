-- The partitions' indexes are named as their parent's with the partition's number behind it, as Citus names those of its
-- shards: errors speak of them, and the services have to know them.
SELECT format('ALTER INDEX %s RENAME TO %I', child.oid::regclass, parent.relname || substring(held.relname FROM '_\d+$'))
FROM pg_inherits
JOIN pg_class AS child ON child.oid = inhrelid AND child.relkind = 'i'
JOIN pg_class AS parent ON parent.oid = inhparent
JOIN pg_index ON indexrelid = child.oid
JOIN pg_class AS held ON held.oid = indrelid
