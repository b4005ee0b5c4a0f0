"""asyncpg under the role readonly: everything below must hold, or this exits 1."""

import asyncio
import datetime
import decimal

import asyncpg


async def main():
    connection = await asyncpg.connect()

    # Clean tables: asyncpg prepares everything and speaks the binary format.
    statement = "SELECT id, customer_id, status, total, lines, placed_at FROM orders WHERE id = $1"
    for _ in range(3):
        row = await connection.fetchrow(statement, 1)
        assert row["id"] == 1 and isinstance(row["total"], decimal.Decimal), row
        assert row["status"] in {"placed", "paid", "shipped", "returned", "cancelled"}, row
        assert isinstance(row["placed_at"], datetime.datetime), row
    assert await connection.fetchval("SELECT count(*) FROM orders WHERE id = ANY($1::bigint[])", [1, 2]) == 2

    # A transaction with a cursor.
    async with connection.transaction(readonly=True):
        seen = [row["id"] async for row in connection.cursor("SELECT id FROM orders ORDER BY id LIMIT 200")]
        assert seen == list(range(1, 201)), len(seen)

    # A kept statement's second run sends no row description: the mask must hold all the same.
    for _ in range(3):
        row = await connection.fetchrow("SELECT email, ssn, phones, last_ip FROM customers WHERE id = $1", 5)
        assert row["email"][1:5] == "***@", row
        assert row["ssn"].startswith("*"), row

    # Refusals, and the connection lives on.
    for statement in (
        "DELETE FROM orders WHERE id = $1",
        "SELECT secret FROM api_keys WHERE id = $1",
        "SELECT password_hash FROM customers WHERE id = $1",
    ):
        try:
            await connection.fetch(statement, 1)
        except asyncpg.InsufficientPrivilegeError as error:
            assert error.detail, statement
        else:
            raise AssertionError(f"not refused: {statement}")
    assert await connection.fetchval("SELECT count(*) FROM orders") == 20000

    await connection.close()

    # A pool resets its connections between users.
    async with asyncpg.create_pool(min_size=2, max_size=2) as pool:
        answers = await asyncio.gather(*(pool.fetchval("SELECT $1::int * 2", n) for n in range(20)))
        assert answers == [n * 2 for n in range(20)], answers

    print("asyncpg: all as it should be")


asyncio.run(main())
