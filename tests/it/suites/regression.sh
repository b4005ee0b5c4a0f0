#!/usr/bin/env bash
# Runs scripts of PostgreSQL's regression suite as pg_regress does, one after the other:
# regression.sh FOLDER SUFFIX SCRIPT…. What psql prints of each is in
# FOLDER/results/SCRIPT.SUFFIX afterwards.
set -euo pipefail
folder=$1 suffix=$2
shift 2

export PG_ABS_SRCDIR=$folder PG_ABS_BUILDDIR=$folder PG_LIBDIR=$folder PG_DLSUFFIX=.so
export PGTZ=PST8PDT PGDATESTYLE='Postgres, MDY' LC_MESSAGES=C
export PGOPTIONS='-c intervalstyle=postgres_verbose'
mkdir -p "$folder/results"
for script; do
  timeout 300 psql -X -a -q -f "$folder/sql/$script.sql" >"$folder/results/$script.$suffix" 2>&1 \
    </dev/null || true
done
