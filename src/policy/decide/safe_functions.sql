-- The names of PostgreSQL's own functions that are safe on the version that this runs
-- on. safe_functions.txt holds those of every supported version: a name is in it where
-- the rule passes it on one version, and refuses it on none that has a function of that
-- name. A test holds the file to the version at hand, `tests/versions` to each.
--
-- A name is on the list only if every built-in function of that name passes the
-- rule: a call by name may mean any of them. The rule:
--   1. it is no trigger, no internal (no argument or result of type internal,
--      cstring, trigger, event_trigger or a handler), and anybody may run it;
--   2. it is immutable or stable, or a volatile one reviewed below;
--   3. it isn't one of those that reach further than the statement: server files,
--      other sessions, SQL in strings, large objects, locks, statistics,
--      replication, the server's configuration.
-- What takes the name of a type as text (to_regtype, to_regtypemod) may run the type's own
-- reading of its modifier, which is C code that only a superuser can have brought in.
-- A name followed by "write" is for roles that may write.
WITH reviewed_volatile (name) AS (
    VALUES ('random'), ('setseed'), ('clock_timestamp'), ('timeofday'), ('gen_random_uuid'),
           ('pg_sleep'), ('pg_sleep_for'), ('pg_sleep_until'), ('statement_timestamp'),
           ('pg_is_in_recovery'), ('txid_current_if_assigned'), ('pg_current_xact_id_if_assigned'),
           ('pg_my_temp_schema'), ('pg_is_other_temp_schema'), ('pg_backend_pid'),
           ('pg_relation_size'), ('pg_table_size'), ('pg_indexes_size'), ('pg_total_relation_size'),
           ('pg_database_size'), ('pg_tablespace_size'), ('pg_get_serial_sequence'),
           ('has_any_column_privilege'),
           ('pg_collation_actual_version'),
           ('pg_database_collation_actual_version'), ('pg_postmaster_start_time'),
           ('pg_conf_load_time'), ('inet_client_addr'), ('inet_client_port'),
           ('inet_server_addr'), ('inet_server_port'), ('pg_tablespace_location'),
           ('pg_partition_tree'), ('pg_partition_ancestors'),
           ('random_normal'), ('array_sample'), ('array_shuffle'), ('uuidv4'), ('uuidv7'),
           -- Volatile in PostgreSQL 14 only, for what it does with the time of day.
           ('timezone'),
           -- No lock is ever taken through pgate; pools send it when they take a connection back.
           ('pg_advisory_unlock_all')
),
-- Names that the grammar gives to its own syntax: the methods of TABLESAMPLE, and the
-- constructors of SQL/JSON.
syntax (name) AS (
    VALUES ('bernoulli'), ('system'), ('json_array_agg'), ('json_scalar'), ('json_serialize')
),
for_writers (name) AS (
    VALUES ('nextval'), ('currval'), ('lastval'), ('txid_current'), ('pg_current_xact_id')
),
refused (pattern) AS (
    VALUES ('^pg_read_'), ('^pg_ls_'), ('^pg_stat_'), ('^pg_stat$'), ('^pg_logical'), ('^pg_replication'),
           ('^pg_wal'), ('^pg_last_wal'), ('^pg_current_wal'), ('^pg_export'), ('^lo_'), ('^loread$'), ('^lowrite$'),
           ('_to_xml'), ('^xmlvalidate'), ('^ts_stat$'), ('^ts_rewrite$'), ('^dblink'), ('(^|_)lock'), ('_xact_lock'), ('validator$'), ('^pg_notify'),
           ('^pg_terminate'), ('^pg_cancel'), ('^pg_reload'), ('^pg_rotate'), ('^pg_log_'),
           ('^currtid'), ('^pg_current_logfile'), ('^pg_config'), ('^pg_hba'), ('^pg_ident'),
           ('^pg_file'), ('^pg_show_all_file'), ('^pg_show_replication'), ('^pg_get_backend'),
           ('^pg_get_shmem'), ('^pg_get_replication'), ('^pg_get_wal'), ('^pg_prepared'), ('^pg_cursor'),
           ('^pg_safe_'), ('^pg_event_trigger'), ('^pg_extension_config'), ('^binary_upgrade'),
           ('^pg_nextoid'), ('^pg_mcv_list'), ('^pg_ndistinct'), ('^pg_dependencies'), ('^set_config$'),
           ('^setval$'), ('^pg_control'), ('^pg_import'), ('^pg_promote'), ('^pg_switch'),
           ('^pg_create'), ('^pg_drop'), ('^pg_copy'), ('^pg_backup'), ('^pg_stop'), ('^pg_start'),
           ('^brin_'), ('^gin_'), ('^pg_relation_file'), ('^pg_filenode'), ('^pg_get_publication'),
           ('^pg_listening'), ('^pg_notification'), ('^pg_isolation'), ('^current_query$'),
           ('^pg_tablespace_databases'), ('^pg_split_walfile'), ('^pg_get_multixact'), ('^mxid_age$'),
           ('^pg_available_'),
           -- It reads the folder of extensions, as those above do.
           ('^pg_extension_update'),
           -- The type that they read a value as, and so the code that runs, is in a string.
           ('^pg_input_'), ('largeobject'), ('^pg_subscription'),
           ('handler$'), ('^pg_xact_')
),
builtin AS (
    SELECT p.proname AS name,
           bool_and(
               p.prorettype <> ALL ('{internal,cstring,trigger,event_trigger,language_handler,fdw_handler,index_am_handler,tsm_handler,table_am_handler}'::regtype[])
               AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) t (oid)
                               WHERE t.oid = ANY ('{internal,cstring,pg_ddl_command}'::regtype[]))
               AND has_function_privilege('public', p.oid, 'EXECUTE')) AS plain,
           bool_and(p.provolatile <> 'v') AS quiet
    FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid < 16384
    GROUP BY p.proname
)
SELECT (name || CASE WHEN name IN (SELECT w.name FROM for_writers w) THEN ' write' ELSE '' END) COLLATE "C"
FROM builtin b
WHERE name IN (SELECT w.name FROM for_writers w)
   OR (b.plain
       AND (b.quiet OR name IN (SELECT v.name FROM reviewed_volatile v))
       AND NOT EXISTS (SELECT FROM refused r WHERE b.name ~ r.pattern))
UNION
SELECT name COLLATE "C" FROM syntax
ORDER BY 1;
