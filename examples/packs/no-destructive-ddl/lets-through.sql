-- What this pack has nothing against, a statement a line. `make test` holds it to that.
select * from orders
with recent as (select * from orders where id > 10) select count(*) from recent
insert into orders (id, status) values (9999, 'placed')
update orders set status = 'paid' where id = 7
delete from orders where id = 7
with gone as (delete from orders where id = 7 returning *) select * from gone
merge into orders o using staged s on s.id = o.id when matched then update set status = s.status when not matched then insert values (s.id)
create table notes (id int primary key, text text)
create table copied as select * from orders
create index on orders (status)
create view paid as select * from orders where status = 'paid'
alter table orders add column remark text
alter table orders add constraint positive check (total > 0) not valid
alter table orders alter note set default ''
comment on table orders is 'what was bought'
create temp table mine (id int)
explain delete from orders
begin; update orders set status = 'paid' where id = 7; commit
do $$ begin update orders set status = 'paid' where id = 7; end $$
do $$ begin alter table orders add column n int; end $$
copy orders from stdin
prepare p as delete from orders where id = $1
select 'drop table orders'
select 1 as "drop table"
set statement_timeout = '5s'
