-- The world that is attacked. Every value that must not get out is a secret of its
-- own, declared here for the test that looks for it:
--   word:  letters; any five of them in a row count, in any simple encoding
--   digits: nine digits in a row count
--   text:  counts as a whole
--   value: a whole cell; its hashes count
-- secret word qvxkzwjpyf
-- secret word vjwqzkxhgm
-- secret word kxqzvpwjtd
-- secret word zqjvbxkw
-- secret word jxwvqzkb
-- secret word wzkqxjvg
-- secret text 1871-11-23
-- secret text 1868-10-29
-- secret text 739184627351
-- secret text 628461937453
-- secret digits 918273645918273
-- secret digits 827364519827364
-- secret text 203.113.77.199
-- secret text 198.151.83.211
-- secret uuid f3a9c1d7-e5b2-4806-9d1c-7ab3e5f09c24
-- secret uuid b8d2e6f4-c7a1-4935-8e0f-3cd9a1b7f582
-- secret word xzqwvkjphn
-- secret word pqzxjwvkfm
-- secret word bvqkxzwjrt
-- secret word gzxqjvkwpl
-- secret word wvzqxkjbtn
-- secret word qjzxvwkphd
-- secret word hqzwxvjkcr
-- secret word xjqvzkwmgb
-- secret text 13:47:53
-- secret text 21:38:59
-- secret word zvxqwjkprs
-- secret word jqxzwkvpnc
-- secret word kqvzjxwpld
-- secret word vzqkjwxpft
-- secret word wqxvjzkphc
-- secret word qxzvkjwpgr
-- secret word vqzxwkjpmn
-- secret word jzqxvkwpsd
-- secret word zxjqvwkptl
-- secret word kzvqxjwpcb
-- secret word qwzvxkjpfh
-- secret word sxzvqkjwpt
-- secret digits 542523343010
-- secret digits 370400440532
-- secret value aqvxkzwjpyf@example.com
-- secret value zqjvbxkw-94-0001
-- secret value bvjwqzkxhgm@example.org

CREATE SCHEMA shop;
CREATE SCHEMA backup;
SET search_path = shop;

CREATE TYPE mood AS ENUM ('sad', 'calm');
CREATE TYPE address AS (street text, zip text);

CREATE TABLE customers (
    id            int PRIMARY KEY,
    name          text NOT NULL,
    email         text NOT NULL UNIQUE,
    ssn           varchar(20) NOT NULL,
    birth_date    date NOT NULL,
    income        numeric(20,2),
    points        bigint,
    last_ip       inet,
    api_token     uuid,
    phones        text[],
    address       jsonb,
    profile       json,
    photo         bytea,
    notes         text,
    visited       timestamptz,
    page          xml,
    home          address,
    feeling       mood,
    nick          varchar(30) UNIQUE,
    words         tsvector,
    password_hash text NOT NULL DEFAULT '',
    country       char(2) NOT NULL,
    ssn_tag       text GENERATED ALWAYS AS ('S:' || ssn) STORED,
    created_at    timestamptz NOT NULL DEFAULT '2024-01-01 00:00Z',
    CHECK (length(notes) < 60)
);
INSERT INTO customers VALUES
 (1, 'Ava', 'aqvxkzwjpyf@example.com', 'zqjvbxkw-94-0001', '1871-11-23', 739184627351.46, 918273645918273,
  '203.113.77.199', 'f3a9c1d7-e5b2-4806-9d1c-7ab3e5f09c24', '{xzqwvkjphn,x}', '{"street": "pqzxjwvkfm", "n": 1}',
  '{"k": "bvqkxzwjrt"}', 'gzxqjvkwpl', '..wvzqxkjbtn..', '1871-05-17 13:47:53Z', '<p>qjzxvwkphd</p>',
  ROW('hqzwxvjkcr', 'z'), 'sad', 'xjqvzkwmgb', 'zvxqwjkprs'::tsvector, 'jqxzwkvpnc', 'DE'),
 (2, 'Bob', 'bvjwqzkxhgm@example.org', 'jxwvqzkb-77-0002', '1868-10-29', 628461937453.33, 827364519827364,
  '198.151.83.211', 'b8d2e6f4-c7a1-4935-8e0f-3cd9a1b7f582', '{kqvzjxwpld}', '{"street": "vzqkjwxpft"}',
  '{"k": "vzqkjwxpft"}', 'wqxvjzkphc', '..qxzvkjwpgr..', '1868-03-09 21:38:59Z', '<p>vqzxwkjpmn</p>',
  ROW('jzqxvkwpsd', 'z'), 'sad', 'zxjqvwkptl', 'kzvqxjwpcb'::tsvector, 'qwzvxkjpfh', 'FR'),
 (3, 'Cleo', 'ckxqzvpwjtd@example.com', 'wzkqxjvg-50-0003', '1990-01-01', NULL, NULL, NULL, NULL, '{}', '{}', '{}',
  '', 'none', '1990-01-01 00:00Z', '<p/>', ROW('', ''), 'calm', 'cleo', '', 'nohash', 'DE');

CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, total numeric NOT NULL CHECK (total >= 0), note text);
INSERT INTO orders SELECT n, 1 + n % 3, n * 1.5, 'order ' || n FROM generate_series(1, 20) n;
CREATE TABLE tickets (id int PRIMARY KEY, note text, data jsonb);
INSERT INTO tickets VALUES (1, 'open', '{}');
-- What nobody has classified.
CREATE TABLE letters (id int PRIMARY KEY, body text, data jsonb, parts text[]);
INSERT INTO letters VALUES
 (1, 'write to asxzvqkjwpt@example.net soon', '{"to": "asxzvqkjwpt@example.net", "deep": [{"card": "5425233430109903"}]}', '{asxzvqkjwpt@example.net}'),
 (2, 'card 5425 2334 3010 9903, or 5425-2334-3010-9903', '{"n": 5425233430109903}', '{5425233430109903,x}'),
 (3, 'IBAN DE89370400440532013000 and DE89 3704 0044 0532 0130 00', '{"iban": "DE89370400440532013000"}', '{DE89370400440532013000}');

CREATE TABLE api_keys (id int PRIMARY KEY, secret text);
INSERT INTO api_keys VALUES (1, 'wzkqxjvg'), (2, 'xzqwvkjphn');

CREATE TABLE visits (customer_id int, ip inet, token text, at date) PARTITION BY RANGE (at);
CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE visits_2 PARTITION OF visits DEFAULT;
INSERT INTO visits VALUES (1, '203.113.77.199', 'qvxkzwjpyf', '2025-03-01'), (2, '198.151.83.211', 'vjwqzkxhgm', '2027-01-01');

CREATE TABLE staff (id int, badge text);
CREATE TABLE managers (bonus text) INHERITS (staff);
INSERT INTO staff VALUES (1, 'xjqvzkwmgb');
INSERT INTO managers VALUES (2, 'zvxqwjkprs', 'jqxzwkvpnc');

CREATE TABLE "Odd ""Name""" (id int, "E-Mail" text);
INSERT INTO "Odd ""Name""" VALUES (1, 'hqzwxvjkcr');

CREATE TABLE backup.customers AS TABLE customers;
GRANT USAGE ON SCHEMA backup TO PUBLIC;
GRANT SELECT ON backup.customers TO PUBLIC;

-- Functions that read what the role must not see. Nobody revoked them from PUBLIC.
CREATE FUNCTION email_of(int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = shop AS
    'SELECT email FROM customers WHERE id = $1';
CREATE FUNCTION all_keys() RETURNS SETOF api_keys LANGUAGE sql STABLE SECURITY DEFINER SET search_path = shop AS
    'SELECT * FROM api_keys';
CREATE FUNCTION purge() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = shop AS
    'DELETE FROM orders; SELECT 1';
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE FUNCTION ssn(customers) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1.ssn::text';
CREATE FUNCTION tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS
    $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$;
CREATE FUNCTION lower(int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = shop AS
    'SELECT email FROM customers WHERE id = $1';
CREATE FUNCTION note_email() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = shop AS
    $$ BEGIN RAISE NOTICE 'customer is %', (SELECT email FROM customers WHERE id = 1);
       IF NEW.note = 'fail' THEN RAISE EXCEPTION 'no: %', (SELECT ssn FROM customers WHERE id = 1)
           USING DETAIL = (SELECT email FROM customers WHERE id = 2), HINT = (SELECT nick FROM customers WHERE id = 1); END IF;
       IF NEW.note = 'names' THEN RAISE EXCEPTION 'no such thing: %', (SELECT ssn FROM customers WHERE id = 1)
           USING ERRCODE = '42704', COLUMN = (SELECT email FROM customers WHERE id = 1), CONSTRAINT = (SELECT nick FROM customers WHERE id = 1),
           DATATYPE = (SELECT notes FROM customers WHERE id = 1), TABLE = (SELECT ssn FROM customers WHERE id = 2), SCHEMA = (SELECT nick FROM customers WHERE id = 2); END IF;
       IF NEW.note = 'query' THEN EXECUTE 'SELECT ' || (SELECT 'nosuch_' || nick FROM customers WHERE id = 1); END IF;
       IF NEW.note = 'cast' THEN NEW.id := (SELECT email FROM customers WHERE id = 1); END IF;
       RETURN NEW; END $$;
CREATE PROCEDURE shout() LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', (SELECT email FROM shop.customers WHERE id = 1); END $$;
CREATE AGGREGATE glue(text) (SFUNC = textcat, STYPE = text);
CREATE FUNCTION same_as(text, text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE NOTICE '% %', $1, $2; RETURN true; END $$;
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, PROCEDURE = same_as);

CREATE TABLE loud (id int, note text);
CREATE TRIGGER loud_note BEFORE INSERT OR UPDATE ON loud FOR EACH ROW EXECUTE FUNCTION note_email();
CREATE TABLE late (id int, note text);
CREATE FUNCTION late_email() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = shop AS
    $$ BEGIN RAISE EXCEPTION 'late %', (SELECT email FROM customers WHERE id = 1); END $$;
CREATE CONSTRAINT TRIGGER late_note AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late_email();

CREATE VIEW contacts AS SELECT id, name, email FROM customers;
CREATE VIEW tags AS SELECT id, upper(ssn) AS tag FROM customers;
CREATE VIEW of_contacts AS SELECT id, 'x' || email AS xe FROM contacts;
CREATE VIEW whole_rows AS SELECT id, row_to_json(c) AS r FROM customers c;
CREATE VIEW by_function AS SELECT id, email_of(id) AS contact FROM orders;
CREATE VIEW key_names AS SELECT id, secret AS label FROM api_keys;
CREATE VIEW key_count AS SELECT count(*) AS n FROM api_keys WHERE secret LIKE 'wz%';
CREATE VIEW keyed_orders AS SELECT o.id, o.note FROM orders o JOIN api_keys k ON k.id = o.id;
CREATE VIEW keyed_again AS SELECT id FROM keyed_orders;
CREATE VIEW louder AS SELECT o.id, l.note FROM orders o LEFT JOIN loud l ON l.id = o.id;
CREATE VIEW countries AS SELECT id, country FROM customers;
CREATE VIEW invoker WITH (security_invoker = true) AS SELECT id, email FROM customers;
CREATE MATERIALIZED VIEW contact_list AS SELECT id, email, ssn FROM customers;
CREATE MATERIALIZED VIEW totals AS SELECT customer_id, sum(total) AS total FROM orders GROUP BY customer_id;

-- Where a row lies tells a masked value.
CREATE TABLE illnesses (person int CHECK (person <> 0), kind text) PARTITION BY LIST (kind);
CREATE TABLE illnesses_plague PARTITION OF illnesses FOR VALUES IN ('plague') PARTITION BY LIST (person);
CREATE TABLE illnesses_plague_1 PARTITION OF illnesses_plague DEFAULT;
CREATE TABLE illnesses_ague PARTITION OF illnesses FOR VALUES IN ('ague') PARTITION BY LIST (person);
CREATE TABLE illnesses_ague_1 PARTITION OF illnesses_ague DEFAULT;
INSERT INTO illnesses VALUES (1, 'plague'), (2, 'ague');
CREATE VIEW of_plague AS SELECT person FROM illnesses_plague;
CREATE VIEW of_ague AS SELECT person FROM illnesses_ague;
CREATE VIEW ill AS SELECT person FROM illnesses;
CREATE VIEW illness_places AS SELECT person, tableoid AS place FROM illnesses;
CREATE TABLE scores (person int, score int) PARTITION BY LIST ((score / 100));
CREATE TABLE scores_high PARTITION OF scores FOR VALUES IN (9);
CREATE TABLE scores_low PARTITION OF scores DEFAULT;
INSERT INTO scores VALUES (1, 950), (2, 1);

-- Named as later versions name syntax of theirs.
CREATE FUNCTION shop.json_value(jsonb, text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = shop AS
    'SELECT email FROM customers WHERE id = 1';
CREATE FUNCTION shop.json_query(jsonb, text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT shop.json_value($1, $2)';
CREATE FUNCTION shop.json_exists(jsonb, text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT shop.json_value($1, $2)';
CREATE FUNCTION shop.json_scalar(int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT shop.json_value(NULL, NULL)';
CREATE FUNCTION shop.json_serialize(text) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT shop.json_value(NULL, NULL)';
CREATE FUNCTION shop.json_array(int, int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT shop.json_value(NULL, NULL)';
CREATE FUNCTION shop.json_arrayagg(int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT shop.json_value(NULL, NULL)';
CREATE FUNCTION shop.json_object(int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT shop.json_value(NULL, NULL)';
CREATE FUNCTION shop.merge_action() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT shop.json_value(NULL, NULL)';
CREATE VIEW by_query AS SELECT id, query_to_xml('SELECT email FROM shop.customers', true, false, '')::text AS found FROM orders;

CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = shop AS
    'SELECT $1 IS NULL OR EXISTS (SELECT FROM customers WHERE email = $1)';
CREATE DOMAIN known_email AS text CHECK (shop.known(VALUE));
CREATE TYPE known_pair AS (who known_email);
CREATE TYPE known_range AS RANGE (subtype = known_email);
CREATE TABLE answers (id int, who known_email);

-- Values that are rows, or hold some.
CREATE TYPE place AS (town text, code text);
CREATE TYPE person AS (name text, lives place);
CREATE DOMAIN checked_place AS place CHECK (true);
CREATE TABLE people (id int, lives place, lived place[], who person, checked checked_place);
INSERT INTO people VALUES (1, ROW('x', 'qjzxvwkphd'), ARRAY[ROW('x', 'qjzxvwkphd')::place],
  ROW('n', ROW('x', 'qjzxvwkphd')), ROW('x', 'qjzxvwkphd'));
CREATE TABLE customer_history (at date, was customers);
INSERT INTO customer_history SELECT '2025-01-01', c FROM customers c;
CREATE VIEW towns AS SELECT id, (lives).town, (lives).code FROM people;

CREATE SEQUENCE register;
SELECT setval('register', 424242);
SELECT lo_from_bytea(777001, 'kzvqxjwpcb');
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere;
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (user 'u', password 'zxjqvwkptl');
CREATE STATISTICS customer_pairs (mcv) ON email, ssn FROM customers;
ANALYZE;
