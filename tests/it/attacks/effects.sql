-- What must stay as it is, part by part, and how it is put back. The administrator's own.
CREATE SCHEMA attack;
REVOKE ALL ON SCHEMA attack FROM PUBLIC;

CREATE FUNCTION attack.prints() RETURNS TABLE (part text, print text) LANGUAGE plpgsql AS $$
DECLARE found record;
BEGIN
    FOR found IN SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'm') AND n.nspname IN ('shop', 'backup') AND c.relpersistence <> 't'
    LOOP
        part := 'rows of ' || found.nspname || '.' || found.relname;
        EXECUTE format('SELECT count(*) || md5(coalesce(string_agg(t::text, ''|'' ORDER BY t::text), '''')) FROM ONLY %I.%I t',
                       found.nspname, found.relname) INTO print;
        RETURN NEXT;
    END LOOP;
    FOR found IN SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'S' AND n.nspname = 'shop'
    LOOP
        part := 'sequence ' || found.relname;
        EXECUTE format('SELECT last_value || '' '' || is_called FROM %I.%I', found.nspname, found.relname) INTO print;
        RETURN NEXT;
    END LOOP;
    RETURN QUERY
    SELECT 'relations', count(*) || md5(string_agg(concat(c.oid, c.relname, c.relnamespace, c.relowner, c.relacl, c.relkind,
                                                          c.reloptions, c.relrowsecurity, c.relchecks, c.relhasrules, c.relhastriggers), ',' ORDER BY c.oid))
        FROM pg_class c WHERE c.relpersistence <> 't' AND c.relkind <> 't' AND c.relnamespace <> ALL ('{pg_toast,attack}'::regnamespace[])
    UNION ALL SELECT 'temporary relations', count(*)::text FROM pg_class WHERE relpersistence = 't'
    UNION ALL SELECT 'columns', md5(string_agg(concat(a.attrelid, a.attnum, a.attname, a.atttypid, a.attacl, a.attnotnull, a.atthasdef, a.attstattarget), ',' ORDER BY a.attrelid, a.attnum))
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = ANY ('{shop,backup}'::regnamespace[]) AND NOT a.attisdropped
    UNION ALL SELECT 'functions', count(*) || md5(string_agg(concat(oid, proname, proacl, prosrc, proowner), ',' ORDER BY oid)) FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'types', count(*)::text FROM pg_type WHERE typnamespace <> ALL ('{pg_toast,attack}'::regnamespace[])
    UNION ALL SELECT 'schemas', string_agg(nspname || coalesce(nspacl::text, ''), ',' ORDER BY nspname) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
    UNION ALL SELECT 'rules, triggers, policies, operators, casts', concat_ws(',', (SELECT count(*) FROM pg_rewrite), (SELECT count(*) FROM pg_trigger),
        (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_operator), (SELECT count(*) FROM pg_cast), (SELECT count(*) FROM pg_event_trigger),
        (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_extension), (SELECT count(*) FROM pg_foreign_server), (SELECT count(*) FROM pg_language),
        (SELECT count(*) FROM pg_collation), (SELECT count(*) FROM pg_ts_config), (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_statistic_ext))
    UNION ALL SELECT 'comments and labels', (SELECT count(*)::text FROM pg_description) || (SELECT count(*) FROM pg_seclabel)
    UNION ALL SELECT 'large objects', (SELECT count(*) || md5(string_agg(data, '' ORDER BY loid, pageno)) FROM pg_largeobject)
    UNION ALL SELECT 'settings of databases', count(*)::text || md5(coalesce(string_agg(setconfig::text, ',' ORDER BY setdatabase, setrole), ''))
        FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL SELECT 'settings of the server', md5(string_agg(name || coalesce(setting, ''), ',')) FROM pg_file_settings
    UNION ALL SELECT 'roles that an attack made', count(*)::text FROM pg_roles WHERE rolname ~ '^attack'
    UNION ALL SELECT 'locks held for advice', count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL SELECT 'prepared transactions', count(*)::text FROM pg_prepared_xacts
    UNION ALL SELECT 'replication slots', count(*)::text FROM pg_replication_slots
    UNION ALL SELECT 'files', (pg_stat_file('pgate_attack', true) IS NOT NULL)::text || (pg_stat_file('/tmp/pgate_attack', true) IS NOT NULL)::text;
END $$;

-- The rows that a writer may change, as they were.
CREATE TABLE attack.orders AS TABLE shop.orders;
CREATE TABLE attack.tickets AS TABLE shop.tickets;
CREATE TABLE attack.customers AS TABLE shop.customers;

CREATE FUNCTION attack.restore() RETURNS void LANGUAGE plpgsql AS $$
DECLARE plain text;
BEGIN
    SET LOCAL session_replication_role = replica;
    DELETE FROM shop.orders; INSERT INTO shop.orders TABLE attack.orders;
    DELETE FROM shop.tickets; INSERT INTO shop.tickets TABLE attack.tickets;
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO plain FROM pg_attribute
        WHERE attrelid = 'shop.customers'::regclass AND attnum > 0 AND attgenerated = '' AND NOT attisdropped;
    DELETE FROM shop.customers;
    EXECUTE format('INSERT INTO shop.customers (%s) SELECT %1$s FROM attack.customers', plain);
    DELETE FROM shop.loud; DELETE FROM shop.late;
END $$;

-- What a writer has stored in columns that nobody masks.
CREATE FUNCTION attack.stored() RETURNS text LANGUAGE sql AS $$
    SELECT concat_ws('|', (SELECT string_agg(t::text, '|') FROM shop.orders t), (SELECT string_agg(t::text, '|') FROM shop.tickets t),
        (SELECT string_agg(concat_ws('|', name, country, created_at), '|') FROM shop.customers),
        (SELECT string_agg(t::text, '|') FROM shop.loud t), (SELECT string_agg(t::text, '|') FROM shop.late t))
$$;
