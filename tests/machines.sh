#!/usr/bin/env bash
# Makes the root tree that `make test-machines` boots its servers from: the smallest Debian with systemd and a
# redis-server, from the mirror that this machine's own apt uses. Kept in target/machines, and made anew when this
# script has changed. Takes root, half a minute, and 260 MB.
set -euo pipefail
cd "$(dirname "$0")/.."

tree=${CARGO_TARGET_DIR:-target}/machines/root
recipe=$(sha256sum "$0" | cut -d' ' -f1)
if [[ $(cat "$tree.recipe" 2>/dev/null) == "$recipe" && -d $tree ]]; then
  exit 0
fi
if [[ $EUID -ne 0 ]]; then
  echo "machines: whole servers are booted by root only" >&2
  exit 1
fi

# The suite of this machine, so that the binaries that were built here run there, which want its C library.
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
suite=${suite:-stable}
mirror=$(apt-get indextargets --format "\$(CODENAME) \$(COMPONENT) \$(REPO_URI)" 'Created-By: Packages' |
  awk -v suite="$suite" '$1 == suite && $2 == "main" { print $3; exit }')
eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
export http_proxy=${http_proxy:-}

echo "machines: a Debian $suite from ${mirror:?no mirror of it is among the sources of apt} (half a minute) ..." >&2
rm -rf --one-file-system "$tree" "$tree.new" "$tree.recipe"
mkdir -p "${tree%/*}"
log=$tree.log
if ! debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,redis-server "$suite" "$tree.new" "$mirror" \
  >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "machines: debootstrap failed, in its own words above; all of them are in $log" >&2
  exit 1
fi
# As the README says: the packaged instance would hold port 6379. Nobody logs in on a console, nothing is fetched.
systemctl --quiet --root="$tree.new" disable redis-server.service
systemctl --quiet --root="$tree.new" mask console-getty.service apt-daily.timer apt-daily-upgrade.timer
rm -rf "$tree.new/var/cache/apt/archives" "$tree.new/var/lib/apt/lists"
mv "$tree.new" "$tree"
echo "$recipe" >"$tree.recipe"
