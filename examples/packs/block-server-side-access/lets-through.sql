-- What this pack has nothing against, a statement a line. `make test` holds it to that.
select * from orders
copy orders to stdout
copy orders from stdin (format csv)
copy (select * from orders) to stdout (format binary)
insert into orders (id) values (9999)
update orders set note = 'copy x to program' where id = 7
delete from orders
drop table orders
create table notes (id int primary key, file text default '/etc/passwd')
create function total() returns bigint language sql as 'select count(*) from orders'
create function safe() returns int language plpgsql as 'begin return 1; end'
do $$ begin update orders set note = '' where id = 7; end $$
select pg_relation_size('orders'), pg_database_size(current_database())
select name, setting from pg_settings
select rolname from pg_roles
select * from pg_stat_activity
select pg_backend_pid(), current_setting('search_path'), version()
set statement_timeout = '5s'
set search_path = public
reset statement_timeout
explain analyze select * from orders
select 'pg_read_file', 'load'
select lower('LOAD')
begin; select 1; commit
grant select on orders to reporting
