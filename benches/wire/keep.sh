# Runs a command until standard input ends, then ends it and removes a folder.
# The other end of that pipe is held by the benchmark, so nothing outlives it,
# however it ends.
#
#   sh -c "$(cat keep.sh)" keep FOLDER COMMAND…
#
# Prints the command's process id first; what the command prints follows.
set -u
folder=$1
shift
trap '' HUP INT TERM

"$@" </dev/null &
child=$!
echo "$child"
# Not a byte ever comes: this waits for the end.
cat >/dev/null
kill -TERM "$child" 2>/dev/null
wait "$child"
rm -rf "$folder"
