#!/usr/bin/env bash
# What does looking cost? The throughput of a fixed decode loop (a transformer
# with random weights, as a CUDA graph) with and without nvpoll, in pairs whose
# order alternates. Needs bin/ and python3 with torch. Prints a table after each
# round of all comparisons, of two minutes; the last one is of all of them.
#
#   overhead.sh [SECONDS]     of pairs, 400: less than eight minutes in all
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PWD/bin:$PATH
exec python3 test/gpu/overhead.py "${1:-400}"
