// What JDBC programs do, as a conversation of named steps: prints for each its name, a
// tabulator, and what came of it. Run directly and through pgate, the two are compared.
// Reads libpq's variables for where to connect; needs a database that it may fill.

import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.*;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;

public class Conversation {
    interface Step {
        Object run() throws Exception;
    }

    static String prefix = "";

    static void step(String name, Step step) {
        String told;
        try {
            told = String.valueOf(step.run());
        } catch (SQLException error) {
            told = error.getSQLState() + " " + error.getMessage();
            for (SQLException next = error.getNextException(); next != null; next = next.getNextException()) {
                told += " / " + next.getSQLState() + " " + next.getMessage();
            }
        } catch (Exception error) {
            told = error.toString();
        }
        System.out.println(prefix + name + "\t" + told.replace("\n", "\\n").replace("\t", "\\t"));
    }

    static Connection connect(String... more) throws SQLException {
        Map<String, String> env = System.getenv();
        Properties properties = new Properties();
        properties.setProperty("user", env.get("PGUSER"));
        properties.setProperty("password", env.getOrDefault("PGPASSWORD", ""));
        properties.setProperty("sslmode", "disable");
        for (int i = 0; i < more.length; i += 2) {
            properties.setProperty(more[i], more[i + 1]);
        }
        String at = "jdbc:postgresql://127.0.0.1:" + env.get("PGPORT") + "/" + env.get("PGDATABASE");
        return DriverManager.getConnection(at, properties);
    }

    static String text(Object value) throws SQLException {
        if (value instanceof java.sql.Array) {
            return Arrays.deepToString((Object[]) ((java.sql.Array) value).getArray());
        }
        if (value instanceof byte[]) {
            return Arrays.toString((byte[]) value);
        }
        return String.valueOf(value);
    }

    /** Without the number of an object, which is chance. */
    static String named(String rows) {
        return rows.replaceAll("(twice|fill)_\\d+", "$1");
    }

    /** Everything in a result, with what it says of its columns. */
    static String rows(ResultSet rows) throws SQLException {
        ResultSetMetaData about = rows.getMetaData();
        StringBuilder all = new StringBuilder();
        for (int i = 1; i <= about.getColumnCount(); i++) {
            all.append(about.getColumnLabel(i)).append(':').append(about.getColumnTypeName(i)).append(' ');
        }
        while (rows.next()) {
            all.append('|');
            for (int i = 1; i <= about.getColumnCount(); i++) {
                all.append(i == 1 ? "" : ",").append(text(rows.getObject(i)));
            }
        }
        rows.close();
        return all.toString();
    }

    static String query(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return rows(statement.executeQuery(sql));
        }
    }

    static int update(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeUpdate(sql);
        }
    }

    static final String TABLES = """
        DROP TABLE IF EXISTS lines, orders;
        DROP TYPE IF EXISTS mood;
        CREATE TYPE mood AS ENUM ('calm', 'cross');
        CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL,
            price numeric(10,2), at timestamptz, day date, tags text[], marks int[], body jsonb,
            raw bytea, key uuid, feels mood, yes boolean, big bigint, real4 real, real8 float8);
        CREATE TABLE lines (id int, order_id int REFERENCES orders, CHECK (id > 0));
        COMMENT ON TABLE orders IS 'what was ordered';
        CREATE INDEX orders_item ON orders (item);
        CREATE OR REPLACE FUNCTION twice(a int, OUT b int) LANGUAGE sql AS 'SELECT a * 2';
        CREATE OR REPLACE PROCEDURE fill(n int) LANGUAGE sql AS
            'INSERT INTO orders (item) SELECT ''filled '' || g FROM generate_series(1, n) g';
        """;

    public static void main(String[] arguments) throws Exception {
        // The driver's ways to run a statement, and its ways to carry values.
        String[][] ways = {
            {},
            {"preferQueryMode", "simple"},
            {"preferQueryMode", "extendedForPrepared"},
            {"preferQueryMode", "extendedCacheEverything"},
            {"prepareThreshold", "1"},
            {"prepareThreshold", "-1"},
            {"binaryTransfer", "false", "prepareThreshold", "2"},
            {"reWriteBatchedInserts", "true"},
            {"autosave", "always"},
            {"defaultRowFetchSize", "7"},
            {"assumeMinServerVersion", "9.0", "ApplicationName", "conversation"},
            {"readOnly", "true", "readOnlyMode", "always"},
        };
        for (String[] way : ways) {
            prefix = String.join("=", way) + "/";
            try (Connection connection = connect(way)) {
                converse(connection);
            } catch (SQLException error) {
                step("connecting", () -> { throw error; });
            }
        }
        prefix = "";
        metadata();
        cancelling();
        notifying();
        refusedParameters();
        step("to its end", () -> true);
        System.out.flush();
        // A thread of the driver's would hold the process.
        System.exit(0);
    }

    static void converse(Connection connection) throws SQLException {
        boolean writes = !connection.isReadOnly();
        if (writes) {
            step("tables", () -> update(connection, TABLES));
        }
        step("several results", () -> several(connection));
        step("warnings", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.execute("DO $$BEGIN RAISE NOTICE 'heard'; RAISE WARNING 'this too'; END$$");
                SQLWarning warning = statement.getWarnings();
                return warning + " " + (warning == null ? "" : warning.getNextWarning());
            }
        });
        step("insert", () -> insert(connection));
        step("batch", () -> batch(connection));
        step("generated keys", () -> {
            String sql = "INSERT INTO orders (item) VALUES (?)";
            try (PreparedStatement statement = connection.prepareStatement(sql, new String[] {"id", "item"})) {
                statement.setString(1, "keyed");
                return statement.executeUpdate() + rows(statement.getGeneratedKeys());
            }
        });
        step("prepared, often", () -> {
            StringBuilder all = new StringBuilder();
            String sql = "SELECT id, item, price, at, day, tags, marks, body::text, raw, key, feels, yes, big, real4, real8 FROM orders WHERE id = ? ORDER BY id";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                statement.unwrap(PGStatement.class).setPrepareThreshold(3);
                for (int i = 0; i < 8; i++) {
                    statement.setInt(1, i % 3 + 1);
                    all.append(rows(statement.executeQuery()));
                    all.append(statement.unwrap(PGStatement.class).isUseServerPrepare());
                }
                all.append(statement.getParameterMetaData().getParameterTypeName(1));
                all.append(statement.getMetaData().getColumnCount());
            }
            return all;
        });
        step("after the table changed", () -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT * FROM lines")) {
                for (int i = 0; i < 7; i++) {
                    rows(statement.executeQuery());
                }
                update(connection, "ALTER TABLE lines ADD COLUMN IF NOT EXISTS note text");
                return rows(statement.executeQuery());
            }
        });
        step("cursor", () -> {
            connection.setAutoCommit(false);
            int count = 0;
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(10);
                ResultSet rows = statement.executeQuery("SELECT g FROM generate_series(1, 95) g");
                while (rows.next()) {
                    count += rows.getInt(1);
                    if (count == 1) {
                        // Another statement between two parts of a cursor.
                        query(connection, "SELECT 1");
                    }
                }
            } finally {
                connection.rollback();
                connection.setAutoCommit(true);
            }
            return count;
        });
        step("rows at most", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.setMaxRows(3);
                return rows(statement.executeQuery("SELECT g FROM generate_series(1, 10) g"));
            }
        });
        step("back and forth", () -> {
            try (Statement statement = connection.createStatement(
                    ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
                ResultSet rows = statement.executeQuery("SELECT id, item FROM orders ORDER BY id");
                rows.last();
                rows.updateString("item", "updated in place");
                rows.updateRow();
                rows.moveToInsertRow();
                rows.updateString("item", "inserted in place");
                rows.insertRow();
                return rows.getRow();
            }
        });
        step("savepoints", () -> savepoints(connection));
        step("an error in a transaction", () -> {
            connection.setAutoCommit(false);
            StringBuilder all = new StringBuilder();
            String[] sqls = {"INSERT INTO orders (item) VALUES ('lost')", "SELECT 1/0", "SELECT 1"};
            try {
                for (String sql : sqls) {
                    try (Statement statement = connection.createStatement()) {
                        all.append(statement.execute(sql)).append(' ');
                    } catch (SQLException error) {
                        all.append(error.getSQLState()).append(' ');
                    }
                }
            } finally {
                connection.rollback();
                connection.setAutoCommit(true);
            }
            return all + query(connection, "SELECT count(*) FROM orders WHERE item = 'lost'");
        });
        step("constraints", () -> update(connection, "INSERT INTO lines (id) VALUES (-1)"));
        step("a foreign key", () -> update(connection, "INSERT INTO lines (id, order_id) VALUES (1, -1)"));
        step("no such table", () -> query(connection, "SELECT * FROM nowhere"));
        step("no such column", () -> query(connection, "SELECT nothing FROM orders"));
        step("not SQL", () -> query(connection, "SELECT FROM WHERE"));
        step("functions", () -> {
            try (CallableStatement call = connection.prepareCall("{? = call twice(?)}")) {
                call.registerOutParameter(1, Types.INTEGER);
                call.setInt(2, 21);
                call.execute();
                return call.getInt(1);
            }
        });
        step("procedures", () -> {
            try (CallableStatement call = connection.prepareCall("CALL fill(?)")) {
                call.setInt(1, 2);
                call.execute();
                return query(connection, "SELECT count(*) FROM orders WHERE item LIKE 'filled%'");
            }
        });
        step("escapes", () -> query(connection, "SELECT {fn concat('a', {fn ucase('b')})}, {d '2020-01-02'}, {ts '2020-01-02 03:04:05'}"));
        step("copy", () -> copy(connection));
        step("isolation", () -> {
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            String told = connection.getTransactionIsolation() + query(connection, "SHOW transaction_isolation");
            connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            return told;
        });
        step("read only", () -> {
            boolean before = connection.isReadOnly();
            connection.setAutoCommit(false);
            try {
                connection.setReadOnly(true);
                return update(connection, "INSERT INTO orders (item) VALUES ('no')");
            } finally {
                connection.rollback();
                connection.setReadOnly(before);
                connection.setAutoCommit(true);
            }
        });
        step("is valid", () -> connection.isValid(5));
        step("empty", () -> {
            try (Statement statement = connection.createStatement()) {
                return statement.execute("") + " " + statement.getUpdateCount();
            }
        });
        step("schema", () -> connection.getSchema() + connection.getCatalog());
        step("discard", () -> update(connection, "DEALLOCATE ALL"));
        step("after discarding", () -> query(connection, "SELECT 'alive'"));
    }

    static String several(Connection connection) throws SQLException {
        StringBuilder all = new StringBuilder();
        try (Statement statement = connection.createStatement()) {
            boolean result = statement.execute("SELECT 1 AS one; SELECT 2 AS two WHERE false; SET datestyle = ISO; SELECT 3");
            while (result || statement.getUpdateCount() != -1) {
                all.append(result ? rows(statement.getResultSet()) : String.valueOf(statement.getUpdateCount()));
                result = statement.getMoreResults();
            }
        }
        return all.toString();
    }

    static String insert(Connection connection) throws SQLException {
        String sql = "INSERT INTO orders (item, price, at, day, tags, marks, body, raw, key, feels, yes, big, real4, real8)"
            + " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?::mood, ?, ?, ?, ?)";
        int count = 0;
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int i = 0; i < 7; i++) {
                PGobject body = new PGobject();
                body.setType("jsonb");
                body.setValue("{\"n\": " + i + "}");
                statement.setString(1, "item " + i + " é 😀");
                statement.setBigDecimal(2, new BigDecimal("10.5").add(BigDecimal.valueOf(i)));
                statement.setObject(3, OffsetDateTime.of(2020, 1, 2, 3, 4, 5, i * 1000, ZoneOffset.UTC));
                statement.setObject(4, LocalDate.of(2020, 2, 29).plusDays(i));
                statement.setArray(5, connection.createArrayOf("text", new String[] {"a", null, "\"q\",{}"}));
                statement.setObject(6, new int[] {i, -i});
                statement.setObject(7, body);
                statement.setBytes(8, new byte[] {0, (byte) 0xff, (byte) i});
                statement.setObject(9, new UUID(1, i));
                statement.setString(10, i % 2 == 0 ? "calm" : "cross");
                statement.setBoolean(11, i % 2 == 0);
                statement.setLong(12, Long.MAX_VALUE - i);
                statement.setFloat(13, 1.5f * i);
                statement.setNull(14, Types.DOUBLE);
                count += statement.executeUpdate();
            }
        }
        return String.valueOf(count);
    }

    static String batch(Connection connection) throws SQLException {
        StringBuilder all = new StringBuilder();
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO lines (id, order_id) VALUES (?, 1)")) {
            for (int i = 1; i <= 300; i++) {
                statement.setInt(1, i);
                statement.addBatch();
            }
            all.append(Arrays.stream(statement.executeBatch()).distinct().boxed().toList());
            // One that fails in the middle.
            for (int i = 2; i >= -2; i--) {
                statement.setInt(1, i);
                statement.addBatch();
            }
            statement.executeBatch();
        } catch (BatchUpdateException error) {
            all.append(Arrays.toString(error.getUpdateCounts())).append(error.getSQLState());
        }
        try (Statement statement = connection.createStatement()) {
            statement.addBatch("UPDATE lines SET id = id + 1000");
            statement.addBatch("DELETE FROM lines WHERE id > 1290");
            all.append(Arrays.toString(statement.executeBatch()));
        }
        return all + query(connection, "SELECT count(*), min(id) FROM lines");
    }

    static String savepoints(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        try {
            update(connection, "INSERT INTO orders (item) VALUES ('kept')");
            Savepoint named = connection.setSavepoint("here \"quoted\"");
            update(connection, "INSERT INTO orders (item) VALUES ('undone')");
            connection.rollback(named);
            Savepoint unnamed = connection.setSavepoint();
            try {
                query(connection, "SELECT 1/0");
            } catch (SQLException error) {
                connection.rollback(unnamed);
            }
            connection.releaseSavepoint(unnamed);
            connection.commit();
        } finally {
            connection.setAutoCommit(true);
        }
        return query(connection, "SELECT item, count(*) FROM orders WHERE item IN ('kept', 'undone') GROUP BY 1");
    }

    static String copy(Connection connection) throws Exception {
        CopyManager copying = connection.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder all = new StringBuilder();
        all.append(copying.copyIn("COPY lines (id, note) FROM STDIN (FORMAT csv)", new StringReader("5000,\"a,\nb\"\n5001,\n")));
        try {
            copying.copyIn("COPY lines (id) FROM STDIN", new StringReader("5002\nnot a number\n"));
        } catch (SQLException error) {
            all.append(error.getSQLState());
        }
        CopyIn given = copying.copyIn("COPY lines (id) FROM STDIN");
        given.writeToCopy("6000\n".getBytes(), 0, 5);
        given.cancelCopy();
        StringWriter out = new StringWriter();
        all.append(copying.copyOut("COPY (SELECT id, note FROM lines WHERE id >= 5000 ORDER BY id) TO STDOUT (FORMAT csv, HEADER)", out));
        java.io.ByteArrayOutputStream binary = new java.io.ByteArrayOutputStream();
        all.append(copying.copyOut("COPY (SELECT g FROM generate_series(1, 1000) g) TO STDOUT (FORMAT binary)", binary));
        return all.append(out).append(binary.size()).toString();
    }

    static void metadata() throws SQLException {
        try (Connection connection = connect()) {
            DatabaseMetaData about = connection.getMetaData();
            step("product", () -> about.getDatabaseProductVersion() + about.getDriverVersion() + about.getMaxColumnNameLength());
            step("schemas", () -> rows(about.getSchemas()));
            step("tables", () -> rows(about.getTables(null, null, "%", new String[] {"TABLE", "VIEW"})));
            step("columns", () -> rows(about.getColumns(null, "public", "%", "%")));
            step("primary keys", () -> rows(about.getPrimaryKeys(null, "public", "orders")));
            step("imported keys", () -> rows(about.getImportedKeys(null, "public", "lines")));
            step("exported keys", () -> rows(about.getExportedKeys(null, "public", "orders")));
            step("indexes", () -> rows(about.getIndexInfo(null, "public", "orders", false, true)));
            step("functions", () -> named(rows(about.getFunctions(null, "public", "%"))));
            step("function columns", () -> named(rows(about.getFunctionColumns(null, "public", "%", "%"))));
            step("procedures", () -> named(rows(about.getProcedures(null, "public", "%"))));
            step("types", () -> rows(about.getUDTs(null, "public", "%", null)));
            step("type info", () -> rows(about.getTypeInfo()).length());
            step("best row", () -> rows(about.getBestRowIdentifier(null, "public", "orders", 0, true)));
            step("privileges", () -> rows(about.getTablePrivileges(null, "public", "orders")));
            step("column privileges", () -> rows(about.getColumnPrivileges(null, "public", "orders", "%")));
            step("keywords", () -> about.getSQLKeywords());
            step("client info", () -> {
                connection.setClientInfo("ApplicationName", "renamed");
                return query(connection, "SELECT current_setting('application_name') LIKE '%renamed'");
            });
            step("a result's own", () -> {
                try (Statement statement = connection.createStatement()) {
                    ResultSetMetaData of = statement.executeQuery("SELECT id, item, price FROM orders").getMetaData();
                    return of.isAutoIncrement(1) + " " + of.isNullable(2) + " " + of.getTableName(3) + of.getScale(3);
                }
            });
        }
    }

    static void cancelling() throws SQLException {
        try (Connection connection = connect(); Statement statement = connection.createStatement()) {
            ScheduledExecutorService later = Executors.newSingleThreadScheduledExecutor();
            step("cancel", () -> {
                later.schedule(() -> { statement.cancel(); return null; }, 500, TimeUnit.MILLISECONDS);
                return rows(statement.executeQuery("SELECT pg_sleep(30)"));
            });
            later.shutdown();
            step("after the cancel", () -> rows(statement.executeQuery("SELECT 'alive'")));
            step("timeout", () -> {
                try (Statement timed = connection.createStatement()) {
                    timed.setQueryTimeout(1);
                    return rows(timed.executeQuery("SELECT pg_sleep(20)"));
                }
            });
            step("after the timeout", () -> query(connection, "SELECT 'alive'"));
            step("abort", () -> {
                connection.abort(Runnable::run);
                return connection.isClosed();
            });
        }
    }

    static void notifying() throws SQLException {
        try (Connection hears = connect(); Connection says = connect()) {
            step("listen and notify", () -> {
                update(hears, "LISTEN news");
                update(says, "NOTIFY news, 'of note'");
                PGNotification[] heard = hears.unwrap(PGConnection.class).getNotifications(5000);
                int other = says.unwrap(PGConnection.class).getBackendPID();
                return heard.length + heard[0].getName() + heard[0].getParameter() + (heard[0].getPID() == other);
            });
            step("to oneself", () -> {
                update(hears, "NOTIFY news");
                return hears.unwrap(PGConnection.class).getNotifications(5000).length;
            });
            step("unlisten", () -> {
                update(hears, "UNLISTEN *");
                update(says, "NOTIFY news");
                PGNotification[] heard = hears.unwrap(PGConnection.class).getNotifications(300);
                return heard == null ? 0 : heard.length;
            });
        }
    }

    static void refusedParameters() {
        step("ssl", () -> connect("sslmode", "require"));
        step("a wrong password", () -> connect("password", "wrong"));
        step("start-up options", () -> query(connect("options", "-c statement_timeout=7s"), "SHOW statement_timeout"));
        step("gss", () -> query(connect("gssEncMode", "prefer"), "SELECT 1"));
    }
}
