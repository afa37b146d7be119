#!/usr/bin/env bash
# Are the GPU kernels right, and how fast are they? Holds each against float64 on
# fresh random input, then times it beside what PyTorch has for the same. Needs
# python3 with torch and cupy; prints one table of errors and one of times.
#
#   kernels.sh              less than a minute
#   kernels.sh TOOL         the first part under compute-sanitizer, as memcheck or racecheck
set -euo pipefail
cd "$(dirname "$0")/../.."
export CUDA_CACHE_DISABLE=1 # what the driver takes to compile the PTX is part of the report
if [ $# -gt 0 ]; then
  exec compute-sanitizer --tool "$1" --error-exitcode 1 python3 test/gpu/kernel_check.py --errors-only
fi
# The PTX is clang's; whoever has nvcc can make it too.
takes=0
if command -v nvcc >/dev/null; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  (cd pkg/cuda/kernels && printf '%s\n' *.cu | xargs -P4 -I{} nvcc -ptx -arch=compute_80 -std=c++17 -o "$scratch/{}.ptx" {}) || takes=1
  echo "nvcc $( ((takes)) && echo 'does not take' || echo takes) the sources"
fi
python3 test/gpu/kernel_check.py
exit $takes
