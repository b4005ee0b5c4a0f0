#!/usr/bin/env bash
# asyncpg's tests, but for those of its own sources and programs.
set -euo pipefail
cd "$1"
export PYTHONDONTWRITEBYTECODE=1
exec timeout 1500 "$1/../python/bin/python" "$(dirname "${BASH_SOURCE[0]}")/unittests.py" \
  test_adversity test_cache_invalidation test_cancellation test_codecs test_connect test_copy \
  test_cursor test_exceptions test_execute test_introspection test_listeners test_logging \
  test_pool test_prepare test_record test_scram test_subinterpreters test_timeout \
  test_transaction test_types test_utils
