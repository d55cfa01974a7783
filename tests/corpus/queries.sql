SELECT 1
SELECT 1, 'two', 3.0, NULL, true
SELECT
SELECT * FROM shop.customers ORDER BY id
SELECT id, name FROM shop.customers WHERE id = 1
SELECT id AS "The Id", name n FROM shop.customers AS c WHERE c.id IN (1, 2) ORDER BY 1
SELECT * FROM shop.customers WHERE name LIKE 'A%'
SELECT name FROM shop.customers WHERE name ILIKE '%o%' ORDER BY name COLLATE "C"
SELECT name FROM shop.customers WHERE name SIMILAR TO '(Ada|Bob)' ORDER BY id
SELECT name FROM shop.customers WHERE name ~* '^a' OR name !~ 'o' ORDER BY id
SELECT id FROM shop.customers WHERE balance BETWEEN 0 AND 200 ORDER BY id
SELECT id FROM shop.customers WHERE balance BETWEEN SYMMETRIC 200 AND 0 ORDER BY id
SELECT id FROM shop.customers WHERE balance NOT BETWEEN 0 AND 200 ORDER BY id
SELECT id FROM shop.customers WHERE born IS NULL
SELECT id FROM shop.customers WHERE active IS NOT TRUE
SELECT id FROM shop.customers WHERE (active IS UNKNOWN) IS FALSE ORDER BY id
SELECT id FROM shop.customers WHERE born IS DISTINCT FROM DATE '1990-12-10' ORDER BY id
SELECT count(*) FROM shop.customers
SELECT count(DISTINCT mood), min(balance), max(balance), avg(balance)::numeric(20,4) FROM shop.customers
SELECT mood, count(*) FROM shop.customers GROUP BY mood ORDER BY mood
SELECT mood, count(*) FROM shop.customers GROUP BY mood HAVING count(*) > 1
SELECT mood, active, count(*) FROM shop.customers GROUP BY ROLLUP (mood, active) ORDER BY 1, 2, 3
SELECT mood, active, count(*), GROUPING(mood, active) FROM shop.customers GROUP BY CUBE (mood, active) ORDER BY 1, 2, 3, 4
SELECT mood, active, count(*) FROM shop.customers GROUP BY GROUPING SETS ((mood), (active), ()) ORDER BY 1, 2, 3
SELECT mood, count(*) FROM shop.customers GROUP BY DISTINCT ROLLUP (mood), ROLLUP (mood) ORDER BY 1, 2
SELECT string_agg(name, ', ' ORDER BY id) FROM shop.customers
SELECT array_agg(id ORDER BY id DESC) FILTER (WHERE active) FROM shop.customers
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY balance) FROM shop.customers
SELECT mode() WITHIN GROUP (ORDER BY mood) FROM shop.customers
SELECT any_value(1) FROM shop.customers
SELECT DISTINCT mood FROM shop.customers ORDER BY mood
SELECT DISTINCT ON (mood) mood, name FROM shop.customers ORDER BY mood, name
SELECT id FROM shop.customers ORDER BY id LIMIT 2
SELECT id FROM shop.customers ORDER BY id LIMIT 2 OFFSET 1
SELECT id FROM shop.customers ORDER BY id OFFSET 1 ROWS FETCH NEXT 2 ROWS ONLY
SELECT mood FROM shop.customers ORDER BY mood FETCH FIRST 2 ROWS WITH TIES
SELECT id FROM shop.customers ORDER BY id LIMIT ALL
SELECT id, born FROM shop.customers ORDER BY born DESC NULLS LAST, id
SELECT id FROM shop.customers ORDER BY id USING >
SELECT c.name, o.total FROM shop.customers c JOIN shop.orders o ON o.customer_id = c.id ORDER BY o.id
SELECT c.name, o.total FROM shop.customers c LEFT JOIN shop.orders o ON o.customer_id = c.id ORDER BY c.id, o.id
SELECT c.name, o.total FROM shop.orders o RIGHT JOIN shop.customers c ON o.customer_id = c.id ORDER BY c.id, o.id
SELECT c.id, o.id FROM shop.customers c FULL JOIN shop.orders o ON false ORDER BY 1, 2
SELECT a.id, b.id FROM shop.customers a CROSS JOIN shop.customers b WHERE a.id < b.id ORDER BY 1, 2
SELECT id, line FROM shop.orders JOIN (SELECT order_id AS id, line FROM shop.items) i USING (id) ORDER BY 1, 2
SELECT j.id FROM shop.orders JOIN (SELECT order_id AS id FROM shop.items) i USING (id) AS j ORDER BY 1
SELECT * FROM shop.animals NATURAL JOIN (SELECT 1 AS id) x
SELECT c.name, l.total FROM shop.customers c, LATERAL (SELECT total FROM shop.orders o WHERE o.customer_id = c.id ORDER BY total DESC LIMIT 1) l ORDER BY 1
SELECT c.id, t.tag, t.n FROM shop.customers c, unnest(c.tags) WITH ORDINALITY AS t(tag, n) ORDER BY 1, 3
SELECT * FROM ROWS FROM (generate_series(1, 2), generate_series(1, 3)) AS t(a, b)
SELECT * FROM generate_series(1, 10, 3)
SELECT * FROM generate_series(timestamp '2026-01-01', '2026-01-03', '1 day')
SELECT * FROM shop.customers TABLESAMPLE SYSTEM (100) REPEATABLE (1) ORDER BY id
SELECT id FROM shop.customers TABLESAMPLE BERNOULLI (100) ORDER BY id
SELECT name FROM shop.customers WHERE id = (SELECT max(customer_id) FROM shop.orders)
SELECT name FROM shop.customers c WHERE EXISTS (SELECT FROM shop.orders o WHERE o.customer_id = c.id) ORDER BY id
SELECT name FROM shop.customers c WHERE NOT EXISTS (SELECT FROM shop.orders o WHERE o.customer_id = c.id) ORDER BY id
SELECT name FROM shop.customers WHERE id IN (SELECT customer_id FROM shop.orders) ORDER BY id
SELECT name FROM shop.customers WHERE id NOT IN (SELECT customer_id FROM shop.orders) ORDER BY id
SELECT name FROM shop.customers WHERE id = ANY (ARRAY[1, 3]) ORDER BY id
SELECT name FROM shop.customers WHERE balance > ALL (SELECT total FROM shop.orders) ORDER BY id
SELECT name FROM shop.customers WHERE (id, active) = (1, true)
SELECT name FROM shop.customers WHERE (id, active) IN ((1, true), (3, false)) ORDER BY id
SELECT ARRAY(SELECT id FROM shop.orders ORDER BY id)
SELECT (SELECT count(*) FROM shop.orders o WHERE o.customer_id = c.id) FROM shop.customers c ORDER BY c.id
SELECT id FROM shop.customers UNION SELECT id FROM shop.orders ORDER BY id
SELECT 1 UNION ALL SELECT 1
SELECT id FROM shop.customers INTERSECT SELECT customer_id FROM shop.orders ORDER BY 1
SELECT id FROM shop.customers EXCEPT ALL SELECT customer_id FROM shop.orders ORDER BY 1
(SELECT 1 ORDER BY 1 LIMIT 1) UNION (VALUES (2)) ORDER BY 1
VALUES (1, 'a'), (2, 'b')
TABLE shop.stock
WITH rich AS (SELECT * FROM shop.customers WHERE balance > 0) SELECT name FROM rich ORDER BY id
WITH a AS MATERIALIZED (SELECT 1 AS x), b AS NOT MATERIALIZED (SELECT x + 1 AS y FROM a) SELECT * FROM a, b
WITH customers AS (SELECT 7 AS id) SELECT * FROM customers
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t
WITH RECURSIVE t(n, m) AS (VALUES (1, 2) UNION ALL SELECT m, n FROM t) CYCLE n SET looped USING path SELECT n, looped FROM t ORDER BY 1, 2
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 3) SEARCH DEPTH FIRST BY n SET o SELECT n FROM t ORDER BY o
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 3) SEARCH BREADTH FIRST BY n SET o SELECT n FROM t ORDER BY o
SELECT id, row_number() OVER (ORDER BY id DESC) FROM shop.customers ORDER BY id
SELECT id, sum(total) OVER (PARTITION BY customer_id ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM shop.orders ORDER BY id
SELECT id, lag(total, 1, 0) OVER w, lead(total) OVER w, ntile(2) OVER w FROM shop.orders WINDOW w AS (ORDER BY id) ORDER BY id
SELECT id, sum(id) OVER (ORDER BY id GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING EXCLUDE TIES) FROM shop.orders ORDER BY id
SELECT id, sum(id) OVER (ORDER BY id RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) FROM shop.orders ORDER BY id
SELECT rank() OVER (ORDER BY mood), dense_rank() OVER (ORDER BY mood), name FROM shop.customers ORDER BY 1, 3
SELECT first_value(name) OVER (ORDER BY id), nth_value(name, 2) OVER (ORDER BY id) FROM shop.customers ORDER BY id
SELECT CASE WHEN balance > 0 THEN 'plus' WHEN balance < 0 THEN 'minus' ELSE 'zero' END FROM shop.customers ORDER BY id
SELECT CASE mood WHEN 'ok' THEN 1 ELSE 2 END FROM shop.customers ORDER BY id
SELECT coalesce(born, DATE '1900-01-01'), nullif(name, 'Bob'), greatest(1, 3, 2), least('b', 'a') FROM shop.customers ORDER BY id
SELECT '5'::int + 1, CAST('2026-01-01' AS date) + 1, int '7', date '2026-02-03', interval '1 day 2 hours'
SELECT 1.5::numeric(10,3), 'x'::char(3), 'abc'::varchar(2), '{1,2}'::int[], 'ok'::shop.mood
SELECT ARRAY[1,2,3], ARRAY[[1,2],[3,4]], (ARRAY[5,6,7])[2], (ARRAY[5,6,7])[2:3], (ARRAY[5,6,7])[:2]
SELECT ROW(1, 'a', NULL), (1, 2) < (1, 3), ROW(1, NULL) IS NULL
SELECT (home).city, (home).zip FROM shop.customers ORDER BY id
SELECT (c).name, c.home FROM shop.customers c ORDER BY id
SELECT c FROM shop.customers c WHERE id = 1
SELECT c.* FROM shop.customers c WHERE id = 2
SELECT (c.home).* FROM shop.customers c WHERE id = 1
SELECT c.full_name FROM shop.customers c ORDER BY id
SELECT extra -> 'lang', extra ->> 'lang', extra #> '{n,0}', extra #>> '{n,1}' FROM shop.customers ORDER BY id
SELECT extra @> '{"lang": "en"}', extra ? 'lang', extra ?| ARRAY['x', 'n'] FROM shop.customers ORDER BY id
SELECT extra['n'][0] FROM shop.customers WHERE id = 1
SELECT jsonb_path_query(tree, '$.a.b[*].c') FROM shop.documents WHERE id = 1
SELECT tree @? '$.a', tree @@ '$.a == 1' FROM shop.documents ORDER BY id
SELECT jsonb_pretty('{"a": [1, 2]}'), jsonb_set('{"a": 1}', '{a}', '2'), jsonb_build_object('k', 1), to_jsonb(ROW(1, 'x'))
SELECT key, value FROM jsonb_each('{"a": 1, "b": {"c": 2}}') ORDER BY key
SELECT json_object('a': 1, 'b': NULL ABSENT ON NULL), json_array(1, 2, NULL NULL ON NULL)
SELECT json_objectagg(name: balance RETURNING jsonb) FROM (SELECT name, balance FROM shop.customers ORDER BY id) c
SELECT json_arrayagg(id ORDER BY id) FROM shop.customers
SELECT '{"a": 1}' IS JSON, '[1]' IS JSON ARRAY, 'x' IS NOT JSON, '{"a":1,"a":2}' IS JSON OBJECT WITH UNIQUE KEYS
SELECT JSON_VALUE('{"a": 5}', '$.a' RETURNING int), JSON_QUERY('{"a": [1, 2]}', '$.a' WITH WRAPPER), JSON_EXISTS('{"a": 1}', '$.b')
SELECT JSON_VALUE('{}', '$.a' DEFAULT 9 ON EMPTY ERROR ON ERROR)
SELECT JSON_SCALAR(5), JSON('{"a": 1}'), JSON_SERIALIZE('{"a": 1}' RETURNING text)
SELECT * FROM JSON_TABLE('[{"a": 1, "b": ["x", "y"]}, {"a": 2, "b": []}]', '$[*]' COLUMNS (n FOR ORDINALITY, a int PATH '$.a', NESTED PATH '$.b[*]' COLUMNS (b text PATH '$'))) AS t
SELECT * FROM jsonb_to_recordset('[{"a": 1, "b": "x"}]') AS t(a int, b text)
SELECT xmlelement(NAME a, xmlattributes(1 AS b), 'c', xmlforest(2 AS d)), xmlconcat('<a/>', '<b/>'), xmlpi(NAME php, 'x')
SELECT xmlagg(xmlelement(NAME n, name) ORDER BY id) FROM shop.customers
SELECT xpath('//b/text()', doc), xmlexists('//b' PASSING doc) FROM shop.documents WHERE id = 1
SELECT t.* FROM shop.documents, XMLTABLE('/a/b' PASSING doc COLUMNS n int PATH '@n', v text PATH 'text()') AS t WHERE id = 1
SELECT xmlparse(CONTENT 'a<b/>'), xmlserialize(DOCUMENT '<a/>' AS text), '<a/>'::xml IS DOCUMENT, xmlroot('<a/>', VERSION '1.0')
SELECT body FROM shop.documents WHERE words @@ to_tsquery('english', 'fox | dog') ORDER BY id
SELECT ts_rank(words, q)::numeric(6,4), ts_headline('english', body, q) FROM shop.documents, plainto_tsquery('english', 'fox') q WHERE words @@ q
SELECT 'fat & cat'::tsquery, 'a fat cat'::tsvector, websearch_to_tsquery('english', '"fat cat" -dog')
SELECT extract(year FROM placed), date_trunc('month', placed), placed + interval '1 month', age(placed, '2025-01-01') FROM shop.orders ORDER BY id
SELECT timestamptz '2026-01-01 12:00+00' AT TIME ZONE 'UTC', timestamp '2026-01-01' AT TIME ZONE 'America/New_York' AT TIME ZONE 'UTC'
SELECT (date '2026-01-01', date '2026-02-01') OVERLAPS (date '2026-01-15', interval '1 day')
SELECT to_char(1234.5, 'FM9,999.00'), to_char(date '2026-07-04', 'Dy DD Mon YYYY'), to_date('04.07.2026', 'DD.MM.YYYY'), make_date(2026, 1, 2)
SELECT upper('a'), lower('B'), initcap('c d'), length('äö'), reverse('abc'), repeat('x', 3), left('abc', 2), right('abc', 2)
SELECT substring('abcdef' FROM 2 FOR 3), substring('abc' SIMILAR 'a#"b#"c' ESCAPE '#'), position('c' IN 'abc'), overlay('abcd' PLACING 'xx' FROM 2 FOR 1), trim(BOTH 'x' FROM 'xaxx')
SELECT format('%s %I %L', 'a', 'b c', 'd''e'), concat_ws('-', 1, NULL, 2), split_part('a.b.c', '.', 2), string_to_array('a,b', ','), translate('abc', 'ab', 'xy')
SELECT regexp_replace('abc', 'b', 'x'), regexp_matches('a1b2', '[0-9]', 'g'), regexp_count('aaa', 'a'), regexp_substr('abc', 'b.')
SELECT E'a\nb\t\\', U&'d\0061t\+000061', $$dollar 'quoted'$$, $tag$with $$ inside$tag$, B'101', X'1F', N'national', '\x41'::bytea
SELECT md5('a'), encode('abc', 'base64'), decode('YWJj', 'base64'), sha256('a'), convert_from('\xc3a4', 'UTF8'), crc32('a')
SELECT 7 / 2, 7 % 2, 2 ^ 10, |/ 16, ||/ 27, @ -5, 5 & 3, 5 | 3, 5 # 3, ~5, 1 << 3, -5 / 2.0, 0x1F, 0o17, 0b101, 1_000
SELECT abs(-1), ceil(1.2), floor(1.8), round(1.255, 2), trunc(1.9), mod(7, 3), power(2, 3), sqrt(2)::numeric(10,5), gcd(12, 18), factorial(5)
SELECT '192.168.1.0/24'::cidr >> '192.168.1.5'::inet, host('10.0.0.1/8'), macaddr '08:00:2b:01:02:03', '10.0.0.1'::inet + 5
SELECT point(1, 2), box '((0,0),(1,1))', circle '<(0,0),5>', point(1, 2) <-> point(4, 6), lseg '[(0,0),(1,1)]', path '((0,0),(1,1))'
SELECT int4range(1, 5) @> 3, int4range(1, 5) * int4range(3, 8), '{[1,3),[5,7)}'::int4multirange, range_agg(int4range(n, n + 1)) FROM generate_series(1, 3) n
SELECT '[1,2]'::shop.span, shop.span(1.0, 2.0), upper(shop.span(1.0, 2.0))
SELECT '11111111-2222-3333-4444-555555555555'::uuid, 12.34::money::numeric, 'a'::"char", '(1,2)'::point
SELECT shop.add(1, 2), shop.add(b => 1, a => 2), shop.twice(4), shop.sums(1, 2, 3), shop.sums(VARIADIC ARRAY[4, 5])
SELECT shop.customer_name(1)
SELECT shop.product(n) FROM generate_series(1, 5) AS n
SELECT ROW('a', 'b', 'N1')::shop.address OPERATOR(shop.===) ROW('c', 'd', 'N1')::shop.address
SELECT mood::integer FROM shop.customers ORDER BY id
SELECT * FROM shop.pick('animals') AS t(id integer, name text)
SELECT 5::shop.positive, 'x@y'::shop.email
SELECT 0::shop.positive
SELECT * FROM shop.active_customers ORDER BY id
SELECT * FROM shop.order_totals ORDER BY name
SELECT * FROM shop.sales ORDER BY status
SELECT * FROM shop.events ORDER BY id
SELECT * FROM shop.events_2026 ORDER BY id
SELECT * FROM shop.animals ORDER BY id
SELECT * FROM ONLY shop.animals
SELECT * FROM shop.animals* ORDER BY id
SELECT tableoid::regclass, id FROM shop.animals ORDER BY id
SELECT ctid, id FROM shop.stock s, shop.animals a WHERE false
SELECT * FROM "Odd Names"."Weird ""Table""" ORDER BY "a b"
SELECT "select", U&"\00DCn\00EF" FROM "Odd Names"."Weird ""Table""" ORDER BY 1
SELECT * FROM shop.private ORDER BY id
SELECT * FROM shop.customers FOR UPDATE
SELECT id FROM shop.customers ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
SELECT id FROM shop.customers WHERE id = 1 FOR SHARE NOWAIT
SELECT id FROM shop.customers WHERE id = 1 FOR KEY SHARE OF customers
SELECT * FROM shop.customers CROSS JOIN LATERAL (SELECT 1 FROM shop.stock FOR UPDATE) x WHERE false
SELECT * INTO shop.copied FROM shop.stock
SELECT id INTO TEMP copied_temp FROM shop.customers
SELECT id INTO UNLOGGED shop.copied_unlogged FROM shop.customers
SELECT nextval('shop.counter')
SELECT currval('shop.counter')
SELECT lastval()
SELECT setval('shop.counter', 500, false)
SELECT last_value, is_called FROM shop.counter
SELECT shop.note('from a select')
SELECT shop.tidy()
SELECT shop.fail()
SELECT set_config('work_mem', '5MB', false)
SELECT set_config('shop.setting', 'x', true), current_setting('shop.setting', true)
SELECT current_setting('standard_conforming_strings')
SELECT pg_advisory_lock(1)
SELECT pg_try_advisory_lock(2), pg_advisory_unlock(2), pg_advisory_unlock(1)
SELECT pg_advisory_xact_lock(3)
SELECT pg_advisory_unlock_all()
SELECT pg_notify('corpus', 'hello')
SELECT lo_create(4242)
SELECT lo_from_bytea(4243, '\x616263')
SELECT lo_get(4243)
SELECT lo_put(4243, 1, '\x7a')
SELECT lo_open(4243, 262144)
SELECT lo_open(4243, 131072)
SELECT loread(lo_open(4243, 262144), 10)
SELECT lowrite(lo_open(4243, 131072), '\x00')
SELECT lo_unlink(4242), lo_unlink(4243)
SELECT pg_sleep(0)
SELECT random() >= 0, clock_timestamp() IS NOT NULL, now() IS NOT NULL, txid_current() > 0, pg_backend_pid() > 0
SELECT gen_random_uuid() IS NOT NULL, uuidv7() IS NOT NULL
SELECT setseed(0.5)
SELECT pg_current_xact_id() IS NOT NULL, pg_current_snapshot() IS NOT NULL
SELECT pg_export_snapshot() IS NOT NULL
SELECT query_to_xml('SELECT 1 AS x', true, false, '')
SELECT query_to_xml('DELETE FROM shop.scratch WHERE id = -1 RETURNING id', true, false, '')
SELECT table_to_xml('shop.stock', true, false, '')
SELECT query_to_xmlschema('SELECT 1 AS x', true, false, '')
SELECT length(schema_to_xml('hidden', true, false, '')::text) > 0
SELECT * FROM ts_stat('SELECT words FROM shop.documents') WHERE false
SELECT ts_rewrite('a & b'::tsquery, 'SELECT ''a''::tsquery, ''c''::tsquery')
SELECT ts_rewrite('a & b'::tsquery, 'a'::tsquery, 'c'::tsquery)
SELECT pg_stat_reset()
SELECT pg_stat_clear_snapshot()
SELECT pg_switch_wal() IS NOT NULL
SELECT pg_logical_emit_message(true, 'corpus', 'x') IS NOT NULL
SELECT pg_logical_emit_message(false, 'corpus', 'x') IS NOT NULL
SELECT pg_relation_size('shop.stock') >= 0, pg_size_pretty(1024::bigint), pg_table_size('shop.stock') >= 0
SELECT has_table_privilege('corpus_reader', 'shop.stock', 'SELECT'), pg_get_viewdef('shop.active_customers'::regclass)
SELECT pg_get_functiondef('shop.twice(integer)'::regprocedure), pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'stock_amount_check'
SELECT obj_description('shop.stock'::regclass), col_description('shop.stock'::regclass, 1), shobj_description(1, 'pg_database')
SELECT current_user, session_user, current_schema, current_database() IS NOT NULL, current_catalog IS NOT NULL, user, current_role, system_user
SELECT current_date IS NOT NULL, current_time IS NOT NULL, current_timestamp(2) IS NOT NULL, localtime IS NOT NULL, localtimestamp IS NOT NULL
SELECT version() LIKE 'PostgreSQL%', pg_typeof(1), pg_column_size(1), num_nonnulls(1, NULL)
SELECT relname, relkind FROM pg_class WHERE relnamespace = 'shop'::regnamespace AND relkind IN ('v', 'm') ORDER BY relname
SELECT nspname FROM pg_namespace WHERE nspname IN ('shop', 'hidden') ORDER BY 1
SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'shop' AND table_name = 'stock' ORDER BY ordinal_position
SELECT table_name FROM information_schema.tables WHERE table_schema = 'hidden'
SELECT name, setting FROM pg_settings WHERE name = 'standard_conforming_strings'
SELECT tablename FROM pg_tables WHERE schemaname = 'shop' AND tablename LIKE 'c%' ORDER BY 1
SELECT count(*) >= 0 FROM pg_stat_activity
SELECT count(*) >= 0 FROM pg_locks
SELECT 'shop.stock'::regclass, 'shop.twice'::regproc, 'integer'::regtype, to_regclass('no.such')
SELECT 1 / 0
SELECT no_such_column FROM shop.stock
SELECT * FROM no_such_table
SELECT no_such_function(1)
SELECT 'x'::integer
SELECT * FROM shop.customers WHERE id = 'x'
SELEC 1
SELECT 'unterminated
SELECT (1
SELECT 1; SELECT 2
SELECT 1; SELECT 1/0; SELECT 3
;
SELECT 1;;SELECT 2;
/* only a comment */
/* a /* nested */ comment */ SELECT 1 -- and more
SELECT 1 AS "a""b", 2 AS "select", 3 AS "é", 4 AS "?column?"
SELECT $1
SELECT repeat('x', 100000)
SELECT n, repeat('y', n % 50) FROM generate_series(1, 2000) AS n
SELECT NULL, NULL::text, ''::text, ' '::text
SELECT 'ünïcödé ☃ 𝄞', '日本語', E'\u2603'
SELECT array_fill(0, ARRAY[2, 2]), array_length(ARRAY[1, 2], 1), array_to_string(ARRAY['a', NULL], ',', '*'), 1 = ANY ('{1,2}'), ARRAY[1] || 2
SELECT 'infinity'::timestamp, '-infinity'::date, 'NaN'::float8, 'Infinity'::numeric, 1e300::float8, 1e-300::float8
SELECT width_bucket(5, 0, 10, 5), div(7, 2), scale(1.50), trim_scale(1.50), sign(-3), pi()::numeric(6,4), degrees(0), sin(0)
SELECT EXISTS (SELECT 1), NOT EXISTS (SELECT 1), 1 IN (1, 2), NULL IS NULL, true AND NULL, false OR true, NOT true
SELECT count(*) FROM shop.customers c1, shop.customers c2, shop.customers c3
SELECT lower(name) COLLATE "C" AS l FROM shop.customers ORDER BY l DESC
SELECT max(total) FILTER (WHERE status = 'paid'), bool_and(total > 0), every(total > 0), bit_or(id), corr(id, total)::numeric(6,3) FROM shop.orders
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t (n, s) WHERE n > 1
SELECT * FROM (SELECT 1 AS a) LIMIT 1
SELECT array_agg(x) FROM (SELECT DISTINCT unnest(ARRAY[3, 1, 3]) AS x ORDER BY x) s
SELECT merge_action()
SELECT hashtext('a') = hashtext('a'), hashint4(1) = hashint4(1)
SELECT xmin IS NOT NULL FROM shop.stock WHERE sku = 'tea'
SELECT pg_read_file('PG_VERSION')
SELECT pg_ls_dir('base') IS NOT NULL LIMIT 1
SELECT size > 0 FROM pg_stat_file('PG_VERSION')
SELECT pg_read_binary_file('PG_VERSION', 0, 1)
SELECT pg_cancel_backend(-1)
SELECT pg_terminate_backend(-1)
SELECT pg_reload_conf()
SELECT pg_rotate_logfile()
SELECT pg_create_restore_point('corpus') IS NOT NULL
SELECT pg_drop_replication_slot('no_such_slot')
SELECT pg_replication_origin_create('corpus_origin') > 0
SELECT pg_replication_origin_drop('corpus_origin')
SELECT pg_import_system_collations('hidden') >= 0
SELECT brin_summarize_new_values('shop.customers_lower_name')
SELECT pg_restore_relation_stats('schemaname', 'shop', 'relname', 'scratch', 'relpages', 3)
SELECT pg_clear_relation_stats('shop', 'scratch')
SELECT pg_nextoid('pg_class', 'oid', 'pg_class_oid_index') > 0
SELECT currtid2('shop.stock', '(0,1)') IS NOT NULL
SELECT pg_get_sequence_data('shop.counter') IS NOT NULL
SELECT pg_sequence_last_value('shop.counter')
SELECT gin_clean_pending_list('shop.customers_lower_name')
SELECT lo_import('/nonexistent/file')
SELECT lo_export(1, '/nonexistent/file')
SELECT pg_prepared_xact() IS NULL WHERE false
SELECT pg_partition_root('shop.events_2026'), relid FROM pg_partition_tree('shop.events') ORDER BY 2
SELECT * FROM pg_partition_ancestors('shop.events_2026')
SELECT old.id FROM shop.stock old WHERE false
