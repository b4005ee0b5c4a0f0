"""psycopg under the role readonly: everything below must hold, or this exits 1."""

import datetime
import decimal

import psycopg
from psycopg import pq

with psycopg.connect("", autocommit=True) as connection:
    # Clean tables: types, parameters, text and binary results.
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            cursor.execute(
                "SELECT id, customer_id, status::text, total, lines, placed_at FROM orders WHERE id = %s",
                (1,),
            )
            identity, customer, status, total, lines, placed_at = cursor.fetchone()
            assert identity == 1 and isinstance(customer, int), (identity, customer)
            assert status in {"placed", "paid", "shipped", "returned", "cancelled"}, status
            assert isinstance(total, decimal.Decimal) and total > 0, total
            assert lines[0]["sku"].startswith("SKU-"), lines
            assert isinstance(placed_at, datetime.datetime), placed_at

    # A prepared statement, used often enough for psycopg to keep it.
    for number in range(1, 12):
        row = connection.execute("SELECT id FROM orders WHERE id = %s", (number,), prepare=True)
        assert row.fetchone() == (number,)

    # A transaction, a server-side cursor, COPY, a pipeline.
    with connection.transaction():
        with connection.cursor(name="many") as cursor:
            cursor.execute("SELECT id FROM orders ORDER BY id LIMIT 500")
            cursor.itersize = 100
            assert [row[0] for row in cursor] == list(range(1, 501))
    with connection.cursor() as cursor:
        with cursor.copy("COPY (SELECT id, total FROM orders ORDER BY id LIMIT 100) TO STDOUT") as copy:
            assert len(list(copy.rows())) == 100
    if psycopg.capabilities.has_pipeline():
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int + 1", (n,)) for n in range(20)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(1, 21))

    # Masked tables: under their own names, in both formats.
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            cursor.execute("SELECT id, name, email, ssn, birth_date, phones FROM customers WHERE id = %s", (5,))
            identity, name, email, ssn, birth_date, phones = cursor.fetchone()
            assert identity == 5 and " " in name, (identity, name)
            assert email[1:5] == "***@", email
            assert ssn.startswith("*") and len(ssn) == 11, ssn
            assert (birth_date.month, birth_date.day) == (1, 1), birth_date
            assert not any("555" in phone for phone in phones or []), phones

    # Refusals: the error that every driver knows, and the connection lives on.
    refusals = [
        ("UPDATE orders SET total = 0 WHERE id = %s", (1,)),
        ("SELECT secret FROM api_keys WHERE id = %s", (1,)),
        ("SELECT id FROM customers WHERE email = %s", ("ava.rossi1@example.com",)),
        ("SELECT password_hash FROM customers WHERE id = %s", (1,)),
    ]
    for statement, parameters in refusals:
        for prepare in (False, True):
            try:
                connection.execute(statement, parameters, prepare=prepare)
            except psycopg.errors.InsufficientPrivilege as error:
                assert error.diag.message_detail, statement
            else:
                raise AssertionError(f"not refused: {statement}")
    assert connection.info.transaction_status == pq.TransactionStatus.IDLE
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (20000,)

print("psycopg: all as it should be")
