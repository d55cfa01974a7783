// A session of pgx, as an agent would have it. The server comes from the PG… variables.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

type step struct {
	Step string `json:"step"`
	Saw  any    `json:"saw"`
}

var steps []step

func saw(name string, what any) { steps = append(steps, step{name, what}) }

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatalf("after %q: %v", steps[max(0, len(steps)-1)].Step, err)
	}
	return value
}

func failure(err error) any {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return map[string]any{
			"sqlstate": server.Code, "message": server.Message, "detail": server.Detail, "hint": server.Hint,
			"position": server.Position, "constraint": server.ConstraintName, "where": server.Where,
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "deadline exceeded"
	}
	if err == nil {
		return "no error"
	}
	return err.Error()
}

func rows(found pgx.Rows, err error) any {
	if err != nil {
		return failure(err)
	}
	var names []any
	for _, field := range found.FieldDescriptions() {
		names = append(names, fmt.Sprintf("%s:%d:%d", field.Name, field.DataTypeSize, field.Format))
	}
	all, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		return fmt.Sprintf("%v", values), err
	})
	if err != nil {
		return failure(err)
	}
	return map[string]any{"columns": names, "rows": all, "tag": found.CommandTag().String()}
}

func queries(ctx context.Context, c *pgx.Conn, mode string) {
	tag := must(c.Exec(ctx, "create table "+mode+" (id int primary key, name text not null, at timestamptz, raw bytea, tags text[])"))
	saw(mode+" create", tag.String())
	tag = must(c.Exec(ctx, "insert into "+mode+" values ($1, $2, $3, $4, $5)", 1, "é'\\", time.Unix(0, 0).UTC(), []byte{0, 255}, []string{"a", "b"}))
	saw(mode+" insert", tag.String())
	for range 3 {
		saw(mode+" rows", rows(c.Query(ctx, "select id, name, extract(epoch from at)::int, raw, tags from "+mode+" where id = $1", 1)))
	}
	saw(mode+" types", rows(c.Query(ctx, "select $1::int8, $2::float8, $3::bool, $4::text, $5::int4[], $6::jsonb, $7::date",
		int64(1)<<40, 1.5, true, nil, []int32{1, 2}, map[string]any{"k": 1}, pgtype.Date{Time: time.Unix(0, 0).UTC(), Valid: true})))
	var length int
	if err := c.QueryRow(ctx, "select length($1::text)", strings.Repeat("x", 400_000)).Scan(&length); err != nil {
		log.Fatal(err)
	}
	saw(mode+" large parameter", length)
	var value string
	if err := c.QueryRow(ctx, "select repeat('ab', 2000000)").Scan(&value); err != nil {
		log.Fatal(err)
	}
	saw(mode+" large value", len(value))
	for _, text := range []string{"select 1/0", "selec", "select nope from " + mode, "insert into " + mode + " values (1, 'x')", "insert into " + mode + " values (2, null)"} {
		_, err := c.Exec(ctx, text)
		saw(mode+" error: "+text, failure(err))
	}
	_, err := c.Exec(ctx, "select 10 / $1::int", 0)
	saw(mode+" error at execute", failure(err))
}

func transactions(ctx context.Context, c *pgx.Conn, mode string) {
	err := pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		must(tx.Exec(ctx, "insert into "+mode+" values (10, 'outer')"))
		inner := pgx.BeginFunc(ctx, tx, func(nested pgx.Tx) error {
			_, err := nested.Exec(ctx, "insert into "+mode+" values (10, 'again')")
			return err
		})
		saw(mode+" savepoint", failure(inner))
		return nil
	})
	saw(mode+" committed", failure(err))
	tx := must(c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly}))
	_, err = tx.Exec(ctx, "delete from "+mode)
	saw(mode+" read only", failure(err))
	_, err = tx.Exec(ctx, "select 1")
	saw(mode+" aborted", failure(err))
	saw(mode+" status", string(c.PgConn().TxStatus()))
	saw(mode+" rollback", failure(tx.Rollback(ctx)))
	saw(mode+" after", rows(c.Query(ctx, "select id, name from "+mode+" order by id")))
}

func batches(ctx context.Context, c *pgx.Conn, mode string) {
	batch := &pgx.Batch{}
	for n := range 100 {
		batch.Queue("select $1::int * 2", n)
	}
	batch.Queue("insert into "+mode+" values ($1, $2)", 20, "batch")
	results := c.SendBatch(ctx, batch)
	sum := 0
	for range 100 {
		var value int
		if err := results.QueryRow().Scan(&value); err != nil {
			log.Fatal(err)
		}
		sum += value
	}
	tag := must(results.Exec())
	saw(mode+" batch", []any{sum, tag.String(), failure(results.Close())})

	failing := &pgx.Batch{}
	failing.Queue("insert into " + mode + " values (30, 'lost')")
	failing.Queue("select 1/0")
	failing.Queue("select 3")
	results = c.SendBatch(ctx, failing)
	var seen []any
	for range 3 {
		_, err := results.Exec()
		seen = append(seen, failure(err))
	}
	_ = results.Close()
	saw(mode+" failing batch", seen)
	saw(mode+" nothing lost", rows(c.Query(ctx, "select count(*) from "+mode+" where id = 30")))
}

func pipelines(ctx context.Context, c *pgx.Conn) {
	pipeline := c.PgConn().StartPipeline(ctx)
	pipeline.SendPrepare("piped", "select $1::int + 1", nil)
	pipeline.SendQueryPrepared("piped", [][]byte{[]byte("41")}, nil, nil)
	pipeline.SendPipelineSync()
	pipeline.SendQueryParams("select 1/0", nil, nil, nil, nil)
	pipeline.SendQueryParams("select 'skipped'", nil, nil, nil, nil)
	pipeline.SendPipelineSync()
	pipeline.SendQueryParams("select 'alive'", nil, nil, nil, nil)
	pipeline.SendPipelineSync()
	if err := pipeline.Flush(); err != nil {
		log.Fatal(err)
	}
	var seen []any
	for range 20 {
		result, err := pipeline.GetResults()
		if err != nil {
			seen = append(seen, failure(err))
			continue
		}
		switch what := result.(type) {
		case nil:
		case *pgconn.StatementDescription:
			seen = append(seen, fmt.Sprintf("described %d", len(what.ParamOIDs)))
		case *pgconn.ResultReader:
			read := what.Read()
			row := ""
			if len(read.Rows) > 0 {
				row = string(read.Rows[0][0])
			}
			seen = append(seen, []any{row, read.CommandTag.String(), failure(read.Err)})
		case *pgconn.PipelineSync:
			seen = append(seen, "sync")
		}
	}
	saw("pipeline", seen)
	saw("pipeline closed", failure(pipeline.Close()))
}

func copies(ctx context.Context, c *pgx.Conn) {
	must(c.Exec(ctx, "create table copied (id int, body text, at timestamptz)"))
	count := must(c.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id", "body", "at"},
		pgx.CopyFromSlice(20_000, func(n int) ([]any, error) {
			return []any{n, fmt.Sprintf("line %d", n), time.Unix(int64(n), 0)}, nil
		})))
	saw("CopyFrom", count)
	_, err := c.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id"}, pgx.CopyFromFunc(func() ([]any, error) {
		return nil, errors.New("given up")
	}))
	saw("CopyFrom given up", err != nil)
	var out strings.Builder
	tag := must(c.PgConn().CopyTo(ctx, &out, "copy (select id, body from copied order by id) to stdout"))
	saw("CopyTo", []any{tag.String(), out.Len()})
	_, err = c.PgConn().CopyFrom(ctx, strings.NewReader("x\ty\tz\n"), "copy copied from stdin")
	saw("COPY error", failure(err))
	saw("after COPY", rows(c.Query(ctx, "select count(*) from copied")))
}

func cancels(ctx context.Context, c *pgx.Conn) {
	done := make(chan struct{})
	go func() {
		time.Sleep(300 * time.Millisecond)
		_ = c.PgConn().CancelRequest(ctx)
		close(done)
	}()
	_, err := c.Exec(ctx, "select pg_sleep(30)")
	<-done
	saw("cancel", failure(err))
	saw("after cancel", rows(c.Query(ctx, "select 'alive'")))

	other := must(pgx.Connect(ctx, ""))
	short, end := context.WithTimeout(ctx, 300*time.Millisecond)
	defer end()
	_, err = other.Exec(short, "select pg_sleep(31)")
	saw("context", failure(err))
	saw("closed", other.IsClosed())
	free := false
	for range 50 {
		var busy int
		if err := c.QueryRow(ctx, "select count(*) from pg_stat_activity where query = 'select pg_sleep(31)' and state = 'active'").Scan(&busy); err != nil {
			log.Fatal(err)
		}
		if free = busy == 0; free {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	saw("server is free", free)
}

func notifications(ctx context.Context) {
	config := must(pgx.ParseConfig(""))
	var notices []any
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		notices = append(notices, []any{notice.Severity, notice.Code, notice.Message})
	}
	listener := must(pgx.ConnectConfig(ctx, config))
	sender := must(pgx.Connect(ctx, ""))
	must(listener.Exec(ctx, "listen news"))
	must(sender.Exec(ctx, "select pg_notify('news', $1)", "first"))
	must(sender.Exec(ctx, "notify news, 'second'"))
	var heard []any
	for range 2 {
		limited, stop := context.WithTimeout(ctx, 10*time.Second)
		notification := must(listener.WaitForNotification(limited))
		stop()
		heard = append(heard, []any{notification.Channel, notification.Payload})
	}
	saw("notifications", heard)
	must(listener.Exec(ctx, "do $$ begin raise notice 'hello'; raise warning 'careful'; end $$"))
	saw("notices", notices)
	_ = listener.Close(ctx)
	_ = sender.Close(ctx)
}

func pools(ctx context.Context) {
	pool := must(pgxpool.New(ctx, "pool_max_conns=4"))
	defer pool.Close()
	sums := make([]int, 30)
	done := make(chan error, len(sums))
	for n := range sums {
		go func() {
			done <- pool.QueryRow(ctx, "select sum(n)::int from generate_series(1, $1::int) n", n+1).Scan(&sums[n])
		}()
	}
	for range sums {
		if err := <-done; err != nil {
			log.Fatal(err)
		}
	}
	saw("pool", sums)
}

func main() {
	ctx, stop := context.WithTimeout(context.Background(), 100*time.Second)
	defer stop()
	modes := map[string]pgx.QueryExecMode{
		"cache_statement": pgx.QueryExecModeCacheStatement,
		"cache_describe":  pgx.QueryExecModeCacheDescribe,
		"describe_exec":   pgx.QueryExecModeDescribeExec,
		"exec":            pgx.QueryExecModeExec,
		"simple_protocol": pgx.QueryExecModeSimpleProtocol,
	}
	for _, name := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		config := must(pgx.ParseConfig(""))
		config.DefaultQueryExecMode = modes[name]
		connection := must(pgx.ConnectConfig(ctx, config))
		queries(ctx, connection, name)
		transactions(ctx, connection, name)
		batches(ctx, connection, name)
		_ = connection.Close(ctx)
	}
	connection := must(pgx.Connect(ctx, ""))
	pipelines(ctx, connection)
	copies(ctx, connection)
	cancels(ctx, connection)
	_ = connection.Close(ctx)
	notifications(ctx)
	pools(ctx)
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(map[string]any{"client": "pgx", "steps": steps}); err != nil {
		log.Fatal(err)
	}
}
