WITH RECURSIVE domain_base (oid, base) AS (
    SELECT t.oid, t.typbasetype
    FROM pg_catalog.pg_type t
    WHERE t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog."char"
  UNION ALL
    SELECT d.oid, t.typbasetype
    FROM domain_base d
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) d.base
    WHERE t.typtype OPERATOR(pg_catalog.=) 'd'::pg_catalog."char"
),
type_base AS (
    SELECT t.oid, COALESCE(b.oid, t.oid) AS base
    FROM pg_catalog.pg_type t
    LEFT JOIN (
        domain_base d
        JOIN pg_catalog.pg_type b ON b.oid OPERATOR(pg_catalog.=) d.base
            AND b.typtype OPERATOR(pg_catalog.<>) 'd'::pg_catalog."char"
    ) ON d.oid OPERATOR(pg_catalog.=) t.oid
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
relation AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence,
           CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'v'::pg_catalog."char" THEN c.reloptions END AS reloptions
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,S,c}'::pg_catalog."char"[])
),
-- PostgreSQL 14 records a generated column's sources on the column, later versions on its expression.
generated AS (
    SELECT s.relation, s.attribute,
           pg_catalog.json_agg(s.source ORDER BY s.source) AS sources
    FROM (
        SELECT d.objid AS relation, d.objsubid::pg_catalog.int2 AS attribute, d.refobjsubid AS source
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) d.objid
            AND a.attnum OPERATOR(pg_catalog.=) d.objsubid
        WHERE d.classid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
          AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
          AND d.objid OPERATOR(pg_catalog.=) d.refobjid
          AND d.refobjsubid OPERATOR(pg_catalog.>) 0
          AND a.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog."char"
      UNION
        SELECT e.adrelid, e.adnum, d.refobjsubid
        FROM pg_catalog.pg_attrdef e
        JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) e.adrelid
            AND a.attnum OPERATOR(pg_catalog.=) e.adnum
        JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2604::pg_catalog.oid
            AND d.objid OPERATOR(pg_catalog.=) e.oid
            AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
            AND d.refobjid OPERATOR(pg_catalog.=) e.adrelid
        WHERE a.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog."char"
          AND d.refobjsubid OPERATOR(pg_catalog.>) 0
          AND d.refobjsubid OPERATOR(pg_catalog.<>) e.adnum
    ) s
    GROUP BY s.relation, s.attribute
),
columns AS (
    SELECT a.attrelid,
           pg_catalog.json_agg(pg_catalog.json_build_array(
               a.attnum, a.attname, a.atttypid::pg_catalog.int8, a.atttypmod, a.attnotnull,
               COALESCE(g.sources, '[]'::pg_catalog.json)) ORDER BY a.attnum) AS list
    FROM pg_catalog.pg_attribute a
    LEFT JOIN generated g ON g.relation OPERATOR(pg_catalog.=) a.attrelid
        AND g.attribute OPERATOR(pg_catalog.=) a.attnum
    WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
    GROUP BY a.attrelid
),
parents AS (
    SELECT i.inhrelid, pg_catalog.json_agg(i.inhparent::pg_catalog.int8 ORDER BY i.inhseqno) AS list
    FROM pg_catalog.pg_inherits i
    GROUP BY i.inhrelid
),
-- A whole-row reference leaves no trace among the dependencies once a column
-- is named as well, so it is looked for in the definition itself.
view_rule AS (
    SELECT r.oid, r.ev_class,
           CASE WHEN n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema}'::pg_catalog.name[])
                THEN r.ev_action::pg_catalog.text END AS action,
           n.nspname OPERATOR(pg_catalog.<>) ALL ('{pg_catalog,information_schema}'::pg_catalog.name[])
           AND pg_catalog.strpos(r.ev_action::pg_catalog.text, ':varattno 0 ') OPERATOR(pg_catalog.>) 0 AS whole_row
    FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.ev_class
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
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
),
-- The type's text must mean the same type under any search path: the names that are
-- PostgreSQL grammar are kept, everything else is qualified.
column_type AS (
    SELECT u.atttypid, u.atttypmod,
           CASE
             WHEN tn.nspname OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.name
                  AND (e.typname OPERATOR(pg_catalog.=) ANY ('{bool,float4,float8,int2,int4,int8,numeric,interval,time,timetz,timestamp,timestamptz,varbit,varchar}'::pg_catalog.name[])
                       OR (u.atttypmod OPERATOR(pg_catalog.<>) -1
                           AND e.typname OPERATOR(pg_catalog.=) ANY ('{bit,bpchar}'::pg_catalog.name[])))
             THEN pg_catalog.format_type(e.oid, u.atttypmod)
             ELSE pg_catalog.concat(pg_catalog.quote_ident(tn.nspname::pg_catalog.text), '.',
                  pg_catalog.quote_ident(e.typname::pg_catalog.text),
                  CASE WHEN u.atttypmod OPERATOR(pg_catalog.<>) -1 THEN
                      pg_catalog.substr(pg_catalog.format_type(e.oid, u.atttypmod),
                          pg_catalog.length(pg_catalog.format_type(e.oid, NULL)) OPERATOR(pg_catalog.+) 1)
                  END)
           END AS element_text,
           e.oid OPERATOR(pg_catalog.<>) t.oid AS is_array,
           pg_catalog.concat(
               CASE WHEN bn.nspname OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name
                    THEN pg_catalog.concat(bn.nspname, '.') END, bt.typname) AS base_type
    FROM (
        SELECT DISTINCT a.atttypid, a.atttypmod FROM pg_catalog.pg_attribute a
        WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
    ) u
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) u.atttypid
    LEFT JOIN pg_catalog.pg_type item ON item.typarray OPERATOR(pg_catalog.=) t.oid
    JOIN pg_catalog.pg_type e ON e.oid OPERATOR(pg_catalog.=) COALESCE(item.oid, t.oid)
    JOIN pg_catalog.pg_namespace tn ON tn.oid OPERATOR(pg_catalog.=) e.typnamespace
    JOIN type_base b ON b.oid OPERATOR(pg_catalog.=) t.oid
    JOIN pg_catalog.pg_type bt ON bt.oid OPERATOR(pg_catalog.=) b.base
    JOIN pg_catalog.pg_namespace bn ON bn.oid OPERATOR(pg_catalog.=) bt.typnamespace
)
SELECT pg_catalog.json_build_object(
    'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
    'database', pg_catalog.current_database(),
    'user', CURRENT_USER,
    'search_path', pg_catalog.to_json(pg_catalog.current_schemas(true)),
    'relations', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            r.oid::pg_catalog.int8, r.nspname, r.relname, r.relkind,
            r.relpersistence OPERATOR(pg_catalog.=) 't'::pg_catalog."char",
            COALESCE(p.list, '[]'::pg_catalog.json), COALESCE(c.list, '[]'::pg_catalog.json),
            COALESCE(v.list, '[]'::pg_catalog.json), w.action,
            EXISTS (SELECT FROM pg_catalog.pg_options_to_table(r.reloptions) o
                WHERE o.option_name OPERATOR(pg_catalog.=) 'security_invoker'
                  AND o.option_value::pg_catalog.bool),
            EXISTS (SELECT FROM pg_catalog.pg_rewrite u
                WHERE u.ev_class OPERATOR(pg_catalog.=) r.oid
                  AND u.ev_type OPERATOR(pg_catalog.<>) '1'::pg_catalog."char"))),
            '[]'::pg_catalog.json)
        FROM relation r
        LEFT JOIN view_rule w ON w.ev_class OPERATOR(pg_catalog.=) r.oid
        LEFT JOIN parents p ON p.inhrelid OPERATOR(pg_catalog.=) r.oid
        LEFT JOIN columns c ON c.attrelid OPERATOR(pg_catalog.=) r.oid
        LEFT JOIN view_reads v ON v.ev_class OPERATOR(pg_catalog.=) r.oid),
    'column_types', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            t.atttypid::pg_catalog.int8, t.atttypmod,
            pg_catalog.concat(t.element_text, CASE WHEN t.is_array THEN '[]' END),
            t.base_type)), '[]'::pg_catalog.json)
        FROM column_type t),
    'indexes', (
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
            n.nspname, c.relname, i.indrelid::pg_catalog.int8)), '[]'::pg_catalog.json)
        FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_toast'::pg_catalog.name),
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
        SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, t.typname,
            fn.nspname OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.name
            AND f.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid
            OR f.oid OPERATOR(pg_catalog.=) ANY (SELECT c.oid FROM compiled_extension c))),
            '[]'::pg_catalog.json)
        FROM pg_catalog.pg_type t
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) t.typnamespace
        LEFT JOIN pg_catalog.pg_class k ON k.oid OPERATOR(pg_catalog.=) t.typrelid
        LEFT JOIN pg_catalog.pg_type item ON item.typarray OPERATOR(pg_catalog.=) t.oid
        JOIN pg_catalog.pg_type e ON e.oid OPERATOR(pg_catalog.=) COALESCE(item.oid, t.oid)
        JOIN type_base b ON b.oid OPERATOR(pg_catalog.=) e.oid
        JOIN pg_catalog.pg_type bt ON bt.oid OPERATOR(pg_catalog.=) b.base
        JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) bt.typinput
        JOIN pg_catalog.pg_namespace fn ON fn.oid OPERATOR(pg_catalog.=) f.pronamespace
        WHERE k.oid IS NULL OR k.relkind OPERATOR(pg_catalog.=) 'c'::pg_catalog."char")
)::pg_catalog.text
