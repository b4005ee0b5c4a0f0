-- The relations of PostgreSQL's own catalog that every role may read, on the version
-- that this runs on. catalog_relations.txt holds those of every supported version: a
-- name is in it where the rule passes it on one version, and refuses it on none that has
-- it. A test holds the file to the version at hand, `tests/versions` to each. The rule:
--   1. it is a table or view of pg_catalog that PUBLIC may read whole;
--   2. it describes the database, its objects, roles and settings, and nothing else: no
--      values of rows (statistics, large objects), no secrets (passwords, user mappings,
--      subscriptions), nothing of the server's files and memory, and nothing of what
--      other sessions or this one do (activity, locks, cursors, prepared statements
--      and transactions, replication).
WITH refused (pattern) AS (
    VALUES ('^pg_stat_'), ('^pg_statio_'), ('^pg_stats'), ('^pg_statistic$'), ('^pg_statistic_ext_data$'),
           ('^pg_largeobject'), ('^pg_authid$'), ('^pg_shadow$'), ('^pg_user_mapping'), ('^pg_subscription'),
           ('^pg_file_'), ('^pg_hba_'), ('^pg_ident_'), ('^pg_config$'), ('^pg_backend_memory'), ('^pg_shmem'), ('^pg_aios$'),
           ('^pg_locks$'), ('^pg_cursors$'), ('^pg_prepared_'), ('^pg_replication_')
)
SELECT c.relname COLLATE "C"
FROM pg_class c
WHERE c.relnamespace = 'pg_catalog'::regnamespace
  AND c.relkind IN ('r', 'v')
  AND c.oid < 16384
  AND has_table_privilege('public', c.oid, 'SELECT')
  AND NOT EXISTS (SELECT FROM refused r WHERE c.relname ~ r.pattern)
ORDER BY 1;
