#!/usr/bin/env bash
# Installs what Muster's demo, tests and benches need and this machine lacks. Says so when it does; otherwise is silent.
#
#   tests/setup.sh            what `make demo`, `make test` and `make bench` need
#   tests/setup.sh lint       what `make lint` needs besides
#   tests/setup.sh machines   what `make test-machines` needs besides
#   tests/setup.sh fuzz       what `make fuzz` needs besides
#
# Packages come from the system (Debian and its children). A redis-server that this script installs is neither started
# nor enabled: the test machine is nobody's cache. One that was there before is left exactly as it is.
set -euo pipefail

# Command, and the package that has it.
needs=(
  "redis-server redis-server"
  "redis-cli redis-tools"
  "cc gcc libc6-dev"    # SQLite is compiled into the coordinator
  "jq jq"               # the scripts read `--output json` with it
  "ip iproute2"         # tests cut networks in two
  "openssl openssl"     # tests look at certificates with it
  "mount mount"         # tests fill disks up
  "setpriv util-linux"  # an agent is run with nothing but its unit's capabilities
  "systemd-analyze systemd"  # judges the units; nothing of it has to run
)
if [[ ${1:-} == lint ]]; then
  needs+=("shellcheck shellcheck")
elif [[ ${1:-} == machines ]]; then
  needs+=("debootstrap debootstrap" "systemd-nspawn systemd-container" "nsenter util-linux")
elif [[ ${1:-} == fuzz ]]; then
  needs+=("c++ g++")    # libFuzzer is C++
fi

say() { echo "setup: $*" >&2; }

missing=()
for need in "${needs[@]}"; do
  read -r command packages <<<"$need"
  command -v "$command" >/dev/null || missing+=("$packages")
done

# Rust is the one thing that does not come from the system: Debian's is too old for the pinned toolchain.
check_cargo() {
  if ! command -v cargo >/dev/null; then
    say "cargo is missing. Install rustup, which fetches the toolchain that rust-toolchain.toml names:"
    say "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . ~/.cargo/env"
    exit 1
  fi
}

if [[ ${#missing[@]} -eq 0 ]]; then
  check_cargo
  exit 0
fi
read -ra packages <<<"${missing[*]}"

if ! command -v apt-get >/dev/null; then
  say "these are missing, and this script only knows apt-get: ${packages[*]} (Debian's package names)"
  say "install them with this system's package manager, without starting a redis-server, and run this again"
  exit 1
fi
if [[ $EUID -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    say "missing: ${packages[*]}; run this as root: apt-get install ${packages[*]}"
    exit 1
  fi
  say "asks sudo, to install ${packages[*]}"
  sudo "$0" "$@"
  check_cargo
  exit 0
fi

# While packages are installed, policy-rc.d says 101 to every request to start a service. The machine's own policy, if
# there is one, stands aside and comes back, whatever happens in between.
policy=/usr/sbin/policy-rc.d
aside=$policy.before-muster-setup
hold_services() {
  if [[ -e $policy && ! -e $aside ]]; then
    mv "$policy" "$aside"
  fi
  printf '#!/bin/sh\n# Put here by tests/setup.sh of Muster while it installs packages.\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}
release_services() {
  rm -f "$policy"
  if [[ -e $aside ]]; then
    mv "$aside" "$policy"
  fi
}

say "installs ${packages[*]} from the system's packages; no service will be started or enabled"
trap release_services EXIT
hold_services
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
install() {
  apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "${packages[@]}" >"$log" 2>&1
}
# The lists on a fresh machine are empty or old: look again once before giving up.
if ! install && ! { apt-get update -q >"$log" 2>&1 && install; }; then
  cat "$log" >&2
  say "apt-get failed, in its own words above"
  rm -f "$log"
  exit 1
fi
rm -f "$log"

# The package enables its unit for the next boot, which policy-rc.d has no say in. Both tools only move links.
if [[ " ${packages[*]} " == *" redis-server "* ]]; then
  if command -v systemctl >/dev/null; then
    systemctl disable --quiet redis-server.service 2>/dev/null || say "could not disable redis-server.service"
  elif command -v update-rc.d >/dev/null; then
    update-rc.d redis-server disable >/dev/null || say "could not disable redis-server in /etc/rc*.d"
  fi
fi
say "done: $(redis-server --version | cut -d' ' -f1-3)"
check_cargo
