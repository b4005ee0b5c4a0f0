-- The benchmark's tables, in the shop's database, and the ordinary role that the
-- ways without pgate log in as.

CREATE SCHEMA bench;

-- Small enough to stay in every cache: what is measured is the way there.
CREATE TABLE bench.hot (id int PRIMARY KEY, balance int NOT NULL, filler char(84) NOT NULL);
INSERT INTO bench.hot SELECT n, n * 7, md5(n::text) FROM generate_series(1, 5000) AS n;

-- About 100 MB on the wire, with one column of text for detectors to look into.
CREATE TABLE bench.big (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, c bigint NOT NULL,
                        note text NOT NULL);
INSERT INTO bench.big
SELECT n, n % 1000, n * 3, n::bigint * 7919, 'order ' || n || ' left at the back door of ' || md5(n::text)
FROM generate_series(1, 1000000) AS n;

CREATE UNLOGGED TABLE bench.sink (id int, a int, b int, c bigint, note text);

CREATE ROLE bench LOGIN PASSWORD 'only for this machine';
GRANT USAGE ON SCHEMA bench, shop TO bench;
GRANT SELECT ON ALL TABLES IN SCHEMA bench TO bench;
GRANT INSERT ON bench.sink TO bench;
GRANT SELECT ON shop.customers TO bench;

VACUUM ANALYZE bench.hot, bench.big, shop.customers;
