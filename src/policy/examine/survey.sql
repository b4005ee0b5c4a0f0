WITH own_schema AS (
    SELECT n.oid, n.nspname, n.nspacl, n.nspowner
    FROM pg_catalog.pg_namespace n
    WHERE n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema,pg_toast}'::pg_catalog.name[])
      AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_temp_')
      AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast_temp_')
),
own_relation AS (
    SELECT c.oid, c.relkind, c.relacl, c.relowner, c.reloptions, c.relam
    FROM pg_catalog.pg_class c
    JOIN own_schema n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,S}'::pg_catalog."char"[])
)
SELECT pg_catalog.json_build_object(
    'public_database', (
        SELECT COALESCE(pg_catalog.json_agg(a.privilege_type), '[]'::pg_catalog.json)
        FROM pg_catalog.pg_database d,
             pg_catalog.aclexplode(COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
        WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
          AND a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid),
    'schemas', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, (
            SELECT COALESCE(pg_catalog.json_agg(a.privilege_type), '[]'::pg_catalog.json)
            FROM pg_catalog.aclexplode(COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
            WHERE a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid))), '[]'::pg_catalog.json)
        FROM own_schema n),
    'relations', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            c.oid::pg_catalog.int8, o.rolname, o.rolsuper, (
                SELECT COALESCE(pg_catalog.json_agg(a.privilege_type), '[]'::pg_catalog.json)
                FROM pg_catalog.aclexplode(c.relacl) a
                WHERE a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid),
            EXISTS (
                SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) x
                WHERE x.option_name OPERATOR(pg_catalog.=) 'security_invoker'
                  AND pg_catalog.lower(x.option_value) OPERATOR(pg_catalog.=)
                      ANY ('{true,on,yes,1}'::pg_catalog.text[])),
            m.amname,
            EXISTS (
                SELECT FROM pg_catalog.pg_depend d
                WHERE d.classid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
                  AND d.objid OPERATOR(pg_catalog.=) c.oid
                  AND d.refclassid OPERATOR(pg_catalog.=) 3079::pg_catalog.oid
                  AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"))),
            '[]'::pg_catalog.json)
        FROM own_relation c
        JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) c.relowner
        LEFT JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam),
    'columns', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            t.attrelid::pg_catalog.int8, t.attnum, p.list)), '[]'::pg_catalog.json)
        FROM pg_catalog.pg_attribute t
        JOIN own_relation c ON c.oid OPERATOR(pg_catalog.=) t.attrelid
        CROSS JOIN LATERAL (
            SELECT pg_catalog.json_agg(a.privilege_type) AS list
            FROM pg_catalog.aclexplode(t.attacl) a
            WHERE a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid) p
        WHERE t.attacl IS NOT NULL AND NOT t.attisdropped AND p.list IS NOT NULL),
    'definers', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            n.nspname,
            pg_catalog.format('%I.%I(%s)', n.nspname, f.proname,
                pg_catalog.pg_get_function_identity_arguments(f.oid)),
            o.rolname, o.rolsuper,
            EXISTS (
                SELECT FROM pg_catalog.aclexplode(
                    COALESCE(f.proacl, pg_catalog.acldefault('f', f.proowner))) a
                WHERE a.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid))),
            '[]'::pg_catalog.json)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) f.pronamespace
        JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) f.proowner
        WHERE f.prosecdef AND f.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid),
    'roles', (
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(r.rolname, r.rolsuper))
        FROM pg_catalog.pg_roles r),
    'statistics_repaired',
        pg_catalog.strpos(pg_catalog.pg_get_viewdef('pg_catalog.pg_stats_ext'::pg_catalog.regclass),
            'pg_has_role(') OPERATOR(pg_catalog.>) 0
)::pg_catalog.text
