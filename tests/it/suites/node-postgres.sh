#!/usr/bin/env bash
# node-postgres's integration tests, in the text and the binary format: `pg/test` as its
# Makefile runs it, one process for each file. Prints a line for each file and for each
# test in it: name, tabulator, outcome.
set -uo pipefail
cd "$1/pg" || exit 1

node script/create-test-tables.js >&2 || exit 1
# Where a whole second passes between two answers, that is the machine's, not pgate's.
export TEST_TIMEOUT=20000
for format in text binary; do
  while IFS= read -r file; do
    name=${file#test/integration/}
    said=$(timeout 60 node "$file" "$format" 2>&1 </dev/null)
    printf '%s (%s)\texit %s\n' "$name" "$format" $?
    printf '%s\n' "$said" >&2
    sed -nE 's/^  (.*[^ ]) +(✔|FAILED!|\? - SKIPPED)$/\1\t\2/p' <<<"$said" | while IFS= read -r line; do
      printf '%s (%s): %s\n' "$name" "$format" "$line"
    done
  done < <(find test/integration -name '*-tests.js' | LC_ALL=C sort)
done
