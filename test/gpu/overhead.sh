#!/usr/bin/env bash
# What does looking cost? The throughput of a fixed decode loop of GPT-2 (random
# weights) with and without nvpoll, in pairs whose order alternates. Needs bin/
# and python3 with torch and transformers; prints its table last.
#
#   overhead.sh [SECONDS]     of pairs, 400: less than eight minutes in all
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/bin:$PATH
exec python3 test/gpu/overhead.py "${1:-400}"
