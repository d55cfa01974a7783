-- The extended protocol by hand (psql 18).
select $1::int + $2::int as sum \bind 40 2 \g
select $1::int as ten \bind 10 \gset
\echo :ten
select $1::text \bind 'it''s' \gx
select 1 / $1::int \bind 0 \g
select 'alive' \bind \g
select $1::int * 2 as doubled \parse double
\bind_named double 21 \g
\bind_named double 4 \g
\close_prepared double
\bind_named double 4 \g
\startpipeline
select $1::int \bind 1 \sendpipeline
select $1::int \bind 2 \sendpipeline
\syncpipeline
select 1/0 \bind \sendpipeline
select 'skipped' \bind \sendpipeline
\syncpipeline
select 'last' \bind \sendpipeline
\endpipeline
select n from generate_series(1, 3) n \watch i=0.05 c=2
