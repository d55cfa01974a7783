-- What a person or an agent does all day.
\set ON_ERROR_STOP off
create table customers (id int primary key, name text not null, email text unique, joined date default date '2024-01-01');
create table orders (id bigserial primary key, customer_id int references customers, total numeric(10,2) check (total >= 0));
create index on orders (customer_id);
create view big_orders as select * from orders where total > 100;
create function total_of(customer int) returns numeric language sql stable as 'select sum(total) from orders where customer_id = customer';
comment on table customers is 'who buys';
insert into customers values (1, 'Ada', 'ada@example.com'), (2, 'Émile', 'emile@example.com'), (3, 'Grace', null);
insert into orders (customer_id, total) select 1 + n % 3, n * 10.5 from generate_series(1, 30) n;
select * from customers order by id;
select c.name, count(*), sum(o.total) from customers c join orders o on o.customer_id = c.id group by c.name order by c.name;
with spent as (select customer_id, sum(total) s from orders group by 1) update customers set name = name || '!' from spent where id = customer_id and s > 1600 returning *;
delete from orders where total < 30 returning id;
explain (costs off) select * from orders where customer_id = 1;
-- errors, each with its place
select nope from customers;
selec 1;
insert into customers values (1, 'twice');
insert into orders (customer_id, total) values (99, 1);
select 1/0;
\errverbose
-- transactions
begin;
insert into customers values (10, 'lost');
savepoint s;
insert into customers values (10, 'again');
rollback to s;
select count(*) from customers;
rollback;
select count(*) from customers;
begin; select 1/0; select 1; commit;
-- several in one message
select 1\; select 2\; select 3;
select 1\; select 1/0\; select 3;
-- notices
do $$ begin raise notice 'hello %', 42; raise warning 'careful'; end $$;
drop table if exists not_there;
-- settings
set datestyle to 'German'; select date '2024-02-03'; reset datestyle;
set client_min_messages to error; do $$ begin raise notice 'unheard'; end $$; reset client_min_messages;
show server_version_num;
-- prepared
prepare by_id (int) as select name from customers where id = $1;
execute by_id(1); execute by_id(2);
deallocate by_id;
execute by_id(1);
-- cursors
begin; declare c scroll cursor for select id from orders order by id; fetch 3 from c; fetch backward 1 from c; move 5 in c; fetch last from c; close c; commit;
