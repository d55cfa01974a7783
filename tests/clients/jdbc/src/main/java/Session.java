// A session of the PostgreSQL JDBC driver, as an agent would have it. The server comes from the PG… variables.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

public final class Session {
  private static final List<String> STEPS = new ArrayList<>();

  private interface Work {
    Object run() throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    for (String mode : List.of("extended", "simple", "extendedForPrepared")) {
      everything(mode);
    }
    System.out.println("{\"client\": \"jdbc\", \"steps\": [\n" + String.join(",\n", STEPS) + "\n]}");
  }

  private static Connection connect(String mode) throws SQLException {
    Map<String, String> environment = System.getenv();
    Properties properties = new Properties();
    properties.setProperty("user", environment.get("PGUSER"));
    properties.setProperty("password", environment.get("PGPASSWORD"));
    properties.setProperty("sslmode", environment.getOrDefault("PGSSLMODE", "disable"));
    if (environment.containsKey("PGSSLROOTCERT")) {
      properties.setProperty("sslrootcert", environment.get("PGSSLROOTCERT"));
    }
    properties.setProperty("preferQueryMode", mode);
    properties.setProperty("ApplicationName", "jdbc test");
    properties.setProperty("prepareThreshold", "2");
    String url = "jdbc:postgresql://" + environment.get("PGHOST") + ":" + environment.get("PGPORT") + "/" + environment.get("PGDATABASE");
    return DriverManager.getConnection(url, properties);
  }

  private static void everything(String mode) throws Exception {
    try (Connection connection = connect(mode)) {
      try (Statement statement = connection.createStatement()) {
        statement.execute("drop schema if exists jdbc cascade; create schema jdbc; set search_path to jdbc");
      }
      queries(connection, mode);
      failures(connection, mode);
      transactions(connection, mode);
      batches(connection, mode);
      cursors(connection, mode);
      copies(connection, mode);
      cancels(connection, mode);
      notifications(connection, mode);
      metadata(connection, mode);
    }
  }

  private static void queries(Connection connection, String mode) throws Exception {
    try (Statement statement = connection.createStatement()) {
      saw(mode, "create", () -> statement.executeUpdate(
          "create table things (id serial primary key, name text not null, price numeric(10,2), at timestamptz, raw bytea, tags text[], ref uuid, doc jsonb)"));
      saw(mode, "keys", () -> {
        statement.executeUpdate("insert into things(name) values ('generated')", Statement.RETURN_GENERATED_KEYS);
        return rows(statement.getGeneratedKeys());
      });
      saw(mode, "several", () -> {
        List<Object> results = new ArrayList<>();
        boolean more = statement.execute("select 1; update things set name = name; select 'two'");
        while (more || statement.getUpdateCount() != -1) {
          results.add(more ? rows(statement.getResultSet()) : (Object) statement.getUpdateCount());
          more = statement.getMoreResults();
        }
        return results;
      });
    }
    try (PreparedStatement insert = connection.prepareStatement("insert into things(name, price, at, raw, tags, ref, doc) values (?, ?, ?, ?, ?, ?, ?)")) {
      for (int n = 0; n < 7; n++) {
        insert.setString(1, "é'\\ " + n);
        insert.setBigDecimal(2, new BigDecimal("12.50").add(BigDecimal.valueOf(n)));
        insert.setTimestamp(3, new Timestamp(n * 1000L));
        insert.setBytes(4, new byte[] {0, (byte) 255, (byte) n});
        insert.setArray(5, connection.createArrayOf("text", new Object[] {"a", null, "b"}));
        insert.setObject(6, new UUID(0, n));
        PGobject document = new PGobject();
        document.setType("jsonb");
        document.setValue("{\"n\": " + n + "}");
        insert.setObject(7, document);
        insert.executeUpdate();
      }
    }
    try (PreparedStatement select = connection.prepareStatement("select * from things where id <= ? order by id")) {
      for (int n = 1; n <= 5; n++) {
        select.setInt(1, n);
        int limit = n;
        saw(mode, "prepared " + limit, () -> rows(select.executeQuery()));
      }
    }
    try (PreparedStatement types = connection.prepareStatement(
        "select ?::int, ?::bigint, ?::float8, ?::bool, ?::text, ?::date, length(?::text)")) {
      types.setInt(1, 7);
      types.setLong(2, 1L << 40);
      types.setDouble(3, 1.5);
      types.setBoolean(4, true);
      types.setNull(5, java.sql.Types.VARCHAR);
      types.setDate(6, java.sql.Date.valueOf("2024-02-29"));
      types.setString(7, "x".repeat(400_000));
      saw(mode, "types", () -> rows(types.executeQuery()));
    }
    try (Statement statement = connection.createStatement(); ResultSet result = statement.executeQuery("select repeat('ab', 2000000)")) {
      result.next();
      saw(mode, "large value", result.getString(1).length());
    }
  }

  private static void failures(Connection connection, String mode) throws Exception {
    try (Statement statement = connection.createStatement()) {
      for (String text : List.of("select 1/0", "selec", "select nope from things", "insert into things(id, name) values (1, 'x')", "insert into things(name) values (null)")) {
        saw(mode, "error: " + text, () -> statement.execute(text));
      }
      saw(mode, "error among several", () -> statement.execute("select 1; select 1/0; select 2"));
      saw(mode, "alive", () -> rows(statement.executeQuery("select 'alive'")));
    }
    try (PreparedStatement divide = connection.prepareStatement("select 10 / ?::int")) {
      for (int n = 3; n >= 0; n--) {
        divide.setInt(1, n);
        saw(mode, "divide", () -> rows(divide.executeQuery()));
      }
    }
  }

  private static void transactions(Connection connection, String mode) throws Exception {
    connection.setAutoCommit(false);
    try (Statement statement = connection.createStatement()) {
      statement.executeUpdate("insert into things(name) values ('kept')");
      Savepoint savepoint = connection.setSavepoint("here");
      saw(mode, "in transaction", () -> statement.execute("select 1/0"));
      saw(mode, "aborted", () -> statement.execute("select 1"));
      connection.rollback(savepoint);
      connection.commit();
      saw(mode, "kept", () -> rows(statement.executeQuery("select name from things where name = 'kept'")));
      connection.rollback();
      connection.setReadOnly(true);
      saw(mode, "read only", () -> statement.executeUpdate("delete from things"));
      connection.rollback();
      connection.setReadOnly(false);
      connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
      saw(mode, "isolation", () -> rows(statement.executeQuery("show transaction_isolation")));
      connection.rollback();
    }
    connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
    connection.setAutoCommit(true);
  }

  private static void batches(Connection connection, String mode) throws Exception {
    try (PreparedStatement insert = connection.prepareStatement("insert into things(name) values (?)")) {
      for (int n = 0; n < 500; n++) {
        insert.setString(1, "batch " + n);
        insert.addBatch();
      }
      saw(mode, "batch", () -> Arrays.stream(insert.executeBatch()).filter(n -> n == 1 || n == Statement.SUCCESS_NO_INFO).count());
    }
    try (PreparedStatement insert = connection.prepareStatement("insert into things(id, name) values (?, ?)")) {
      for (int n = 0; n < 5; n++) {
        insert.setInt(1, n == 3 ? 1 : 100_000 + n);
        insert.setString(2, "b");
        insert.addBatch();
      }
      saw(mode, "failing batch", () -> {
        try {
          return insert.executeBatch();
        } catch (BatchUpdateException failure) {
          return Map.of("counts", failure.getUpdateCounts().length, "error", error((PSQLException) failure.getNextException()));
        }
      });
    }
    try (Statement statement = connection.createStatement()) {
      statement.addBatch("insert into things(name) values ('one')");
      statement.addBatch("update things set price = 1 where name = 'one'");
      saw(mode, "statement batch", () -> statement.executeBatch());
      saw(mode, "count", () -> rows(statement.executeQuery("select count(*) from things")));
    }
  }

  private static void cursors(Connection connection, String mode) throws Exception {
    connection.setAutoCommit(false);
    try (Statement statement = connection.createStatement()) {
      statement.setFetchSize(100);
      try (ResultSet result = statement.executeQuery("select n from generate_series(1, 1050) n")) {
        long sum = 0;
        while (result.next()) {
          sum += result.getInt(1);
        }
        saw(mode, "fetchSize", sum);
      }
      try (ResultSet result = statement.executeQuery("select n from generate_series(1, 1050) n")) {
        result.next();
        saw(mode, "left early", result.getInt(1));
      }
      statement.setMaxRows(7);
      statement.setFetchSize(0);
      saw(mode, "maxRows", () -> rows(statement.executeQuery("select n from generate_series(1, 100) n")));
    }
    connection.commit();
    connection.setAutoCommit(true);
  }

  private static void copies(Connection connection, String mode) throws Exception {
    CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
    try (Statement statement = connection.createStatement()) {
      statement.execute("create table copied (id int, body text)");
    }
    StringBuilder lines = new StringBuilder();
    for (int n = 0; n < 10_000; n++) {
      lines.append(n).append("\tline ").append(n).append('\n');
    }
    saw(mode, "COPY in", () -> manager.copyIn("copy copied from stdin", new StringReader(lines.toString())));
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    saw(mode, "COPY out", () -> manager.copyOut("copy (select * from copied order by id) to stdout (format csv, header)", out));
    saw(mode, "COPY out size", out.size());
    saw(mode, "COPY error", () -> manager.copyIn("copy copied from stdin", new ByteArrayInputStream("x\ty\n".getBytes(StandardCharsets.UTF_8))));
    saw(mode, "COPY given up", () -> {
      CopyIn copy = manager.copyIn("copy copied from stdin");
      byte[] row = "1\tlost\n".getBytes(StandardCharsets.UTF_8);
      copy.writeToCopy(row, 0, row.length);
      copy.cancelCopy();
      return "cancelled";
    });
    try (Statement statement = connection.createStatement()) {
      saw(mode, "after COPY", () -> rows(statement.executeQuery("select count(*) from copied")));
    }
  }

  private static void cancels(Connection connection, String mode) throws Exception {
    try (Statement statement = connection.createStatement()) {
      Thread canceller = new Thread(() -> {
        try {
          Thread.sleep(400);
          statement.cancel();
        } catch (SQLException | InterruptedException failure) {
          throw new IllegalStateException(failure);
        }
      });
      canceller.start();
      saw(mode, "cancel", () -> statement.execute("select pg_sleep(30)"));
      canceller.join();
      statement.setQueryTimeout(1);
      saw(mode, "timeout", () -> statement.execute("select pg_sleep(30)"));
      statement.setQueryTimeout(0);
      saw(mode, "after cancel", () -> rows(statement.executeQuery("select 'alive'")));
    }
  }

  private static void notifications(Connection connection, String mode) throws Exception {
    try (Statement statement = connection.createStatement(); Connection other = connect(mode); Statement sender = other.createStatement()) {
      statement.execute("listen news");
      sender.execute("select pg_notify('news', 'first')");
      sender.execute("notify news, 'second'");
      List<Object> heard = new ArrayList<>();
      for (int tries = 0; tries < 20 && heard.size() < 2; tries++) {
        PGNotification[] some = connection.unwrap(PGConnection.class).getNotifications(500);
        for (PGNotification one : some == null ? new PGNotification[0] : some) {
          heard.add(List.of(one.getName(), one.getParameter()));
        }
      }
      saw(mode, "notifications", heard);
      statement.execute("unlisten *");
      statement.execute("do $$ begin raise notice 'hello'; raise warning 'careful'; end $$");
      List<Object> warnings = new ArrayList<>();
      for (SQLWarning warning = statement.getWarnings(); warning != null; warning = warning.getNextWarning()) {
        warnings.add(List.of(warning.getSQLState(), warning.getMessage()));
      }
      saw(mode, "warnings", warnings);
    }
  }

  private static void metadata(Connection connection, String mode) throws Exception {
    DatabaseMetaData metadata = connection.getMetaData();
    saw(mode, "version", metadata.getDatabaseProductVersion());
    saw(mode, "tables", () -> some(metadata.getTables(null, "jdbc", "%", new String[] {"TABLE"}), "TABLE_NAME"));
    saw(mode, "columns", () -> some(metadata.getColumns(null, "jdbc", "things", "%"), "COLUMN_NAME", "TYPE_NAME", "COLUMN_SIZE", "IS_NULLABLE"));
    saw(mode, "primary key", () -> some(metadata.getPrimaryKeys(null, "jdbc", "things"), "COLUMN_NAME", "PK_NAME"));
    saw(mode, "parameters", () -> {
      try (PreparedStatement statement = connection.prepareStatement("select name from things where id = ? and price > ?")) {
        return List.of(statement.getParameterMetaData().getParameterTypeName(1), statement.getParameterMetaData().getParameterTypeName(2),
            statement.getMetaData().getColumnName(1), statement.getMetaData().getColumnTypeName(1));
      }
    });
    try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
      saw(mode, "updatable", () -> {
        ResultSet result = statement.executeQuery("select id, name from things order by id limit 1");
        result.next();
        result.updateString("name", "updated");
        result.updateRow();
        return rows(statement.executeQuery("select name from things order by id limit 1"));
      });
    }
  }

  private static List<Object> some(ResultSet result, String... columns) throws SQLException {
    List<Object> rows = new ArrayList<>();
    while (result.next()) {
      List<Object> row = new ArrayList<>();
      for (String column : columns) {
        row.add(result.getString(column));
      }
      rows.add(row);
    }
    return rows;
  }

  private static List<Object> rows(ResultSet result) throws SQLException {
    ResultSetMetaData metadata = result.getMetaData();
    List<Object> rows = new ArrayList<>();
    List<Object> names = new ArrayList<>();
    for (int column = 1; column <= metadata.getColumnCount(); column++) {
      names.add(metadata.getColumnLabel(column) + ":" + metadata.getColumnTypeName(column));
    }
    rows.add(names);
    while (result.next()) {
      List<Object> row = new ArrayList<>();
      for (int column = 1; column <= metadata.getColumnCount(); column++) {
        Object value = result.getObject(column);
        row.add(value instanceof Array array ? array.toString() : value instanceof byte[] bytes ? Arrays.toString(bytes) : value);
      }
      rows.add(row);
    }
    return rows;
  }

  private static void saw(String mode, String step, Object what) {
    STEPS.add("{\"step\": " + json(mode + ": " + step) + ", \"saw\": " + json(what) + "}");
  }

  private static void saw(String mode, String step, Work work) throws Exception {
    Object what;
    try {
      what = work.run();
    } catch (PSQLException failure) {
      what = error(failure);
    }
    saw(mode, step, what);
  }

  private static Map<String, Object> error(PSQLException failure) {
    Map<String, Object> seen = new LinkedHashMap<>();
    seen.put("sqlstate", failure.getSQLState());
    ServerErrorMessage server = failure.getServerErrorMessage();
    if (server == null) {
      seen.put("message", failure.getMessage());
    } else {
      seen.put("message", server.getMessage());
      seen.put("detail", server.getDetail());
      seen.put("hint", server.getHint());
      seen.put("position", server.getPosition());
      seen.put("constraint", server.getConstraint());
      seen.put("where", server.getWhere());
    }
    return seen;
  }

  private static String json(Object value) {
    if (value == null || value instanceof Boolean || value instanceof Number) {
      return String.valueOf(value);
    }
    if (value instanceof Map<?, ?> map) {
      List<String> entries = new ArrayList<>();
      map.forEach((key, item) -> entries.add(json(key) + ": " + json(item)));
      return "{" + String.join(", ", entries.stream().sorted().toList()) + "}";
    }
    if (value instanceof List<?> list) {
      return "[" + String.join(", ", list.stream().map(Session::json).toList()) + "]";
    }
    if (value instanceof int[] counts) {
      return Arrays.toString(counts);
    }
    StringBuilder text = new StringBuilder("\"");
    for (char letter : String.valueOf(value).toCharArray()) {
      if (letter == '"' || letter == '\\') {
        text.append('\\').append(letter);
      } else if (letter < 32) {
        text.append(String.format("\\u%04x", (int) letter));
      } else {
        text.append(letter);
      }
    }
    return text.append('"').toString();
  }
}
