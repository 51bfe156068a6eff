#!/usr/bin/env bash
# Says whether tests, benches and demo left something behind: a process that lives in one of their directories, such a
# directory itself, a mount on one, a network namespace, or a cgroup. Run it when none of them is running. Exit code 1
# when something is found.
set -euo pipefail
cd "$(dirname "$0")/.."

found=0
report() {
  echo "left behind: $*"
  found=1
}

demo=$(readlink -f .demo || echo "$PWD/.demo")
for entry in /proc/[0-9]*; do
  cwd=$(readlink "$entry/cwd" 2>/dev/null) || continue
  case $cwd in
    /tmp/mt-* | "$demo" | "$demo"/*) report "pid ${entry#/proc/} ($(tr '\0' ' ' <"$entry/cmdline"))" ;;
  esac
done
for path in /tmp/mt-* /tmp/muster-demo.* .demo; do
  if [[ -e $path || -L $path ]]; then
    report "$path"
  fi
done
for namespace in /run/netns/mt-*; do
  if [[ -e $namespace ]]; then
    report "network namespace ${namespace##*/}"
  fi
done
while read -r cgroup; do
  report "cgroup $cgroup"
done < <(find /sys/fs/cgroup -maxdepth 6 -type d -name 'mt-*' 2>/dev/null)
while read -r _ at _; do
  if [[ $at == /tmp/mt-* ]]; then
    report "a mount on $at"
  fi
done </proc/mounts
exit "$found"
