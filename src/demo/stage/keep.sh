# Runs the control plane until standard input ends, then stops it and removes
# the folder that everything of the demo is in. The other end of that pipe is
# held by the demo, so nothing outlives it, however it ends.
#
#   sh -c "$(cat keep.sh)" keep FOLDER COMMAND…
set -u
folder=$1
shift
cd "$folder" || exit 1
trap '' HUP INT TERM

"$@" </dev/null >"$folder/server.log" 2>&1 &
server=$!
cat >/dev/null
kill -TERM "$server" 2>/dev/null
wait "$server"
cd /
rm -rf "$folder"
