#!/bin/bash
# ci.sh [STAGE...]: the checks beyond ./test; without arguments all of them, in this order. Each
# prints a heading with its duration. The last line is "N passed, N failed, N skipped"; where
# HADAL_COUNTS names a file, what it holds already is counted in.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stages=(layers format kill asan tsan tidy fuzz aarch64)
fuzz_seconds=60    # for all targets together
tidy_seconds=480
declare -A limit=([layers]=60 [format]=120 [kill]=600 [asan]=2400 [tsan]=1500 [tidy]=800 [fuzz]=900 [aarch64]=1200)
werror=-DHADAL_WERROR=ON

passed() { echo "1 passed, 0 failed, 0 skipped" >>"$HADAL_COUNTS"; }
failed() { echo "0 passed, 1 failed, 0 skipped" >>"$HADAL_COUNTS"; return 1; }
check() { if "$@"; then passed; else failed; fi; }

# The folders of src/ whose code starts threads, locks or shares atomics.
threaded_folders() {
  grep -lErZ '#include (<(thread|atomic|mutex|condition_variable|future)>|"core/parallel.h")' src \
    --include='*.h' --include='*.cpp' | xargs -0 -n1 dirname | cut -d/ -f2 | sort -u
}

stage_layers() { check tools/check_layers.py; }

stage_format() {
  check bash -c "git ls-files -z -- '*.h' '*.cpp' '*.inl' | xargs -0 -r clang-format-14 --dry-run -Werror"
}

# Beside the few kills of ./test.
stage_kill() {
  tools/build.sh release -DHADAL_TESTS=ON $werror -- hadal || { failed; return 1; }
  check tools/kill_test.py build/release/hadal --kills 200
}

stage_asan() {
  tools/build.sh asan -DHADAL_TESTS=ON $werror || { failed; return 1; }
  # Leaks count: the library frees what it takes.
  ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1 \
  UBSAN_OPTIONS=print_stacktrace=1 tools/run_tests.py build/asan
}

stage_tsan() {
  cmake --preset tsan -DHADAL_TESTS=ON $werror >/dev/null || { failed; return 1; }
  local suites=() folder
  for folder in $(threaded_folders); do
    grep -qx "${folder}_tests" build/tsan/test_executables.txt && suites+=("${folder}_tests")
  done
  [ ${#suites[@]} -gt 0 ] || { echo "no tests of code with threads"; failed; return 1; }
  tools/build.sh tsan -- "${suites[@]}" || { failed; return 1; }
  TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 tools/run_tests.py build/tsan "${suites[@]}"
}

stage_tidy() {
  tools/build.sh tidy -DHADAL_TESTS=ON -- hadal_version_header || { failed; return 1; }
  tools/tidy.py build/tidy --budget $tidy_seconds
}

stage_fuzz() {
  local targets=() target name status=0 seeds scratch
  for target in tests/fuzz/fuzz_*.cpp; do
    [ -e "$target" ] && targets+=("$(basename "$target" .cpp)")
  done
  [ ${#targets[@]} -gt 0 ] || { echo "no targets in tests/fuzz"; return 0; }
  tools/build.sh asan -DHADAL_TESTS=ON $werror -- "${targets[@]}" || { failed; return 1; }
  for target in "${targets[@]}"; do
    name=${target#fuzz_}
    scratch=$(mktemp -d)  # what the fuzzer finds goes here, not into the repository
    seeds=()
    for dir in "tests/fuzz/corpus/$name" tests/fuzz/attacks; do [ -d "$dir" ] && seeds+=("$dir"); done
    local options=(-max_total_time=$((fuzz_seconds / ${#targets[@]})) -timeout=10 -rss_limit_mb=4096
                   -print_final_stats=0 -verbosity=0 "-artifact_prefix=$scratch/")
    [ -e "tests/fuzz/$name.dict" ] && options+=("-dict=tests/fuzz/$name.dict")
    mkdir "$scratch/new"
    if "build/asan/$target" "${options[@]}" "$scratch/new" "${seeds[@]}" >"$scratch/log" 2>&1; then
      echo "ok   $target"
      passed
    else
      status=1
      echo "FAIL $target"
      tail -n 60 "$scratch/log"
      for input in "$scratch"/{crash,leak,timeout,oom}-*; do
        [ -e "$input" ] && echo "input ($(stat -c %s "$input") bytes, base64): $(head -c 6000 "$input" | base64 -w0)"
      done
      failed
    fi
    rm -rf "$scratch"
  done
  return $status
}

stage_aarch64() { tools/aarch64.sh $werror || return 1; }

if [ "${1:-}" = --stage ]; then  # one stage, in a process of its own so that it can be stopped
  stage_"$2"
  exit
fi

own_counts=
if [ -z "${HADAL_COUNTS:-}" ]; then
  HADAL_COUNTS=$(mktemp)
  own_counts=$HADAL_COUNTS
fi
export HADAL_COUNTS
trap '[ -z "$own_counts" ] || rm -f "$own_counts"' EXIT

status=0
for stage in "${@:-${stages[@]}}"; do
  if [ -z "${limit[$stage]:-}" ]; then
    echo "ci.sh: no stage $stage; there are: ${stages[*]}" >&2
    exit 2
  fi
  start=$SECONDS
  before=$(wc -l <"$HADAL_COUNTS")
  timeout --kill-after=10 "${limit[$stage]}" "$0" --stage "$stage"
  result=$?
  if [ $result -ne 0 ]; then
    status=1
    [ $result -eq 124 ] && echo "stopped: stage $stage took more than ${limit[$stage]} s"
    # A stage that ended before it could count itself is a failure all the same.
    tail -n "+$((before + 1))" "$HADAL_COUNTS" | grep -q ', [1-9][0-9]* failed' || failed
  fi
  echo "== $stage: $([ $result -eq 0 ] && echo good || echo BAD), $((SECONDS - start)) s"
done

awk '{p += $1; f += $3; s += $5} END {printf "%d passed, %d failed, %d skipped\n", p, f, s}' "$HADAL_COUNTS"
exit $status
