-- The columns of relations, and their types: of all, unless another query is put in the
-- place of the one in `described` (query.rs).
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
-- For the few types that are asked for: a table's row is a type too.
type_base AS NOT MATERIALIZED (
    SELECT t.oid, COALESCE(b.oid, t.oid) AS base
    FROM pg_catalog.pg_type t
    LEFT JOIN (
        domain_base d
        JOIN pg_catalog.pg_type b ON b.oid OPERATOR(pg_catalog.=) d.base
            AND b.typtype OPERATOR(pg_catalog.<>) 'd'::pg_catalog."char"
    ) ON d.oid OPERATOR(pg_catalog.=) t.oid
),
relation AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relhasrules,
           c.relpersistence OPERATOR(pg_catalog.=) 't'::pg_catalog."char" AS temporary,
           CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'v'::pg_catalog."char" THEN c.reloptions END AS reloptions
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f,S,c}'::pg_catalog."char"[])
),
described AS (
    SELECT r.oid FROM relation r
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
        WHERE d.objid OPERATOR(pg_catalog.=) ANY (SELECT k.oid FROM described k)
          AND d.classid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
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
        WHERE e.adrelid OPERATOR(pg_catalog.=) ANY (SELECT k.oid FROM described k)
          AND a.attgenerated OPERATOR(pg_catalog.<>) ''::pg_catalog."char"
          AND d.refobjsubid OPERATOR(pg_catalog.>) 0
          AND d.refobjsubid OPERATOR(pg_catalog.<>) e.adnum
    ) s
    GROUP BY s.relation, s.attribute
),
-- By what most columns of a database have in common: they are many.
columns AS (
    SELECT a.atttypid, a.atttypmod, a.attnotnull,
           pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attrelid, a.attnum), ' ') AS places,
           pg_catalog.json_agg(a.attname) AS names
    FROM described k
    -- OFFSET keeps the planner from reading all of pg_attribute for a few relations.
    CROSS JOIN LATERAL (
        SELECT c.attrelid, c.attnum, c.attname, c.atttypid, c.atttypmod, c.attnotnull
        FROM pg_catalog.pg_attribute c
        WHERE c.attrelid OPERATOR(pg_catalog.=) k.oid
          AND c.attnum OPERATOR(pg_catalog.>) 0 AND NOT c.attisdropped
        OFFSET 0
    ) a
    GROUP BY a.atttypid, a.atttypmod, a.attnotnull
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
    FROM (SELECT DISTINCT c.atttypid, c.atttypmod FROM columns c) u
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) u.atttypid
    LEFT JOIN pg_catalog.pg_type item ON item.typarray OPERATOR(pg_catalog.=) t.oid
    JOIN pg_catalog.pg_type e ON e.oid OPERATOR(pg_catalog.=) COALESCE(item.oid, t.oid)
    JOIN pg_catalog.pg_namespace tn ON tn.oid OPERATOR(pg_catalog.=) e.typnamespace
    JOIN type_base b ON b.oid OPERATOR(pg_catalog.=) t.oid
    JOIN pg_catalog.pg_type bt ON bt.oid OPERATOR(pg_catalog.=) b.base
    JOIN pg_catalog.pg_namespace bn ON bn.oid OPERATOR(pg_catalog.=) bt.typnamespace
),
columns_document AS (
    SELECT pg_catalog.json_build_object(
        'oids', (SELECT COALESCE(pg_catalog.string_agg(k.oid::pg_catalog.text, ' '), '') FROM described k),
        'columns', (
            SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
                c.atttypid::pg_catalog.int8, c.atttypmod, c.attnotnull, c.places, c.names)),
                '[]'::pg_catalog.json)
            FROM columns c),
        'generated', (
            SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
                g.relation::pg_catalog.int8, g.attribute, g.sources)), '[]'::pg_catalog.json)
            FROM generated g),
        'column_types', (
            SELECT COALESCE(pg_catalog.json_agg(pg_catalog.json_build_array(
                t.atttypid::pg_catalog.int8, t.atttypmod,
                pg_catalog.concat(t.element_text, CASE WHEN t.is_array THEN '[]' END),
                t.base_type)), '[]'::pg_catalog.json)
            FROM column_type t)
    ) AS document
)
