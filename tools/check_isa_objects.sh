#!/bin/bash
# check_isa_objects.sh NM OBJECT...: fails when an object that was compiled for one CPU family
# defines a weak symbol. The linker keeps one copy of such a function for the whole program; were it
# the one with AVX-512 code, the program would die on a machine without AVX-512.
set -euo pipefail
nm=$1
shift
symbols=$("$nm" -A -C --defined-only "$@")
if weak=$(grep -E ' [VWu] ' <<<"$symbols"); then
  echo "$weak"
  echo "weak symbols in objects of one CPU family: move the function into an anonymous namespace,"
  echo "or do without that standard header in kernels"
  exit 1
fi
