-- A text that changes whenever an object that pgate's decisions rest on is
-- created, altered or dropped by a committed transaction: for each catalog its
-- number of rows and the sum of hashes of row identity and version (xmin).
-- Temporary objects and what ANALYZE writes in place don't change it.
SELECT pg_catalog.concat_ws('.',
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(
            pg_catalog.hashtextextended(pg_catalog.concat(c.oid, ':', c.xmin), 0)))
     FROM pg_catalog.pg_class c
    WHERE c.relkind <> 't' AND c.relpersistence <> 't'),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(
            pg_catalog.hashtextextended(
              pg_catalog.concat(a.attrelid, ':', a.attnum, ':', a.xmin), 0)))
     FROM pg_catalog.pg_attribute a
     JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE a.attnum > 0 AND c.relkind <> 't' AND c.relpersistence <> 't'),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(
            pg_catalog.hashtextextended(pg_catalog.concat(n.oid, ':', n.xmin), 0)))
     FROM pg_catalog.pg_namespace n
    WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_(toast_)?temp_'),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(
            pg_catalog.hashtextextended(pg_catalog.concat(p.oid, ':', p.xmin), 0)))
     FROM pg_catalog.pg_proc p),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(
            pg_catalog.hashtextextended(pg_catalog.concat(o.oid, ':', o.xmin), 0)))
     FROM pg_catalog.pg_operator o),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(
            pg_catalog.hashtextextended(pg_catalog.concat(r.oid, ':', r.xmin), 0)))
     FROM pg_catalog.pg_rewrite r),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(
            pg_catalog.hashtextextended(
              pg_catalog.concat(i.inhrelid, ':', i.inhparent, ':', i.xmin), 0)))
     FROM pg_catalog.pg_inherits i),
  (SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(
            pg_catalog.hashtextextended(pg_catalog.concat(t.oid, ':', t.xmin), 0)))
     FROM pg_catalog.pg_type t
    WHERE t.typtype IN ('d', 'e')))
