#!/usr/bin/env bash
# Drives the fuzz targets by coverage, with cargo-fuzz on the pinned stable toolchain.
#
#   tests/fuzz.sh SECONDS [TARGET]     every target, or that one, for so long
#
# The sanitizers want a nightly compiler and are left out: there is no unsafe code in these parsers. Coverage, overflow
# checks and debug assertions are in. What is found to take new branches is kept below target/fuzz; what fails is kept
# there too, and said. The committed corpus is only read.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?how many seconds for each target}
cases=$PWD/target/fuzz
tool=$PWD/target/tools/bin/cargo-fuzz
all=(tests/fuzz/corpus/*)
all=("${all[@]##*/}")
targets=("${all[@]}")
if [[ -n ${2:-} ]]; then
  targets=("$2")
fi

tests/setup.sh fuzz
if [[ ! -x $tool ]]; then
  echo "fuzz: installs cargo-fuzz into target/tools (a minute or two) ..." >&2
  cargo install cargo-fuzz --root target/tools --locked --quiet
fi
fuzz() {
  local verb=$1
  shift
  # An instrumented build is slow to optimise, and half the speed of the targets is enough.
  "$tool" fuzz "$verb" --fuzz-dir tests/fuzz --target-dir "$cases/build" --sanitizer none --debug-assertions \
    --codegen-units 16 "$@"
}

echo "fuzz: builds the targets (the first time takes six minutes and more) ..." >&2
fuzz build
failed=()
for target in "${targets[@]}"; do
  if [[ ! -d tests/fuzz/corpus/$target ]]; then
    echo "fuzz: there is no target $target; there are: ${all[*]}" >&2
    exit 64
  fi
  mkdir -p "$cases/corpus/$target" "$cases/failed/$target"
  echo "fuzz: $target for $seconds s" >&2
  log=$cases/$target.log
  if fuzz run "$target" "$cases/corpus/$target" "tests/fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$cases/failed/$target/" >"$log" 2>&1; then
    grep -E 'stat::(number_of_executed_units|new_units_added|peak_rss_mb)' "$log" | sed 's/^stat::/  /' >&2
  else
    failed+=("$target")
    tail -n 40 "$log" >&2
  fi
done
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "fuzz: failed: ${failed[*]}; what they failed on is in $cases/failed" >&2
  exit 1
fi
