# Makes a PostgreSQL cluster in a private folder and runs it until standard
# input ends. The other end of that pipe is held by the process that wants the
# cluster, so the server goes with it however it ends, kill -9 included.
#
#   sh -c "$(cat supervise.sh)" supervise BIN FOLDER
#
# FOLDER holds `password` and `settings`, and for a hot standby `primary`: the port of
# the cluster that it follows. Prints "ready", or what went wrong.
set -u
bin=$1
folder=$2
cd "$folder" || exit 1
umask 077

fail() {
    echo "$1"
    tail -n 20 "$folder/log"
    exit 1
}

clean() {
    "$bin/pg_ctl" stop --pgdata="$folder/data" --mode=immediate --silent >/dev/null 2>&1
    cd /
    rm -rf "$folder"
}

trap clean EXIT
trap '' HUP INT TERM

if [ -e "$folder/primary" ]; then
    # BIN may hold links to the server's own programs only.
    backup=$(dirname "$(readlink -f "$bin/postgres")")/pg_basebackup
    # The password goes into the standby's own connection settings from the environment.
    PGPASSWORD=$(cat "$folder/password") "$backup" --pgdata="$folder/data" \
        --host=127.0.0.1 --port="$(cat "$folder/primary")" --username=postgres --no-password \
        --write-recovery-conf --checkpoint=fast --no-sync >"$folder/log" 2>&1 ||
        fail "pg_basebackup failed"
else
    "$bin/initdb" --pgdata="$folder/data" --username=postgres --pwfile="$folder/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync --no-instructions \
        >"$folder/log" 2>&1 || fail "initdb failed"
fi
rm -f "$folder/password"
cat "$folder/settings" >>"$folder/data/postgresql.conf"

"$bin/pg_ctl" start --pgdata="$folder/data" --log="$folder/log" --wait --timeout=60 --silent \
    >/dev/null 2>&1 </dev/null || fail "the server did not start"
echo ready
cat >/dev/null
