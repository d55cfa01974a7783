INSERT INTO shop.stock VALUES ('mug', 3)
INSERT INTO shop.stock (sku, amount) VALUES ('jar', 1), ('box', 2) RETURNING *
INSERT INTO shop.stock SELECT 'lid', 9
INSERT INTO shop.stock TABLE shop.stock LIMIT 0
INSERT INTO shop.scratch DEFAULT VALUES
INSERT INTO shop.scratch VALUES (DEFAULT, 'd')
INSERT INTO shop.stock AS s VALUES ('mug', 1) ON CONFLICT (sku) DO UPDATE SET amount = s.amount + excluded.amount RETURNING amount
INSERT INTO shop.stock VALUES ('mug', 1) ON CONFLICT DO NOTHING
INSERT INTO shop.stock VALUES ('mug', 1) ON CONFLICT ON CONSTRAINT stock_pkey DO UPDATE SET amount = 7 WHERE stock.amount < 0
INSERT INTO shop.stock VALUES ('mug', 1)
INSERT INTO shop.stock VALUES ('bad', -1)
INSERT INTO shop.orders (id, customer_id, total) OVERRIDING SYSTEM VALUE VALUES (50, 1, 7) RETURNING tax
INSERT INTO shop.orders (customer_id, total) VALUES (2, 1) RETURNING id
INSERT INTO shop.events VALUES (4, '2026-09-09', 'routed') RETURNING tableoid::regclass
INSERT INTO shop.events VALUES (5, '2030-01-01', 'nowhere')
INSERT INTO shop.hooked VALUES (2, 'two') RETURNING note
INSERT INTO shop.customers (id, name, home.city, tags[1]) VALUES (9, 'Eve', 'Bath', 'x') RETURNING home, tags
INSERT INTO shop.active_customers VALUES (10, 'Fay', 'fay@example.org')
INSERT INTO shop.stock VALUES ('new', 1) RETURNING WITH (OLD AS o, NEW AS n) o.sku, n.sku
WITH x AS (SELECT 'cte' AS sku, 1 AS amount) INSERT INTO shop.stock SELECT * FROM x
WITH gone AS (DELETE FROM shop.stock WHERE sku = 'cte' RETURNING *) SELECT * FROM gone
WITH added AS (INSERT INTO shop.stock VALUES ('cte2', 2) RETURNING sku), changed AS (UPDATE shop.stock SET amount = 6 WHERE sku = 'cup' RETURNING sku) SELECT * FROM added, changed
WITH moved AS (DELETE FROM shop.scratch WHERE id = 20 RETURNING *) INSERT INTO shop.log (what) SELECT note FROM moved
WITH stock AS (SELECT 1) DELETE FROM shop.stock WHERE sku = 'none'
UPDATE shop.stock SET amount = amount + 1 WHERE sku = 'tea'
UPDATE shop.stock SET amount = DEFAULT WHERE sku = 'none'
UPDATE shop.scratch SET note = upper(note)
UPDATE shop.scratch SET note = 'all' WHERE true
UPDATE shop.stock AS s SET amount = 0 FROM shop.items i WHERE i.sku = s.sku AND i.line = 99
UPDATE shop.orders SET (total, status) = (21.00, 'paid') WHERE id = 1 RETURNING id, total, tax
UPDATE shop.orders SET (total, status) = (SELECT 22.00, 'paid') WHERE id = 1 RETURNING old.total, new.total
UPDATE shop.orders SET (total) = ROW(23) WHERE id = 1
UPDATE shop.customers SET home.city = 'Paris', tags[2] = 'z' WHERE id = 1 RETURNING home, tags
UPDATE shop.events SET at = '2025-12-31' WHERE id = 4 RETURNING tableoid::regclass
UPDATE ONLY shop.animals SET name = 'lion' WHERE id = 1
UPDATE shop.animals SET name = upper(name) RETURNING id, name
UPDATE shop.active_customers SET name = 'Ada L.' WHERE id = 1
UPDATE shop.hooked SET note = 'changed' WHERE id = 1 RETURNING note
UPDATE shop.stock SET amount = -5 WHERE sku = 'tea'
UPDATE shop.customers SET extra['lang'] = '"fr"' WHERE id = 2 RETURNING extra
DELETE FROM shop.scratch WHERE id > 15
DELETE FROM shop.scratch WHERE id IN (SELECT 14) RETURNING *
DELETE FROM shop.scratch AS s USING shop.stock t WHERE s.note = t.sku
DELETE FROM ONLY shop.animals WHERE id = 99
DELETE FROM shop.hooked WHERE id = 2
DELETE FROM shop.orders WHERE id = 50
DELETE FROM shop.customers WHERE id = 1
DELETE FROM shop.customers WHERE id = 9 RETURNING id
DELETE FROM shop.active_customers WHERE id = 10
DELETE FROM shop.scratch
DELETE FROM shop.log WHERE 1 = 1
MERGE INTO shop.stock s USING (VALUES ('tea', 5), ('hat', 1)) AS v (sku, amount) ON s.sku = v.sku WHEN MATCHED THEN UPDATE SET amount = s.amount + v.amount WHEN NOT MATCHED THEN INSERT VALUES (v.sku, v.amount)
MERGE INTO shop.stock s USING (SELECT 'hat' AS sku) v ON s.sku = v.sku WHEN MATCHED AND s.amount = 1 THEN DELETE WHEN MATCHED THEN DO NOTHING
MERGE INTO shop.stock s USING (SELECT 'zzz' AS sku) v ON s.sku = v.sku WHEN NOT MATCHED BY SOURCE AND s.sku = 'lid' THEN DELETE WHEN NOT MATCHED BY TARGET THEN INSERT (sku, amount) VALUES (v.sku, 1) RETURNING merge_action(), s.sku
WITH v AS (SELECT 'zzz' AS sku) MERGE INTO shop.stock s USING v ON s.sku = v.sku WHEN MATCHED THEN DELETE RETURNING old.sku
TRUNCATE shop.scratch
TRUNCATE TABLE ONLY shop.scratch, shop.log RESTART IDENTITY
TRUNCATE shop.customers
TRUNCATE shop.orders CASCADE
COPY shop.stock TO STDOUT
COPY shop.stock (sku) TO STDOUT
COPY (SELECT id, name, tags, born FROM shop.customers ORDER BY id) TO STDOUT WITH (FORMAT csv, HEADER)
COPY (SELECT id, name FROM shop.customers ORDER BY id) TO STDOUT WITH (FORMAT csv, DELIMITER ';', QUOTE '''', FORCE_QUOTE (name), NULL 'nil')
COPY (SELECT id FROM shop.customers ORDER BY id) TO STDOUT WITH (FORMAT binary)
COPY (SELECT 1 WHERE false) TO STDOUT
COPY (INSERT INTO shop.stock VALUES ('copied', 1) RETURNING sku) TO STDOUT
COPY shop.customers TO STDOUT WITH CSV HEADER
COPY shop.events TO STDOUT
COPY shop.scratch FROM STDIN
COPY shop.scratch (id, note) FROM STDIN WITH (FORMAT csv, HEADER true)
COPY shop.scratch FROM STDIN WITH (FORMAT csv, DELIMITER '|') WHERE id > 5
COPY shop.scratch FROM STDIN
COPY shop.scratch FROM STDIN WITH (ON_ERROR ignore, LOG_VERBOSITY silent)
COPY shop.hooked FROM STDIN
COPY shop.no_such FROM STDIN
COPY shop.scratch TO '/nonexistent/dir/file'
COPY shop.scratch FROM '/nonexistent/dir/file'
COPY shop.scratch TO PROGRAM 'cat > /dev/null'
COPY shop.scratch FROM PROGRAM 'echo 8'
SELECT * FROM shop.scratch ORDER BY id NULLS LAST
SELECT * FROM shop.hooked ORDER BY id
SELECT id, what FROM shop.log ORDER BY id
EXPLAIN (COSTS OFF) SELECT * FROM shop.stock WHERE sku = 'tea'
EXPLAIN (COSTS OFF) DELETE FROM shop.stock
EXPLAIN (COSTS OFF, FORMAT JSON) SELECT 1
EXPLAIN (COSTS OFF, VERBOSE) INSERT INTO shop.stock VALUES ('explained', 1)
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) SELECT count(*) FROM shop.stock WHERE false
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) DELETE FROM shop.scratch WHERE id = -1
EXPLAIN (ANALYZE false, COSTS OFF) DELETE FROM shop.scratch
EXPLAIN (COSTS OFF) CREATE TABLE shop.explained AS SELECT 1
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) CREATE TABLE shop.explained AS SELECT 1 AS x
EXPLAIN (COSTS OFF) DECLARE c CURSOR FOR SELECT 1
EXPLAIN (GENERIC_PLAN, COSTS OFF) SELECT * FROM shop.stock WHERE sku = $1
DO $$ BEGIN PERFORM 1; END $$
DO $$ BEGIN DELETE FROM shop.scratch WHERE id = 1; END $$
DO $$ BEGIN EXECUTE 'DELETE FROM shop.scratch WHERE id = 2'; END $$
DO $$ DECLARE t text := 'scratch'; BEGIN EXECUTE 'DELETE FROM shop.' || t || ' WHERE id = 3'; END $$
DO $$ DECLARE r record; BEGIN FOR r IN SELECT * FROM shop.stock ORDER BY sku LOOP IF r.amount < 0 THEN RAISE NOTICE '%', r.sku; END IF; END LOOP; END $$
DO $$ BEGIN RAISE NOTICE 'a notice'; RAISE WARNING 'a warning'; END $$
DO $$ BEGIN RAISE EXCEPTION 'stop'; END $$
DO $$ BEGIN BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN RAISE NOTICE 'caught'; END; END $$
DO LANGUAGE plpgsql 'BEGIN INSERT INTO shop.log (what) VALUES (''do''); COMMIT; END'
DO $$ BEGIN PERFORM set_config('work_mem', '6MB', false); END $$
DO $$ DECLARE n int; BEGIN SELECT count(*) INTO n FROM shop.stock; ASSERT n > 0; END $$
DO $$ BEGIN CREATE TABLE shop.made_by_do (a int); DROP TABLE shop.made_by_do; END $$
CALL shop.settle(1)
SELECT shop.note('note'), shop.twice(2)
SELECT id FROM shop.customers WHERE shop.tidy() = 0 AND id = 1
LOCK TABLE shop.stock
LOCK TABLE shop.stock IN ACCESS SHARE MODE
SELECT CAST(ROW('a', 'b', 'c') AS shop.address) = ROW('a', 'b', 'c')::shop.address
INSERT INTO shop.documents VALUES (9, 'x', '<x/>', '{}', 'x:1') RETURNING doc
UPDATE shop.documents SET tree = jsonb_set(tree, '{n}', '1') WHERE id = 9 RETURNING tree
DELETE FROM shop.documents WHERE id = 9
INSERT INTO shop.private VALUES (3, 'corpus_reader', 'x')
INSERT INTO shop.moments SELECT 2, tstzrange('2026-05-01 00:00+00', '2026-05-02 00:00+00'), 2 RETURNING upper_inf(during)
