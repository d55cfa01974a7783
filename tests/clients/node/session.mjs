// A session of node-postgres, as an agent would have it. The server comes from the PG… variables.
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import Cursor from "pg-cursor";
import copyStreams from "pg-copy-streams";

const steps = [];
const saw = (step, what) => steps.push({ step, saw: what === undefined ? null : what });

const mode = process.env.PGSSLMODE ?? "disable";
const ssl =
  mode === "disable"
    ? false
    : mode === "verify-full"
      ? { ca: readFileSync(process.env.PGSSLROOTCERT, "utf8"), rejectUnauthorized: true }
      : { rejectUnauthorized: false };
// libpq's sslmode means something else to this driver: it is given as an object instead.
delete process.env.PGSSLMODE;
delete process.env.PGSSLROOTCERT;

const connect = async () => {
  const client = new pg.Client({ ssl, application_name: "node test" });
  await client.connect();
  return client;
};

const failure = (error) => ({
  sqlstate: error.code,
  message: error.message,
  severity: error.severity,
  detail: error.detail ?? null,
  hint: error.hint ?? null,
  position: error.position ?? null,
  constraint: error.constraint ?? null,
  where: error.where ?? null,
});

const failing = async (client, ...args) => {
  try {
    await client.query(...args);
    return "no error";
  } catch (error) {
    return failure(error);
  }
};

const plain = (result) => ({
  command: result.command,
  count: result.rowCount,
  rows: result.rows,
  fields: result.fields.map((f) => [f.name, f.columnID, f.dataTypeSize, f.dataTypeModifier, f.format]),
});

async function queries(client) {
  saw("create", plain(await client.query("create table t (id int primary key, name text, at timestamptz, raw bytea)")));
  saw("insert", plain(await client.query("insert into t values ($1, $2, $3, $4)", [1, "é'\\", new Date(0), Buffer.from([0, 255])])));
  saw("rows", plain(await client.query("select * from t")));
  saw("simple", plain(await client.query("select 1 as one, null as nothing, 'x' as text, array[1,2] as list, '{\"a\":1}'::jsonb as doc")));
  saw("several", (await client.query("select 1; update t set name = name; select 2 as two")).map(plain));
  saw("array mode", plain(await client.query({ text: "select 1, 2", rowMode: "array" })));
  saw("binary", plain(await client.query({ text: "select 7::int as n, 'x'::text as t", binary: true })));
  saw("parameters", (await client.query("select $1::text as a, $2::int[] as b, $3::jsonb as c, $4::text as d", ["x", [1, 2], { k: [1] }, null])).rows);
  saw("large parameter", (await client.query("select length($1::text) as n", ["x".repeat(400000)])).rows);
  saw("large value", (await client.query("select repeat('ab', 2000000) as v")).rows[0].v.length);
  saw("many rows", (await client.query("select n, 'row ' || n as r from generate_series(1, 40000) n")).rows.length);
  saw("empty", plain(await client.query("")));
}

async function prepared(client) {
  const seen = [];
  for (let n = 0; n < 4; n++) {
    seen.push((await client.query({ name: "plus", text: "select $1::int + 1 as n", values: [n] })).rows[0].n);
  }
  saw("prepared", seen);
  saw("named in server", (await client.query("select name from pg_prepared_statements where not from_sql")).rows);
  saw("prepared error", await failing(client, { name: "bad", text: "select nope" }));
  saw("prepared fails at execute", await failing(client, { name: "div", text: "select 1/$1::int", values: [0] }));
  saw("still prepared", (await client.query({ name: "plus", text: "select $1::int + 1 as n", values: [41] })).rows);
}

async function failures(client) {
  for (const text of ["select 1/0", "selec", "insert into t values (1)", "select * from not_there"]) {
    saw(`error: ${text}`, await failing(client, text));
    saw(`error, extended: ${text}`, await failing(client, { text, values: [], queryMode: "extended" }));
  }
  saw("several, one fails", await failing(client, "select 1; select 1/0; select 2"));
  await client.query("begin");
  saw("in transaction", await failing(client, "select 1/0"));
  saw("aborted", await failing(client, "select 1"));
  saw("rollback", (await client.query("commit")).command);
  await client.query("begin");
  await client.query("insert into t (id) values (2)");
  await client.query("savepoint s");
  saw("duplicate", await failing(client, "insert into t (id) values (2)"));
  await client.query("rollback to s");
  await client.query("commit");
  saw("after savepoint", (await client.query("select id from t order by id")).rows);
}

async function queued(client) {
  const promises = [];
  for (let n = 0; n < 100; n++) promises.push(client.query("select $1::int as n", [n]));
  promises.push(client.query("select 1/0").catch(failure));
  promises.push(client.query("select 'alive' as state"));
  const results = await Promise.all(promises);
  saw("queued", [results.slice(0, 100).reduce((sum, r) => sum + r.rows[0].n, 0), results[100], results[101].rows]);
}

async function cursors(client) {
  const cursor = client.query(new Cursor("select n from generate_series(1, $1::int) n", [1000]));
  const first = await cursor.read(10);
  const second = await cursor.read(500);
  saw("cursor", [first.length, second.length, second[0]]);
  await cursor.close();
  const all = client.query(new Cursor("select n from generate_series(1, 25) n"));
  let count = 0;
  for (let rows = await all.read(10); rows.length; rows = await all.read(10)) count += rows.length;
  saw("cursor to its end", count);
  await all.close();
  saw("after cursor", (await client.query("select 'alive' as state")).rows);
}

async function copies(client) {
  await client.query("create table copied (id int, body text)");
  const lines = function* () {
    for (let n = 0; n < 20000; n++) yield `${n}\tline ${n}\n`;
  };
  const into = client.query(copyStreams.from("copy copied from stdin"));
  await pipeline(Readable.from(lines()), into);
  saw("COPY FROM", into.rowCount);
  const out = client.query(copyStreams.to("copy (select * from copied order by id) to stdout"));
  let bytes = 0;
  for await (const chunk of out) bytes += chunk.length;
  // The stream ends with the data; the count comes with what the server says after it.
  await client.query("select 1");
  saw("COPY TO", [out.rowCount, bytes]);
  try {
    await pipeline(Readable.from(["1\ta\n", "x\tb\n"]), client.query(copyStreams.from("copy copied from stdin")));
    saw("COPY error", "no error");
  } catch (error) {
    saw("COPY error", failure(error));
  }
  saw("after COPY", (await client.query("select count(*)::int as n from copied")).rows);
}

async function cancels(client) {
  const other = await connect();
  const { rows } = await client.query("select pg_backend_pid() as pid");
  const sleeping = failing(client, "select pg_sleep(30)");
  await sleep(300);
  // The driver's own cancel: a second connection with this session's key.
  const canceller = new pg.Connection({ ssl });
  const gone = new Promise((resolve) => canceller.once("end", resolve));
  canceller.on("error", () => {});
  canceller.once(ssl ? "sslconnect" : "connect", () => canceller.cancel(client.processID, client.secretKey));
  canceller.connect(client.port, client.host);
  saw("cancel", await sleeping);
  await gone;
  saw("after cancel", (await client.query("select 'alive' as state")).rows);
  const again = failing(client, "select pg_sleep(30)");
  await sleep(200);
  saw("pg_cancel_backend", (await other.query("select pg_cancel_backend($1) as done", [rows[0].pid])).rows);
  saw("cancelled by function", await again);
  await other.end();
}

async function notifications(client) {
  const other = await connect();
  const heard = [];
  const notices = [];
  client.on("notification", (n) => heard.push([n.channel, n.payload]));
  client.on("notice", (n) => notices.push([n.severity, n.code, n.message]));
  await client.query("listen news");
  await other.query("select pg_notify('news', 'first')");
  await other.query("notify news, 'second'");
  for (let n = 0; n < 100 && heard.length < 2; n++) await sleep(50);
  saw("notifications", heard);
  await client.query("do $$ begin raise notice 'hello %', 1; end $$");
  await client.query("drop table if exists not_there");
  saw("notices", notices);
  await other.end();
}

async function pools() {
  const pool = new pg.Pool({ ssl, max: 4 });
  const sums = await Promise.all(
    Array.from({ length: 30 }, (_, n) => pool.query("select sum(n)::int as s from generate_series(1, $1::int) n", [n + 1])),
  );
  saw("pool", sums.map((r) => r.rows[0].s));
  await pool.end();
}

const client = await connect();
for (const part of [queries, prepared, failures, queued, cursors, copies, cancels, notifications]) await part(client);
await client.end();
await pools();
console.log(JSON.stringify({ client: "node-postgres", steps }, null, 1));
