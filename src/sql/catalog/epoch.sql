-- A text that changes whenever an object that pgate's decisions rest on is
-- created, altered or dropped by a committed transaction: for each catalog its
-- number of rows and the sum of the transactions that wrote them (xmin). Transactions
-- are numbered upwards, so what replaces a row makes the sum greater where it leaves
-- the number. Temporary objects and what ANALYZE writes in place don't change it. The
-- long catalogs are counted by transaction first: a number is made of each once, not
-- for each row.
SELECT pg_catalog.concat_ws('.',
  (SELECT pg_catalog.concat(pg_catalog.sum(g.written), '/', pg_catalog.sum(
            g.written OPERATOR(pg_catalog.*) g.xmin::pg_catalog.text::pg_catalog.int8))
     FROM (
        SELECT c.xmin, pg_catalog.count(*) AS written
        FROM pg_catalog.pg_class c
        WHERE c.relkind OPERATOR(pg_catalog.<>) 't'::pg_catalog."char"
          AND c.relpersistence OPERATOR(pg_catalog.<>) 't'::pg_catalog."char"
        GROUP BY c.xmin
     ) g),
  (SELECT pg_catalog.concat(pg_catalog.sum(g.written), '/', pg_catalog.sum(
            g.written OPERATOR(pg_catalog.*) g.xmin::pg_catalog.text::pg_catalog.int8))
     FROM (
        SELECT a.xmin, pg_catalog.count(*) AS written
        FROM pg_catalog.pg_attribute a
        WHERE a.attnum OPERATOR(pg_catalog.>) 0
          AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_class c
            WHERE c.oid OPERATOR(pg_catalog.=) a.attrelid
              AND c.relpersistence OPERATOR(pg_catalog.=) 't'::pg_catalog."char")
        GROUP BY a.xmin
     ) g),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/',
            pg_catalog.sum(n.xmin::pg_catalog.text::pg_catalog.int8))
     FROM pg_catalog.pg_namespace n
    WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_(toast_)?temp_'),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/',
            pg_catalog.sum(p.xmin::pg_catalog.text::pg_catalog.int8))
     FROM pg_catalog.pg_proc p),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/',
            pg_catalog.sum(o.xmin::pg_catalog.text::pg_catalog.int8))
     FROM pg_catalog.pg_operator o),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/',
            pg_catalog.sum(r.xmin::pg_catalog.text::pg_catalog.int8))
     FROM pg_catalog.pg_rewrite r),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/',
            pg_catalog.sum(i.xmin::pg_catalog.text::pg_catalog.int8))
     FROM pg_catalog.pg_inherits i),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/',
            pg_catalog.sum(t.xmin::pg_catalog.text::pg_catalog.int8))
     FROM pg_catalog.pg_type t
    WHERE t.typtype OPERATOR(pg_catalog.=) ANY ('{d,e}'::pg_catalog."char"[])),
  -- What domains check leaves no trace in their types.
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/',
            pg_catalog.sum(k.xmin::pg_catalog.text::pg_catalog.int8))
     FROM pg_catalog.pg_constraint k
    WHERE k.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid))
