-- Every kind of relation, and in each column of text a token of its own that nothing
-- else holds, at the start of the value (masks show ends).
CREATE SCHEMA w;
CREATE SCHEMA other;
CREATE TABLE w.people (
    id int PRIMARY KEY,
    name text,
    email text,
    pin text,
    loud text GENERATED ALWAYS AS (upper(name)) STORED,
    hint text GENERATED ALWAYS AS (lower(email)) STORED
);
INSERT INTO w.people VALUES (1, 'kname of the first one', 'kmail@example.com', 'kpin 4711 4711'),
                            (2, 'kname of the second one', 'kmail2@example.com', 'kpin 4712 4712');
CREATE TABLE w.orders (id serial PRIMARY KEY, person int, memo text);
INSERT INTO w.orders (person, memo) VALUES (1, 'kmemo of a long order'), (2, 'kmemo of another order');
CREATE TABLE w.events (id int, at date, ip text) PARTITION BY RANGE (at);
CREATE TABLE w.events_a PARTITION OF w.events FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
CREATE TABLE w.events_b PARTITION OF w.events FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
INSERT INTO w.events VALUES (1, '2026-02-03', 'kearly 10.0.0.1 or so'), (2, '2026-08-09', 'klate 10.0.0.2 or so');
CREATE TABLE w.base (id int, note text);
CREATE TABLE w.child (extra text) INHERITS (w.base);
INSERT INTO w.base VALUES (1, 'knote of the parent');
INSERT INTO w.child VALUES (2, 'kchild of the parent', 'kextra of the child');
CREATE TABLE other.notes (id int PRIMARY KEY, body text);
INSERT INTO other.notes VALUES (1, 'kbody of the note');
CREATE VIEW w.people_view AS SELECT id, name, email AS mail FROM w.people;
CREATE VIEW w.joined AS SELECT p.id, p.name, o.memo FROM w.people p JOIN w.orders o ON o.person = p.id;
CREATE VIEW w.selective AS SELECT id, name FROM w.people WHERE email LIKE 'k%';
CREATE VIEW w.above AS SELECT id, mail, mail || '' AS made FROM w.people_view;
CREATE MATERIALIZED VIEW w.people_kept AS SELECT id, email, upper(pin) AS up FROM w.people;
CREATE MATERIALIZED VIEW w.events_kept AS SELECT id, ip FROM w.events;
CREATE TABLE w.other_base (id int, remark text);
CREATE TABLE w.mixed () INHERITS (w.base, w.other_base);
INSERT INTO w.other_base VALUES (1, 'kremark of the other parent');
INSERT INTO w.mixed VALUES (3, 'kmixed of both parents', 'kmix of both parents');
CREATE VIEW w.pair AS SELECT b.id, b.note, o.remark FROM w.base b JOIN w.other_base o USING (id);
CREATE VIEW w.renamed AS SELECT id, remark AS said FROM w.other_base;
CREATE FUNCTION w.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
CREATE FUNCTION w.mail_of(n int) RETURNS text LANGUAGE sql STABLE AS 'SELECT email FROM w.people WHERE id = n';
CREATE FUNCTION w.all_people() RETURNS SETOF w.people LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT * FROM w.people';
CREATE PROCEDURE w.tidy() LANGUAGE sql AS 'DELETE FROM w.orders';
REVOKE EXECUTE ON FUNCTION w.mail_of, w.all_people FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE w.tidy FROM PUBLIC;
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 150000 THEN
        CREATE VIEW w.invoked WITH (security_invoker) AS SELECT id, name, email FROM w.people;
        CREATE VIEW w.invoked_again WITH (security_invoker) AS SELECT id, email AS post FROM w.invoked;
        CREATE VIEW w.over_invoked AS SELECT id, name FROM w.invoked;
    END IF;
END $$;
