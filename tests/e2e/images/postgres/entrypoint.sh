#!/bin/bash
# Starts PostgreSQL like the official image does, as far as the examples use it: POSTGRES_USER, POSTGRES_PASSWORD,
# POSTGRES_DB, PGDATA, and the scripts of /docker-entrypoint-initdb.d.
set -euo pipefail
[ "${1:-}" = postgres ] || exec "$@"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres} database=${POSTGRES_DB:-${POSTGRES_USER:-postgres}}
  initdb --username="$user" --pwfile=<(printf '%s' "${POSTGRES_PASSWORD:?}") --auth=scram-sha-256 >/dev/null
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  export PGPASSWORD=$POSTGRES_PASSWORD
  pg_ctl --wait --silent -o "-c listen_addresses=''" start
  [ "$database" = postgres ] || createdb --username="$user" "$database"
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sql) psql --quiet -v ON_ERROR_STOP=1 --username="$user" --dbname="$database" --file="$file" ;;
      *.sh) . "$file" ;;
    esac
  done
  pg_ctl --wait --silent --mode=fast stop
fi
exec postgres -c listen_addresses='*' "${@:2}"
