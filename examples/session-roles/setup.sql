-- For psql, as a superuser of the server, in the database that agents use. PostgreSQL 14 or newer.

-- What agents may do: a role that nobody logs in as.
CREATE ROLE app_rw NOLOGIN;
GRANT USAGE ON SCHEMA public TO app_rw;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_rw;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app_rw;

-- The gateway's administrator: makes the sessions' roles, and has no rights on data.
CREATE ROLE gateway_admin LOGIN CREATEROLE PASSWORD 'change-me';

-- Since PostgreSQL 16 CREATEROLE alone grants nothing: the administrator must have been given the group to pass on.
SELECT current_setting('server_version_num')::int >= 160000 AS grants \gset
\if :grants
GRANT app_rw TO gateway_admin WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;
\endif
