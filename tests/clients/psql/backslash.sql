-- What psql asks the catalog by itself, and how it shows results.
create table public.shop (id int generated always as identity primary key, name text not null default 'x', price numeric, tags text[]);
create index shop_price on shop (price) where price > 0;
create view cheap as select * from shop where price < 10;
create type mood as enum ('sad', 'ok');
create sequence counter;
create function twice(n int) returns int language sql immutable as 'select n * 2';
create role somebody; grant select on shop to somebody;
insert into shop (name, price, tags) select 'thing ' || n, n, array['a', n::text] from generate_series(1, 12) n;
\d
\d shop
\d+ shop
\dt
\di
\dv+ cheap
\df twice
\sf twice
\dT+ mood
\ds
\dn
\dp shop
\du somebody
\l app
\dx
\x on
select * from shop where id = 1;
\x off
\pset format csv
select id, name from shop where id < 3;
\pset format aligned
\pset null '(none)'
select null as nothing;
select name as row, id % 3 as column, price as value from shop where id < 7 \crosstabview row column value
select 'select ' || n from generate_series(1, 3) n \gexec
select 7 as seven, 'x' as letter \gset
\echo :seven :letter
select :seven + 1, :'letter';
select * from shop where id = 1 \gdesc
select name from shop where id = 2 \gx
\if :{?seven}
select 'if works';
\endif
\copy (select id, name from shop where id <= 3) to stdout csv header
\copy shop (name, price) from stdin csv
copied one,1
copied two,2
\.
copy shop (name, price) from stdin;
third	3
fourth	4
\.
select count(*) from shop;
copy (select name from shop order by id desc limit 2) to stdout;
copy shop (price) from stdin;
not a number
\.
select 'alive';
\set FETCH_COUNT 5
select id from shop order by id;
\unset FETCH_COUNT
listen news;
notify news, 'for you';
select 'after notify';
\c
select current_database(), current_user;
drop owned by somebody; drop role somebody;
