-- What a database has beside its columns; goes on where columns.sql ends.
,
-- All types but the rows of tables and views, and arrays of such rows: they go by the
-- relations' names.
composite AS (
    SELECT c.reltype FROM pg_catalog.pg_class c
    WHERE c.relkind OPERATOR(pg_catalog.=) 'c'::pg_catalog."char"
),
own_type AS (
    SELECT t.oid, t.typname, t.typnamespace, COALESCE(item.oid, t.oid) AS element
    FROM pg_catalog.pg_type t
    LEFT JOIN pg_catalog.pg_type item ON item.typarray OPERATOR(pg_catalog.=) t.oid
    WHERE (t.typrelid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
           OR t.oid OPERATOR(pg_catalog.=) ANY (SELECT c.reltype FROM composite c))
      AND (item.oid IS NULL OR item.typrelid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
           OR item.oid OPERATOR(pg_catalog.=) ANY (SELECT c.reltype FROM composite c))
),
-- Extensions' compiled functions that run with their caller's rights: what an operator
-- or a type of an extension (citext, hstore, PostGIS) runs is as trusted as the
-- server that a superuser installed it into. Calls by name are another matter.
compiled_extension AS (
    SELECT f.oid
    FROM pg_catalog.pg_proc f
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) f.prolang
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid
        AND d.objid OPERATOR(pg_catalog.=) f.oid
        AND d.refclassid OPERATOR(pg_catalog.=) 3079::pg_catalog.oid
        AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
    WHERE l.lanname OPERATOR(pg_catalog.=) ANY ('{c,internal}'::pg_catalog.name[])
      AND NOT f.prosecdef
),
-- Domains whose CHECK runs the database's own code, and every type whose values hold
-- one of theirs, the rows of tables among them: reading such a value runs it.
coded (oid) AS (
    SELECT c.contypid
    FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2606::pg_catalog.oid
        AND d.objid OPERATOR(pg_catalog.=) c.oid
        AND d.refobjid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    LEFT JOIN pg_catalog.pg_operator o ON d.refclassid OPERATOR(pg_catalog.=) 2617::pg_catalog.oid
        AND o.oid OPERATOR(pg_catalog.=) d.refobjid
    WHERE c.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
      AND (d.refclassid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid OR o.oid IS NOT NULL)
      AND COALESCE(o.oprcode::pg_catalog.oid, d.refobjid)
          OPERATOR(pg_catalog.<>) ALL (SELECT e.oid FROM compiled_extension e)
  UNION
    SELECT t.oid
    FROM coded k
    CROSS JOIN LATERAL (
        SELECT b.oid FROM pg_catalog.pg_type b
        WHERE b.typbasetype OPERATOR(pg_catalog.=) k.oid
           OR b.oid OPERATOR(pg_catalog.=) (
               SELECT i.typarray FROM pg_catalog.pg_type i WHERE i.oid OPERATOR(pg_catalog.=) k.oid)
      UNION ALL
        SELECT c.reltype
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid
        WHERE a.atttypid OPERATOR(pg_catalog.=) k.oid AND a.attnum OPERATOR(pg_catalog.>) 0
          AND c.reltype OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
      UNION ALL
        SELECT r.rngtypid FROM pg_catalog.pg_range r
        WHERE r.rngsubtype OPERATOR(pg_catalog.=) k.oid
    ) t (oid)
),
-- A whole-row reference leaves no trace among the dependencies once a column
-- is named as well, so it is looked for in the definition itself.
view_rule AS (
    SELECT r.oid, r.ev_class, c.reloptions,
           CASE WHEN c.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema}'::pg_catalog.name[])
                THEN r.ev_action::pg_catalog.text END AS action,
           c.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema}'::pg_catalog.name[])
           AND pg_catalog.strpos(r.ev_action::pg_catalog.text, ':varattno 0 ') OPERATOR(pg_catalog.>) 0 AS whole_row
    FROM pg_catalog.pg_rewrite r
    JOIN relation c ON c.oid OPERATOR(pg_catalog.=) r.ev_class
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{v,m}'::pg_catalog."char"[])
      AND r.ev_type OPERATOR(pg_catalog.=) '1'::pg_catalog."char"
),
view_reads AS (
    SELECT s.ev_class,
           pg_catalog.json_agg(pg_catalog.json_build_array(s.relation, s.attribute)
               ORDER BY s.relation, s.attribute) AS list
    FROM (
        SELECT DISTINCT r.ev_class, d.refobjid::pg_catalog.int8 AS relation,
               CASE WHEN r.whole_row THEN 0 ELSE d.refobjsubid END AS attribute
        FROM view_rule r
        JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid
            AND d.objid OPERATOR(pg_catalog.=) r.oid
            AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
            AND d.refobjid OPERATOR(pg_catalog.<>) r.ev_class
    ) s
    GROUP BY s.ev_class
)
SELECT pg_catalog.json_build_object(
    'described', (SELECT d.document FROM columns_document d),
    'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
    'database', pg_catalog.current_database(),
    'user', CURRENT_USER,
    'search_path', pg_catalog.to_json(pg_catalog.current_schemas(true)),
    'relations', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            g.nspname, g.relkind, g.temporary, g.oids, g.names)), '[]'::pg_catalog.json)
        FROM (
            SELECT r.nspname, r.relkind, r.temporary,
                   pg_catalog.string_agg(r.oid::pg_catalog.text, ' ') AS oids,
                   pg_catalog.json_agg(r.relname) AS names
            FROM relation r
            GROUP BY r.nspname, r.relkind, r.temporary
        ) g),
    'parents', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            i.inhrelid::pg_catalog.int8, i.inhparent::pg_catalog.int8)
            ORDER BY i.inhrelid, i.inhseqno), '[]'::pg_catalog.json)
        FROM pg_catalog.pg_inherits i
        JOIN relation r ON r.oid OPERATOR(pg_catalog.=) i.inhrelid),
    -- The columns that say in which partition a row lies, those of expressions too.
    'partition_keys', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(k.relation, k.columns)),
            '[]'::pg_catalog.json)
        FROM (
            SELECT d.objid::pg_catalog.int8 AS relation,
                   pg_catalog.json_agg(DISTINCT d.objsubid) AS columns
            FROM pg_catalog.pg_partitioned_table p
            JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
                AND d.objid OPERATOR(pg_catalog.=) p.partrelid
                AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
                AND d.refobjid OPERATOR(pg_catalog.=) p.partrelid
                AND d.objsubid OPERATOR(pg_catalog.>) 0
                AND d.refobjsubid OPERATOR(pg_catalog.=) 0
            GROUP BY d.objid
        ) k),
    'views', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            w.ev_class::pg_catalog.int8, COALESCE(v.list, '[]'::pg_catalog.json), w.action,
            EXISTS (SELECT FROM pg_catalog.pg_options_to_table(w.reloptions) o
                WHERE o.option_name OPERATOR(pg_catalog.=) 'security_invoker'
                  AND o.option_value::pg_catalog.bool))), '[]'::pg_catalog.json)
        FROM view_rule w
        LEFT JOIN view_reads v ON v.ev_class OPERATOR(pg_catalog.=) w.ev_class),
    'write_rules', (
        SELECT COALESCE(pg_catalog.json_agg(DISTINCT u.ev_class::pg_catalog.int8), '[]'::pg_catalog.json)
        FROM pg_catalog.pg_rewrite u
        WHERE u.ev_type OPERATOR(pg_catalog.<>) '1'::pg_catalog."char"),
    'indexes', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            g.nspname, g.relations, g.names)), '[]'::pg_catalog.json)
        FROM (
            SELECT n.nspname, pg_catalog.string_agg(i.indrelid::pg_catalog.text, ' ') AS relations,
                   pg_catalog.json_agg(c.relname) AS names
            FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
            JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
            -- All but those of pg_toast, whose number is the same everywhere.
            WHERE c.relnamespace OPERATOR(pg_catalog.<>) 99::pg_catalog.oid
            GROUP BY n.nspname
        ) g),
    'functions', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            f.oid::pg_catalog.int8, n.nspname, f.proname, f.prosecdef, f.provolatile, x.extname,
            COALESCE(t.typtype OPERATOR(pg_catalog.=) ANY ('{c,p}'::pg_catalog."char"[]), false))),
            '[]'::pg_catalog.json)
        FROM pg_catalog.pg_proc f
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) f.pronamespace
        LEFT JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) f.proargtypes[0]
        LEFT JOIN (
            pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension x ON x.oid OPERATOR(pg_catalog.=) d.refobjid
        ) ON d.classid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid
            AND d.objid OPERATOR(pg_catalog.=) f.oid
            AND d.refclassid OPERATOR(pg_catalog.=) 3079::pg_catalog.oid
            AND d.deptype OPERATOR(pg_catalog.=) 'e'::pg_catalog."char"
        WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name
           OR f.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid),
    'builtin_functions', (
        SELECT pg_catalog.json_agg(DISTINCT f.proname)
        FROM pg_catalog.pg_proc f
        WHERE f.pronamespace OPERATOR(pg_catalog.=) 11::pg_catalog.oid
          AND f.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid),
    'operators', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, o.oprname)),
            '[]'::pg_catalog.json)
        FROM pg_catalog.pg_operator o
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) o.oprnamespace
        WHERE (o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
           OR n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name)
          AND o.oprcode::pg_catalog.oid OPERATOR(pg_catalog.<>)
              ALL (SELECT c.oid FROM compiled_extension c)),
    'types', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            g.nspname, g.own, g.names)), '[]'::pg_catalog.json)
        FROM (
            SELECT n.nspname,
                   (fn.nspname OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.name
                    AND f.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid
                    OR f.oid OPERATOR(pg_catalog.=) ANY (SELECT c.oid FROM compiled_extension c))
                   AND t.oid OPERATOR(pg_catalog.<>) ALL (SELECT k.oid FROM coded k) AS own,
                   pg_catalog.json_agg(t.typname) AS names
            FROM (
                SELECT * FROM own_type
              UNION
                SELECT r.oid, r.typname, r.typnamespace, r.oid
                FROM coded k JOIN pg_catalog.pg_type r ON r.oid OPERATOR(pg_catalog.=) k.oid
            ) t
            JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
            JOIN type_base b ON b.oid OPERATOR(pg_catalog.=) t.element
            JOIN pg_catalog.pg_type bt ON bt.oid OPERATOR(pg_catalog.=) b.base
            JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) bt.typinput
            JOIN pg_catalog.pg_namespace fn ON fn.oid OPERATOR(pg_catalog.=) f.pronamespace
            GROUP BY 1, 2
        ) g)
,
    -- By number, as a Parse names the types of its parameters.
    'coded_types', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            t.oid::pg_catalog.int8, n.nspname, t.typname)), '[]'::pg_catalog.json)
        FROM coded k
        JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.oid
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace),
    'encoding', pg_catalog.getdatabaseencoding()
)::pg_catalog.text
