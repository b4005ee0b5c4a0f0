SELECT c.country, o.status, count(*) AS orders, sum(o.total) AS total
FROM shop.orders o
JOIN shop.customers c ON c.id = o.customer_id
LEFT JOIN shop.payments p ON p.order_id = o.id AND p.amount > 10
WHERE o.placed_at >= '2026-01-01' AND o.status IN ('paid', 'shipped') AND c.country <> 'CH'
GROUP BY c.country, o.status
HAVING sum(o.total) > 100
ORDER BY total DESC
LIMIT 20
