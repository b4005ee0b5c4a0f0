SELECT id, status, total FROM shop.orders WHERE id = 4711
