"""What psycopg programs do, as a conversation of named steps: prints for each its name, a
tabulator, and what came of it. Run directly and through pgate, the two are compared. Reads
libpq's variables; needs a database that it may fill."""

import asyncio
import datetime
import decimal
import ipaddress
import uuid

import psycopg
from psycopg import pq, rows, sql
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo
from psycopg.types.json import Jsonb
from psycopg.types.multirange import Multirange
from psycopg.types.range import Range

TABLES = """
    DROP TABLE IF EXISTS lines, orders; DROP TYPE IF EXISTS mood, pair;
    CREATE TYPE mood AS ENUM ('calm', 'cross');
    CREATE TYPE pair AS (a int, b text);
    CREATE TABLE orders (id int PRIMARY KEY, item text NOT NULL, at timestamptz DEFAULT '2020-01-02 UTC');
    CREATE TABLE lines (id int REFERENCES orders DEFERRABLE INITIALLY DEFERRED, note text);
    INSERT INTO orders SELECT n, 'item ' || n FROM generate_series(1, 100) n;
"""

VALUES = [
    None, True, 7, -(2**31), 2**40, 2**80, 1.5, float("inf"), decimal.Decimal("123.4500"),
    decimal.Decimal("NaN"), "text é 😀 '\\\"", b"\x00\xff", datetime.date(2020, 2, 29),
    datetime.time(1, 2, 3, 4), datetime.datetime(2020, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc), datetime.timedelta(days=3, microseconds=1),
    uuid.UUID(int=1), ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8"), Jsonb({"a": [1, None]}),
    [1, 2, 3], ["a", None, '"'], [[1, 2], [3, 4]], Range(1, 5, "[]"), Range(empty=True),
    Multirange([Range(1, 2), Range(5, None)]), ("a", 1),
]

prefix = ""


def step(name, run):
    try:
        told = repr(run())
    except psycopg.Error as error:
        diag = error.diag
        told = " ".join(map(str, (type(error).__name__, diag.sqlstate, diag.severity, str(error), diag.message_detail,
                                  diag.constraint_name, diag.statement_position)))
    except Exception as error:
        told = repr(error)
    told = told.replace("\n", "\\n").replace("\t", "\\t")
    print(f"{prefix}{name}\t{told}", flush=True)


def plain(cursor):
    described = [(c.name, c.type_code, c.precision, c.scale, c.display_size) for c in cursor.description or []]
    return described, cursor.fetchall() if cursor.description else None, cursor.statusmessage, cursor.rowcount


def converse(connection, binary):
    def execute(*arguments, **more):
        with connection.cursor(binary=binary) as cursor:
            return plain(cursor.execute(*arguments, **more))

    step("tables", lambda: plain(connection.execute(TABLES)))
    for at, value in enumerate(VALUES):
        step(f"value {at}", lambda: execute("SELECT %s AS value", (value,)))
        step(f"value {at} kept", lambda: execute("SELECT %s::text", (str(value),), prepare=True))
    step("parameters", lambda: execute("SELECT id, item, at FROM orders WHERE id = ANY(%s) ORDER BY id", ([1, 5, 9],)))
    step("named", lambda: execute("SELECT %(a)s::int + %(b)s::int, %(a)s::text", {"a": 1, "b": 2}))
    step("no rows", lambda: execute("SELECT * FROM orders WHERE false"))
    step("no columns", lambda: execute("SELECT FROM orders WHERE id < 3"))
    for n in range(8):
        step(f"kept {n}", lambda: execute("SELECT item FROM orders WHERE id = %s", (n,), prepare=True))
    step("kept, and the table changed", lambda: (
        execute("SELECT * FROM lines", prepare=True), execute("ALTER TABLE lines ADD COLUMN more int"),
        execute("SELECT * FROM lines", prepare=True)))
    step("many", lambda: many(connection))
    step("many, returning", lambda: returning(connection, binary))
    step("several", lambda: several(connection))
    step("writes", lambda: execute("UPDATE orders SET item = item || '!' WHERE id < 4 RETURNING id, item"))
    step("merge", lambda: execute("MERGE INTO orders o USING (VALUES (1), (200)) v (id) ON o.id = v.id "
                                  "WHEN MATCHED THEN UPDATE SET item = 'met' WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'new')"))
    step("duplicate", lambda: execute("INSERT INTO orders VALUES (1, 'twice')"))
    step("null", lambda: execute("INSERT INTO orders (id) VALUES (500)"))
    step("division", lambda: execute("SELECT 1 / %s", (0,)))
    step("not SQL", lambda: execute("SELECT é FROM FROM x"))
    step("nowhere", lambda: execute("SELECT * FROM nowhere WHERE a = %s", (1,)))
    step("too many parameters", lambda: execute("SELECT %s::int" + ", %s::int" * 99, (1,) * 100))
    step("transaction", lambda: transaction(connection))
    step("nested", lambda: nested(connection))
    step("failed", lambda: failed(connection))
    step("deferred", lambda: deferred(connection))
    step("copy out", lambda: copied(connection, "COPY (SELECT id, item FROM orders ORDER BY id) TO STDOUT"))
    step("copy out, binary", lambda: copied(connection, "COPY (SELECT id FROM orders ORDER BY id) TO STDOUT (FORMAT binary)"))
    step("copy in", lambda: copy_in(connection))
    step("copy given up", lambda: copy_given_up(connection))
    step("copy not finished", lambda: unfinished(connection))
    step("cursor", lambda: served(connection, binary))
    step("scrolling", lambda: scrolled(connection))
    step("held", lambda: held(connection))
    step("streamed", lambda: list(connection.cursor(binary=binary).stream("SELECT g FROM generate_series(1, %s) g", (20,))))
    step("composed", lambda: plain(connection.execute(sql.SQL("SELECT {} FROM {} ORDER BY 1 LIMIT 2").format(
        sql.Identifier("id"), sql.Identifier("public", "orders")))))
    step("enum", lambda: EnumInfo.fetch(connection, "mood").labels)
    step("composite", lambda: composite(connection))
    step("pipeline", lambda: pipelined(connection))
    step("pipeline with an error", lambda: pipelined_error(connection))
    step("notices", lambda: noticed(connection))
    step("notify", lambda: notified(connection))
    step("cancel", lambda: cancelled(connection))
    step("after the cancel", lambda: execute("SELECT 'alive'"))
    step("rows", lambda: connection.cursor(row_factory=rows.dict_row).execute("SELECT 1 AS a, 2 AS b").fetchall())
    step("isolation", lambda: isolated(connection))
    step("info", lambda: (connection.info.encoding, connection.info.timezone, connection.info.server_version,
                          connection.info.parameter_status("DateStyle"), connection.info.transaction_status))
    step("own process", lambda: connection.execute("SELECT pg_backend_pid()").fetchone()[0] == connection.info.backend_pid)


def many(connection):
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO lines (id, note) VALUES (%s, %s)", [(n, str(n)) for n in range(1, 60)])
        return cursor.rowcount


def returning(connection, binary):
    with connection.cursor(binary=binary) as cursor:
        cursor.executemany("INSERT INTO lines (id) VALUES (%s) RETURNING id", [(n,) for n in range(1, 5)], returning=True)
        every = []
        while True:
            every += cursor.fetchall()
            if not cursor.nextset():
                return every


def several(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1; UPDATE orders SET id = id WHERE id < 3; SELECT 2, 3")
        every = [plain(cursor)]
        while cursor.nextset():
            every.append(plain(cursor))
        return every


def transaction(connection):
    with connection.transaction():
        connection.execute("INSERT INTO orders VALUES (300, 'in')")
    with connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO orders VALUES (301, 'out')")
    return connection.execute("SELECT id FROM orders WHERE id IN (300, 301)").fetchall()


def nested(connection):
    with connection.transaction():
        connection.execute("INSERT INTO orders VALUES (310, 'outer')")
        try:
            with connection.transaction("inner"):
                connection.execute("INSERT INTO orders VALUES (311, 'inner')")
                connection.execute("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero:
            connection.execute("INSERT INTO orders VALUES (312, 'after')")
    return connection.execute("SELECT id FROM orders WHERE id BETWEEN 310 AND 312 ORDER BY id").fetchall()


def failed(connection):
    told = []
    connection.execute("BEGIN")
    for statement in ("SELECT nothing", "SELECT 1", "ROLLBACK", "SELECT 2"):
        try:
            told.append(plain(connection.execute(statement))[1])
        except psycopg.Error as error:
            told.append(error.sqlstate)
        told.append(connection.info.transaction_status)
    return told


def deferred(connection):
    with connection.transaction():
        connection.execute("INSERT INTO lines (id) VALUES (999)")


def copied(connection, statement):
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return b"".join(bytes(part) for part in copy), cursor.rowcount


def copy_in(connection):
    with connection.cursor() as cursor:
        with cursor.copy("COPY lines (id, note) FROM STDIN") as copy:
            for n in range(1, 90):
                copy.write_row((n, None if n % 3 else "tab\there"))
        with cursor.copy("COPY lines (id, note) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((1, "binary"))
        return cursor.rowcount, connection.execute("SELECT count(*) FROM lines WHERE note LIKE 'tab%'").fetchone()


def copy_given_up(connection):
    with connection.cursor() as cursor, cursor.copy("COPY lines (id) FROM STDIN") as copy:
        copy.write("1\n")
        raise ValueError("given up")


def unfinished(connection):
    try:
        with connection.cursor() as cursor, cursor.copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT") as copy:
            first = bytes(copy.read())[:2]
            raise ValueError
    except ValueError:
        return first, connection.info.transaction_status


def served(connection, binary):
    with connection.transaction(), connection.cursor("served", binary=binary) as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id, item FROM orders WHERE id < %s ORDER BY id", (30,))
        return cursor.fetchone(), cursor.fetchmany(3), [row[0] for row in cursor], cursor.description[0].type_code


def scrolled(connection):
    with connection.transaction(), connection.cursor("there and back", scrollable=True) as cursor:
        cursor.execute("SELECT generate_series(1, 20)")
        first = cursor.fetchmany(5)
        cursor.scroll(-3)
        second = cursor.fetchone()
        cursor.scroll(18, mode="absolute")
        return first, second, cursor.fetchall()


def held(connection):
    with connection.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        return cursor.fetchall()


def composite(connection):
    info = CompositeInfo.fetch(connection, "pair")
    register_composite(info, connection)
    pair = info.python_type
    return connection.execute("SELECT %s::pair, (7, 'x')::pair", (pair(1, "é"),)).fetchone()


def pipelined(connection):
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int * 2", (n,), prepare=n % 2 == 0) for n in range(30)]
        pipeline.sync()
        connection.execute("UPDATE orders SET item = 'piped' WHERE id = 1")
        return [cursor.fetchone()[0] for cursor in cursors], connection.execute("SELECT item FROM orders WHERE id = 1").fetchone()


def pipelined_error(connection):
    told = []
    with connection.pipeline() as pipeline:
        for statement in ("SELECT 1", "SELECT nothing", "SELECT 2"):
            try:
                told.append(connection.execute(statement).fetchone())
            except psycopg.Error as error:
                told.append((type(error).__name__, error.sqlstate))
        try:
            pipeline.sync()
        except psycopg.Error as error:
            told.append(type(error).__name__)
        told.append(connection.execute("SELECT 3").fetchone())
    return told, connection.info.transaction_status


def noticed(connection):
    heard = []
    hear = lambda diag: heard.append((diag.severity, diag.sqlstate, diag.message_primary))
    connection.add_notice_handler(hear)
    connection.execute("DO $$BEGIN RAISE NOTICE 'heard'; RAISE WARNING USING message = 'and this', errcode = '01234'; END$$")
    connection.remove_notice_handler(hear)
    return heard


def notified(connection):
    connection.execute("LISTEN news")
    connection.execute("SELECT pg_notify('news', 'by function')")
    connection.execute("NOTIFY news, 'by statement'")
    heard = [(n.channel, n.payload) for n in connection.notifies(timeout=5, stop_after=2)]
    connection.execute("UNLISTEN *")
    return heard


def cancelled(connection):
    import threading
    threading.Timer(0.5, connection.cancel_safe).start()
    return plain(connection.execute("SELECT pg_sleep(30)"))


def isolated(connection):
    connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    connection.read_only = True
    try:
        with connection.transaction():
            told = connection.execute("SHOW transaction_isolation").fetchone()
            connection.execute("INSERT INTO orders VALUES (700, 'no')")
    except psycopg.Error as error:
        return told, error.sqlstate
    finally:
        connection.isolation_level = connection.read_only = None


async def concurrently():
    async def one(n):
        async with await psycopg.AsyncConnection.connect("", autocommit=True) as connection:
            cursor = await connection.execute("SELECT %s::int, count(*) FROM orders", (n,))
            return await cursor.fetchone()
    return await asyncio.gather(*(one(n) for n in range(8)))


def protocol():
    """What libpq itself offers, below the driver's cursors."""
    connection = pq.PGconn.connect(b"")
    told = []
    for result in (
        connection.exec_(b"SELECT 1; SELECT 2"),
        connection.exec_(b""),
        connection.prepare(b"p", b"SELECT $1::int + $2", [23, 23]),
        connection.describe_prepared(b"p"),
        connection.exec_prepared(b"p", [b"1", b"2"]),
        connection.exec_prepared(b"p", [b"1", None], result_format=1),
        connection.exec_params(b"SELECT $1", [b"\x00\x00\x00\x07"], [23], [1], 1),
        connection.exec_prepared(b"unknown", []),
        connection.exec_(b"BEGIN; DECLARE c CURSOR FOR SELECT 1 AS a"),
        connection.describe_portal(b"c"),
        connection.exec_(b"ROLLBACK"),
    ):
        values = [result.get_value(r, c) for r in range(result.ntuples) for c in range(result.nfields)]
        told.append((result.status, result.command_status, values, [result.fname(c) for c in range(result.nfields)],
                     result.nparams, result.error_field(pq.DiagnosticField.SQLSTATE)))
    return told, connection.transaction_status


for name, binary, options in (
    ("text ", False, {}),
    ("binary ", True, {}),
    ("prepared at once ", False, {"prepare_threshold": 0}),
    ("never prepared ", True, {"prepare_threshold": None}),
    ("client ", False, {"cursor_factory": psycopg.ClientCursor}),
):
    prefix = name
    with psycopg.connect("", autocommit=True, **options) as connection:
        converse(connection, binary)
prefix = ""
step("concurrently", lambda: asyncio.run(concurrently()))
step("protocol", protocol)
step("options", lambda: psycopg.connect(options="-c statement_timeout=7s").execute("SHOW statement_timeout").fetchone())
step("no such database", lambda: psycopg.connect(dbname="nowhere"))
step("encoding", lambda: psycopg.connect(client_encoding="latin1").info.encoding)
step("to its end", lambda: True)
