// pgjdbc as an application uses it. Argument: a connection URL. Prints one line for each check that holds; the first
// that does not ends it with status 1 and says why. Nothing in it depends on whether a proxy is in between.

import java.io.StringReader;
import java.io.StringWriter;
import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.Executors;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

public class Behaviour {
    /** More than a pool before the server may open connections to it. */
    static final int CLIENTS = 12;
    static final int TURNS = 10;
    static String url;

    interface Work {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        URI uri = URI.create(arguments[0]);
        url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath() + "?user=" + uri.getUserInfo()
            + "&sslmode=disable&prepareThreshold=1";
        holds("preparedStatementsAreReused", Behaviour::preparedStatementsAreReused);
        holds("transactionsCommitAndRollBack", Behaviour::transactionsCommitAndRollBack);
        holds("errorsKeepTheConnection", Behaviour::errorsKeepTheConnection);
        holds("aSavepointForEachStatement", Behaviour::aSavepointForEachStatement);
        holds("batchesGiveTheirKeys", Behaviour::batchesGiveTheirKeys);
        holds("rowsAreFetchedInPortions", Behaviour::rowsAreFetchedInPortions);
        holds("rowsAreCopiedInAndOut", Behaviour::rowsAreCopiedInAndOut);
        holds("largeObjectsAreReadAndWritten", Behaviour::largeObjectsAreReadAndWritten);
        holds("aQueryIsCancelled", Behaviour::aQueryIsCancelled);
        holds("statementsMayBeForgotten", Behaviour::statementsMayBeForgotten);
        holds("tablesAreLookedAt", Behaviour::tablesAreLookedAt);
        holds("notificationsArrive", Behaviour::notificationsArrive);
        for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
            holds("eachClientSeesItsOwnTenant, " + mode, () -> eachClientSeesItsOwnTenant(mode));
        }
        System.out.println("ok");
    }

    static void holds(String name, Work check) {
        try {
            check.run();
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.err.println("FAILED: " + name);
            System.exit(1);
        }
        System.out.println("holds: " + name);
    }

    static Connection connect(String more) throws SQLException {
        return DriverManager.getConnection(url + more);
    }

    static void expect(Object found, Object wanted) {
        if (!wanted.equals(found)) {
            throw new AssertionError("found " + found + ", wanted " + wanted);
        }
    }

    static void fails(String code, Work work) throws Exception {
        try {
            work.run();
        } catch (SQLException error) {
            expect(error.getSQLState(), code);
            return;
        }
        throw new AssertionError("went well instead of failing with " + code);
    }

    static Object value(Connection connection, String text, Object... parameters) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            for (int index = 0; index < parameters.length; index++) {
                statement.setObject(index + 1, parameters[index]);
            }
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getObject(1);
            }
        }
    }

    static void execute(Connection connection, String text) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(text);
        }
    }

    static void preparedStatementsAreReused() throws Exception {
        try (Connection connection = connect("")) {
            connection.setAutoCommit(false);
            for (int number = 0; number < 20; number++) {
                expect(value(connection, "select ?::int * 2 /* reuse by pgjdbc */", number), number * 2);
            }
            String runs = "select sum(generic_plans + custom_plans) >= 20 and count(*) = 1 from held_statements"
                + " where statement like '%reuse by pgjdbc%' and statement not like '%held_statements%'";
            expect(value(connection, runs), true);
            connection.commit();
        }
    }

    static void transactionsCommitAndRollBack() throws Exception {
        try (Connection connection = connect("")) {
            execute(connection, "create table java_things (id int primary key)");
            connection.setAutoCommit(false);
            execute(connection, "insert into java_things values (1)");
            Savepoint here = connection.setSavepoint("here");
            fails("23505", () -> execute(connection, "insert into java_things values (1)"));
            fails("25P02", () -> execute(connection, "select 1"));
            connection.rollback(here);
            connection.commit();
            execute(connection, "insert into java_things values (2)");
            connection.rollback();
            expect(value(connection, "select count(*)::int from java_things"), 1);
            connection.commit();
            connection.setReadOnly(true);
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            fails("25006", () -> execute(connection, "insert into java_things values (3)"));
            connection.rollback();
            expect(value(connection, "show transaction isolation level"), "serializable");
            connection.commit();
        }
    }

    static void errorsKeepTheConnection() throws Exception {
        try (Connection connection = connect("")) {
            for (int round = 0; round < 2; round++) {
                fails("42601", () -> value(connection, "selekt ?", 1));
                fails("42P01", () -> value(connection, "select * from nowhere where id = ?", 1));
                fails("22012", () -> value(connection, "select 1 / ?::int", 0));
                fails("23505", () -> execute(connection, "insert into java_things values (1)"));
                expect(value(connection, "select ?::int", 1), 1);
            }
        }
    }

    static void aSavepointForEachStatement() throws Exception {
        try (Connection connection = connect("&autosave=always")) {
            connection.setAutoCommit(false);
            execute(connection, "insert into java_things values (10)");
            fails("23505", () -> execute(connection, "insert into java_things values (10)"));
            execute(connection, "insert into java_things values (11)");
            connection.commit();
            expect(value(connection, "select count(*)::int from java_things where id >= 10"), 2);
            connection.commit();
        }
    }

    static void batchesGiveTheirKeys() throws Exception {
        for (String rewrite : new String[] {"", "&reWriteBatchedInserts=true"}) {
            try (Connection connection = connect(rewrite)) {
                execute(connection, "drop table if exists batched");
                execute(connection, "create table batched (id serial, n int check (n >= 0))");
                String insert = "insert into batched (n) values (?)";
                try (PreparedStatement batch = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS)) {
                    for (int number = 0; number < 300; number++) {
                        batch.setInt(1, number);
                        batch.addBatch();
                    }
                    expect(batch.executeBatch().length, 300);
                    int keys = 0;
                    for (ResultSet rows = batch.getGeneratedKeys(); rows.next();) {
                        keys++;
                    }
                    expect(keys, 300);
                    batch.setInt(1, -1);
                    batch.addBatch();
                    fails("23514", batch::executeBatch);
                }
                expect(value(connection, "select count(*)::int from batched"), 300);
            }
        }
    }

    static void rowsAreFetchedInPortions() throws Exception {
        try (Connection connection = connect("")) {
            connection.setAutoCommit(false);
            try (PreparedStatement statement = connection.prepareStatement("select generate_series(1, ?)")) {
                statement.setInt(1, 95);
                statement.setFetchSize(10);
                int seen = 0;
                for (ResultSet rows = statement.executeQuery(); rows.next();) {
                    seen++;
                    expect(rows.getInt(1), seen);
                    // Another statement while the portal of the first is open.
                    expect(value(connection, "select ?::int", seen), seen);
                }
                expect(seen, 95);
            }
            connection.commit();
        }
    }

    static void rowsAreCopiedInAndOut() throws Exception {
        try (Connection connection = connect("")) {
            execute(connection, "create table java_copied (n int, line text)");
            var copy = connection.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int number = 0; number < 5000; number++) {
                lines.append(number).append("\tline ").append(number).append('\n');
            }
            expect(copy.copyIn("copy java_copied from stdin", new StringReader(lines.toString())), 5000L);
            StringWriter out = new StringWriter();
            expect(copy.copyOut("copy java_copied to stdout", out), 5000L);
            expect(out.toString(), lines.toString());
            fails("22P02", () -> copy.copyIn("copy java_copied from stdin", new StringReader("no number\tx\n")));
            var given = copy.copyIn("copy java_copied from stdin");
            given.cancelCopy();
            expect(value(connection, "select count(*)::int from java_copied"), 5000);
        }
    }

    static void largeObjectsAreReadAndWritten() throws Exception {
        try (Connection connection = connect("")) {
            connection.setAutoCommit(false);
            // By calls of functions of the protocol, not by statements.
            LargeObjectManager objects = connection.unwrap(PGConnection.class).getLargeObjectAPI();
            long number = objects.createLO(LargeObjectManager.READWRITE);
            byte[] bytes = new byte[300_000];
            for (int index = 0; index < bytes.length; index++) {
                bytes[index] = (byte) (index * 7);
            }
            try (LargeObject object = objects.open(number, LargeObjectManager.WRITE)) {
                object.write(bytes);
            }
            connection.commit();
            try (LargeObject object = objects.open(number, LargeObjectManager.READ)) {
                expect(object.size(), bytes.length);
                object.seek(1000);
                expect(java.util.Arrays.equals(object.read(bytes.length), 0, bytes.length - 1000, bytes, 1000, bytes.length), true);
            }
            objects.delete(number);
            connection.commit();
            fails("42704", () -> objects.open(number, LargeObjectManager.READ));
            connection.rollback();
        }
    }

    static void aQueryIsCancelled() throws Exception {
        ExecutorService other = Executors.newSingleThreadExecutor();
        try (Connection connection = connect(""); Statement statement = connection.createStatement()) {
            for (int round = 0; round < 2; round++) {
                Future<?> cancelled = other.submit(() -> {
                    Thread.sleep(300);
                    statement.cancel();
                    return null;
                });
                fails("57014", () -> statement.execute("select pg_sleep(30)"));
                cancelled.get(20, TimeUnit.SECONDS);
                expect(value(connection, "select ?::int", 1), 1);
            }
            statement.setQueryTimeout(1);
            fails("57014", () -> statement.execute("select pg_sleep(30)"));
            expect(value(connection, "select ?::int", 2), 2);
        } finally {
            other.shutdownNow();
        }
    }

    static void statementsMayBeForgotten() throws Exception {
        try (Connection connection = connect("&preparedStatementCacheQueries=5")) {
            for (int round = 0; round < 2; round++) {
                for (int number = 0; number < 20; number++) {
                    expect(value(connection, "select " + number + " + ?::int", 1), number + 1);
                }
                execute(connection, round == 0 ? "deallocate all" : "discard all");
                expect(value(connection, "select 1 + ?::int", 1), 2);
            }
        }
    }

    static void tablesAreLookedAt() throws Exception {
        try (Connection connection = connect("&currentSchema=elsewhere,public")) {
            try (ResultSet rows = connection.getMetaData().getColumns(null, "public", "java_copied", "%")) {
                List<String> names = new ArrayList<>();
                while (rows.next()) {
                    names.add(rows.getString("COLUMN_NAME"));
                }
                expect(names, List.of("n", "line"));
            }
            expect(value(connection, "show search_path"), "elsewhere,public");
        }
    }

    static void notificationsArrive() throws Exception {
        try (Connection listener = connect(""); Connection sender = connect("")) {
            execute(listener, "listen java_news");
            value(sender, "select pg_notify('java_news', ?)::text", "hello");
            PGNotification[] heard = listener.unwrap(PGConnection.class).getNotifications(10_000);
            expect(heard[0].getName() + " " + heard[0].getParameter(), "java_news hello");
        }
    }

    static void eachClientSeesItsOwnTenant(String mode) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(CLIENTS);
        CyclicBarrier together = new CyclicBarrier(CLIENTS);
        List<Callable<Void>> clients = new ArrayList<>();
        for (int number = 0; number < CLIENTS; number++) {
            String tenant = "tenant " + number;
            clients.add(() -> {
                try (Connection connection = connect("&ApplicationName=java&preferQueryMode=" + mode)) {
                    value(connection, "select set_config('app.tenant_id', ?, false)", tenant);
                    String own = "select ?::int, pg_sleep(0.002)::text /* " + tenant + " */";
                    value(connection, own, 0);
                    together.await(60, TimeUnit.SECONDS);
                    connection.setAutoCommit(false);
                    for (int turn = 0; turn < TURNS; turn++) {
                        expect(value(connection, "select current_setting('app.tenant_id')"), tenant);
                        expect(value(connection, own, turn), turn);
                        connection.commit();
                    }
                }
                return null;
            });
        }
        try {
            for (Future<Void> client : pool.invokeAll(clients)) {
                client.get();
            }
        } finally {
            pool.shutdownNow();
        }
    }
}
