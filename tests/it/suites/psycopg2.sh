#!/usr/bin/env bash
# psycopg 2's tests.
set -euo pipefail
cd "$1"
export PYTHONDONTWRITEBYTECODE=1
export PSYCOPG2_TESTDB=$PGDATABASE PSYCOPG2_TESTDB_HOST=$PGHOST PSYCOPG2_TESTDB_PORT=$PGPORT
export PSYCOPG2_TESTDB_USER=$PGUSER PSYCOPG2_TESTDB_PASSWORD=${PGPASSWORD:-}
exec timeout 1500 "$1/../python/bin/python" "$(dirname "${BASH_SOURCE[0]}")/unittests.py"
