#!/bin/bash
# Records src/kernels/testdata/vec_avx512.txt: run once on a machine with AVX-512 BF16 after an
# operation of Vec was added to vec_probes.h.
set -euo pipefail
cd "$(dirname "$0")/.."
grep -qw avx512_bf16 /proc/cpuinfo || { echo "this CPU has no AVX-512 BF16" >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
g++ -std=c++20 -O2 -ffp-contract=off -Isrc -Wno-uninitialized -Wno-maybe-uninitialized \
  -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mavx512vnni \
  -mavx512vbmi tools/record_vectors.cpp -o "$dir/record"
cpu=$(awk -F': ' '/^vendor_id/ {v = $2} /^cpu family/ {f = $2} /^model\t/ {m = $2}
                  END {print v ", family " f ", model " m}' /proc/cpuinfo)
out=src/kernels/testdata/vec_avx512.txt
mkdir -p "$(dirname "$out")"
{
  echo "# Made by tools/record_vectors.sh on $cpu: name of the operation, bits of its 16 lanes."
  "$dir/record"
} > "$out"
