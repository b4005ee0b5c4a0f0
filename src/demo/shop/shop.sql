-- The sample shop: made up, the same at every run, personal data in many types.
-- Runs in an empty database, as a superuser.

CREATE SCHEMA shop;
SET search_path = shop;

-- A repeatable number in [0, size) for row `n` and purpose `salt`; size is at most 65536.
CREATE FUNCTION pg_temp.pick(n bigint, salt int, size int) RETURNS int
    LANGUAGE sql IMMUTABLE AS
    $$ SELECT (((n * 7919 + salt * 104729) * 2654435761 % 4294967296) / 65536 % size)::int $$;

CREATE FUNCTION pg_temp.digits(n bigint, salt int, many int) RETURNS text
    LANGUAGE sql IMMUTABLE AS
    $$ SELECT lpad(((n * 48271 + salt * 16807) * 69621 % 2147483647)::text, many, '7') $$;

CREATE TYPE order_status AS ENUM ('placed', 'paid', 'shipped', 'returned', 'cancelled');

CREATE TABLE customers (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    public_id     uuid NOT NULL,
    name          text NOT NULL,
    email         varchar(120) NOT NULL,
    phones        text[] NOT NULL,
    ssn           varchar(11) NOT NULL,
    birth_date    date NOT NULL,
    income        numeric(12, 2),
    address       jsonb NOT NULL,
    last_ip       inet,
    password_hash text NOT NULL,
    country       char(2) NOT NULL,
    newsletter    boolean NOT NULL,
    tags          text[] NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL
);

INSERT INTO customers (public_id, name, email, phones, ssn, birth_date, income, address, last_ip,
                       password_hash, country, newsletter, tags, created_at)
SELECT md5('customer ' || n)::uuid,
       first || ' ' || last,
       lower(first || '.' || last) || n || '@' || mail,
       ARRAY['+1-555-' || lpad(pg_temp.pick(n, 1, 10000)::text, 4, '0')]
           || CASE WHEN n % 3 = 0
                   THEN ARRAY['+44-20-7946-' || lpad(pg_temp.pick(n, 2, 1000)::text, 4, '0')]
                   ELSE '{}' END,
       '9' || lpad(pg_temp.pick(n, 3, 100)::text, 2, '0') || '-'
           || lpad(pg_temp.pick(n, 4, 100)::text, 2, '0') || '-' || lpad((n % 10000)::text, 4, '0'),
       date '1940-01-01' + pg_temp.pick(n, 5, 24000),
       CASE WHEN n % 11 = 0 THEN NULL ELSE 18000 + pg_temp.pick(n, 6, 9500) * 9.75 END,
       jsonb_build_object('street', 1 + pg_temp.pick(n, 7, 240) || ' ' || street,
                          'city', city, 'zip', lpad(pg_temp.pick(n, 8, 65000)::text, 5, '0')),
       ('10.' || pg_temp.pick(n, 9, 256) || '.' || pg_temp.pick(n, 10, 256) || '.'
           || 1 + pg_temp.pick(n, 11, 254))::inet,
       '$2b$12$' || md5('password ' || n) || substr(md5('salt ' || n), 1, 21),
       country,
       n % 4 = 0,
       CASE WHEN n % 50 = 0 THEN ARRAY['vip'] WHEN n % 7 = 0 THEN ARRAY['returning', 'b2b']
            ELSE '{}' END,
       timestamptz '2023-01-01 00:00Z' + n * interval '97 minutes'
FROM generate_series(1, 12000) AS n,
     LATERAL (SELECT
         (ARRAY['Ava', 'Noah', 'Mia', 'Liam', 'Zoe', 'Omar', 'Ines', 'Kofi', 'Yuki', 'Elif',
                'Ravi', 'Lena', 'Hugo', 'Nina', 'Tariq', 'Sofia'])[1 + pg_temp.pick(n, 12, 16)],
         (ARRAY['Rossi', 'Okafor', 'Novak', 'Silva', 'Tanaka', 'Weber', 'Khan', 'Larsen', 'Moreau',
                'Garcia', 'Ivanov', 'Brown', 'Demir', 'Costa', 'Patel'])[1 + pg_temp.pick(n, 13, 15)],
         (ARRAY['example.com', 'example.net', 'mail.example.org'])[1 + pg_temp.pick(n, 14, 3)],
         (ARRAY['Hill Road', 'Station Street', 'Mill Lane', 'Park Avenue'])[1 + pg_temp.pick(n, 15, 4)],
         (ARRAY['Springfield', 'Riverton', 'Lakeside', 'Ashford'])[1 + pg_temp.pick(n, 16, 4)],
         (ARRAY['US', 'GB', 'DE', 'FR', 'IT', 'JP', 'BR', 'IN'])[1 + pg_temp.pick(n, 17, 8)]
     ) AS made (first, last, mail, street, city, country);

CREATE UNIQUE INDEX customers_email ON customers (email);
CREATE INDEX customers_country ON customers (country);

CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers (id),
    status      order_status NOT NULL,
    total       numeric(12, 2) NOT NULL CHECK (total >= 0),
    lines       jsonb NOT NULL,
    placed_at   timestamptz NOT NULL
);

INSERT INTO orders (customer_id, status, total, lines, placed_at)
SELECT 1 + pg_temp.pick(n, 20, 12000),
       (enum_range(NULL::order_status))[1 + pg_temp.pick(n, 21, 5)],
       5 + pg_temp.pick(n, 22, 60000) / 100.0,
       jsonb_build_array(jsonb_build_object(
           'sku', 'SKU-' || 1000 + pg_temp.pick(n, 23, 400), 'quantity', 1 + n % 3)),
       timestamptz '2025-01-01 00:00Z' + n * interval '31 minutes'
FROM generate_series(1, 20000) AS n;

CREATE INDEX orders_customer ON orders (customer_id);

CREATE TABLE payments (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id    bigint NOT NULL REFERENCES orders (id),
    amount      numeric(12, 2) NOT NULL,
    card_number varchar(19),
    iban        text,
    payer       jsonb NOT NULL,
    paid_at     timestamptz NOT NULL
);

INSERT INTO payments (order_id, amount, card_number, iban, payer, paid_at)
SELECT o.id, o.total,
       CASE WHEN o.id % 3 <> 0 THEN '4000' || pg_temp.digits(o.id, 24, 12) END,
       CASE WHEN o.id % 3 = 0 THEN 'DE' || 10 + pg_temp.pick(o.id, 25, 89) || '50010517'
                                   || pg_temp.digits(o.id, 26, 10) END,
       jsonb_build_object('name', c.name, 'email', c.email),
       o.placed_at + interval '2 minutes'
FROM orders o JOIN customers c ON c.id = o.customer_id
WHERE o.status IN ('paid', 'shipped', 'returned')
ORDER BY o.id;

CREATE INDEX payments_order ON payments (order_id);

CREATE TABLE support_tickets (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers (id),
    state       text NOT NULL CHECK (state IN ('open', 'waiting', 'closed')),
    subject     text NOT NULL,
    body        text NOT NULL,
    contact     jsonb NOT NULL,
    opened_at   timestamptz NOT NULL
);

INSERT INTO support_tickets (customer_id, state, subject, body, contact, opened_at)
SELECT c.id,
       (ARRAY['open', 'waiting', 'closed'])[1 + pg_temp.pick(c.id, 27, 3)],
       (ARRAY['Refund is stuck', 'Where is my order?', 'Wrong address',
              'Please delete my account'])[1 + pg_temp.pick(c.id, 28, 4)],
       'Hello, this is ' || c.name || '. You can reach me at ' || c.email || ' or '
           || c.phones[1] || '.',
       jsonb_build_object('email', c.email, 'phone', c.phones[1]),
       c.created_at + interval '90 days'
FROM customers c
WHERE c.id % 6 = 0
ORDER BY c.id;

CREATE TABLE api_keys (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    secret     text NOT NULL,
    created_at timestamptz NOT NULL
);

INSERT INTO api_keys (name, secret, created_at)
SELECT (ARRAY['warehouse', 'newsletter', 'payments', 'analytics'])[n],
       'sk_sample_' || md5('api key ' || n), timestamptz '2025-03-01 00:00Z' + n * interval '9 days'
FROM generate_series(1, 4) AS n;

-- One row for each page that somebody looked at, by quarter.
CREATE TABLE visits (
    customer_id bigint,
    path        text NOT NULL,
    ip          inet NOT NULL,
    visited_at  timestamptz NOT NULL
) PARTITION BY RANGE (visited_at);

CREATE TABLE visits_2026_q1 PARTITION OF visits
    FOR VALUES FROM ('2026-01-01 00:00Z') TO ('2026-04-01 00:00Z');
CREATE TABLE visits_2026_q2 PARTITION OF visits
    FOR VALUES FROM ('2026-04-01 00:00Z') TO ('2026-07-01 00:00Z');

INSERT INTO visits
SELECT 1 + pg_temp.pick(n, 30, 12000),
       '/product/' || pg_temp.pick(n, 31, 400),
       ('10.' || pg_temp.pick(n, 32, 256) || '.' || pg_temp.pick(n, 33, 256) || '.7')::inet,
       timestamptz '2026-01-01 00:00Z' + n * interval '25 minutes'
FROM generate_series(1, 10000) AS n;

CREATE VIEW open_tickets AS
    SELECT t.id, t.subject, t.opened_at, c.name, c.email, c.country
    FROM support_tickets t JOIN customers c ON c.id = t.customer_id
    WHERE t.state = 'open';

CREATE MATERIALIZED VIEW sales_by_country AS
    SELECT c.country, count(*) AS orders, sum(o.total) AS total
    FROM orders o JOIN customers c ON c.id = o.customer_id
    WHERE o.status <> 'cancelled'
    GROUP BY c.country;

-- Functions that a role may call only where its policy says so.
CREATE FUNCTION order_age(placed timestamptz) RETURNS interval
    LANGUAGE sql STABLE AS $$ SELECT date_trunc('day', now() - placed) $$;
CREATE FUNCTION forget_customer(customer bigint) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = shop AS
    $$ UPDATE customers SET name = 'forgotten', phones = '{}' WHERE id = customer $$;

ANALYZE customers, orders, payments, support_tickets, api_keys, visits, sales_by_country;
