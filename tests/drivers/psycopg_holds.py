"""psycopg under a role that holds DELETE: everything below must hold, or this exits 1.

Who reviews goes by the words in the comments: approve, deny, slow (approved after
longer than every timeout of the session), same (approved for all values).
"""

import psycopg
from psycopg import pq

COUNT = "SELECT count(*) FROM support_tickets WHERE id = ANY(%s)"


def count(connection, *ids):
    return connection.execute(COUNT, (list(ids),)).fetchone()[0]


with psycopg.connect("", autocommit=True) as connection:
    notices = []
    connection.add_notice_handler(lambda notice: notices.append(notice.message_hint))

    # The extended protocol: values are bound, and the statement waits.
    cursor = connection.execute("/* approve */ DELETE FROM support_tickets WHERE id = %s", (101,))
    assert cursor.rowcount == 1 and count(connection, 101) == 0
    assert any("pgate approve ho_" in hint for hint in notices), notices

    try:
        connection.execute("/* deny */ DELETE FROM support_tickets WHERE id = %s", (102,))
        raise AssertionError("it was denied")
    except psycopg.errors.InsufficientPrivilege as error:
        assert "not before the backup" in error.diag.message_detail, error.diag.message_detail
    assert count(connection, 102) == 1

    # In a transaction, longer than the server lets one be idle, and longer than a
    # statement may take.
    with connection.transaction():
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = '1500ms'")
        connection.execute("UPDATE support_tickets SET state = 'closed' WHERE id = 103")
        connection.execute("/* slow */ DELETE FROM support_tickets WHERE id = %s", (104,))
        assert count(connection, 103, 104) == 1
    assert count(connection, 104) == 0

    # A denial is an error like any other: the transaction is gone, the connection isn't.
    try:
        with connection.transaction():
            connection.execute("DELETE FROM support_tickets WHERE id = %s /* approve */", (105,))
            connection.execute("DELETE FROM support_tickets WHERE id = %s /* deny */", (106,))
    except psycopg.errors.InsufficientPrivilege:
        pass
    assert count(connection, 105, 106) == 2

    # A pipeline: what goes before is not lost, what comes after waits.
    if psycopg.capabilities.has_pipeline():
        with connection.pipeline():
            before = connection.execute("SELECT %s::int", (1,))
            held = connection.execute("DELETE FROM support_tickets WHERE id = %s /* slow */", (107,))
            after = connection.execute("SELECT %s::int", (2,))
        assert before.fetchone() == (1,) and held.rowcount == 1 and after.fetchone() == (2,)
        try:
            with connection.pipeline():
                connection.execute("DELETE FROM support_tickets WHERE id = %s /* deny */", (108,))
                skipped = connection.execute("SELECT %s::int", (3,))
            raise AssertionError("it was denied")
        except psycopg.errors.InsufficientPrivilege:
            pass
        assert count(connection, 108) == 1

    # A statement that is prepared once waits at each run, unless all were approved.
    same = "DELETE FROM support_tickets WHERE id = %s /* same */"
    for number in (109, 110, 111):
        assert connection.execute(same, (number,), prepare=True).rowcount == 1
    assert len([hint for hint in notices if hint and "pgate approve" in hint]) == (
        8 if psycopg.capabilities.has_pipeline() else 6
    ), notices

    # Describing alone waits for nobody.
    prepared = connection.pgconn.prepare(b"described", b"DELETE FROM support_tickets WHERE id = $1")
    assert prepared.status == pq.ExecStatus.COMMAND_OK, prepared.error_message
    described = connection.pgconn.describe_prepared(b"described")
    assert described.nparams == 1, described.error_message

print("psycopg: all held statements went as their reviewer said")
