WITH recent AS (
    SELECT o.id, o.customer_id, o.total, o.placed_at,
           row_number() OVER (PARTITION BY o.customer_id ORDER BY o.placed_at DESC) AS place
    FROM shop.orders o
    WHERE o.placed_at BETWEEN '2026-01-01' AND '2026-06-30' AND o.status <> 'cancelled'
),
paid AS (
    SELECT p.order_id, sum(p.amount) AS amount, max(p.paid_at) AS last_paid
    FROM shop.payments p
    WHERE p.order_id IN (SELECT id FROM recent WHERE place <= 3)
    GROUP BY p.order_id
),
seen AS (
    SELECT v.customer_id, count(*) AS visits, count(DISTINCT v.path) AS pages
    FROM shop.visits v
    WHERE v.visited_at > '2026-01-01' AND v.path LIKE '/product/%'
    GROUP BY v.customer_id
)
SELECT c.country, c.name, r.id, r.total,
       COALESCE(p.amount, 0) AS paid,
       CASE WHEN p.amount IS NULL THEN 'open' WHEN p.amount < r.total THEN 'part' ELSE 'done' END AS state,
       round(100.0 * COALESCE(p.amount, 0) / NULLIF(r.total, 0), 1) AS share,
       s.visits, s.pages
FROM recent r
JOIN shop.customers c ON c.id = r.customer_id
LEFT JOIN paid p ON p.order_id = r.id
LEFT JOIN seen s ON s.customer_id = c.id
WHERE r.place <= 3 AND (s.visits > 2 OR p.amount IS NULL)
ORDER BY c.country, r.total DESC, r.id
LIMIT 100 OFFSET 200
