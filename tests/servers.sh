#!/usr/bin/env bash
# Unpacks other versions of redis-server and valkey-server than the installed one, for tests against all of them.
# Nothing is installed but patchelf (by apt-get, as root or with sudo, and said when it happens): no package of another
# suite, no service, no file outside the cache directory.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: tests/servers.sh all | NAME ... | NAME SUITE PACKAGE ...

  all                      every server of the table below
  NAME ...                 those of the table
  NAME SUITE PACKAGE ...   another one: the packages of that Debian suite, kept as NAME

      redis-6.0    bullseye   redis-server redis-tools
      redis-7.0    bookworm   redis-server redis-tools
      redis-8.0    trixie     redis-server redis-tools
      redis-sid    sid        redis-server redis-tools       the newest Redis
      valkey-8.1   trixie     valkey-server valkey-tools
      valkey-sid   sid        valkey-server valkey-tools     the newest Valkey

What comes of it is DIR/NAME/bin/{redis,valkey}-{server,cli,...}, running on libraries of its own under DIR/NAME.
DIR is $MUSTER_SERVERS, or target/servers in the repository. What is there and runs is left as it is; to have
one anew, delete DIR/NAME. Packages come from the Debian mirror that apt on this machine uses, checked by its keys.
Exit codes: 0 all there, 1 something could not be fetched, 64 wrong usage.
TEXT
}

say() { echo "servers.sh: $*" >&2; }
fail() { say "$1"; shift; for line in "$@"; do echo "  $line" >&2; done; exit 1; }

# The table is read out of the usage text, so that there is one of it.
table() { usage | awk '$2 ~ /^(bullseye|bookworm|trixie|sid)$/ { print $1, $2, $3, $4 }'; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "patchelf is missing and this is neither root nor a machine with sudo" "hint: apt-get install patchelf"
  fi
}

need_patchelf() {
  command -v patchelf >/dev/null && return
  say "installing patchelf on this machine with apt-get"
  as_root apt-get install -y -qq --no-install-recommends patchelf >/dev/null ||
    fail "patchelf could not be installed" "hint: apt-get update && apt-get install patchelf"
}

# The mirror that apt itself takes this machine's release from.
mirror() {
  local codename
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  # shellcheck disable=SC2016 # $(REPO_URI) is for apt, not for the shell.
  apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Codename: $codename" "Origin: Debian" | head -n 1
}

# A private apt for one suite: its own sources, lists, cache and an empty status, so that every library is "missing"
# here and comes along. Prints the path of its configuration.
private_apt() {
  local suite=$1 home=$dir/.apt/$1 uri
  if [ ! -e "$home/ready" ]; then
    uri=$(mirror)
    [ -n "$uri" ] || fail "apt on this machine has no Debian mirror in its lists" "hint: apt-get update"
    mkdir -p "$home"/{lists/partial,cache/archives/partial,none}
    : > "$home/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" > "$home/sources.list"
    # Old suites are not signed again, so their dates have passed.
    cat > "$home/apt.conf" <<CONF
Dir::Etc::main "$home/none/main"; Dir::Etc::parts "$home/none"; Dir::Etc::preferencesparts "$home/none";
Dir::Etc::sourcelist "$home/sources.list"; Dir::Etc::sourceparts "$home/none";
Dir::State "$home"; Dir::State::lists "$home/lists"; Dir::State::status "$home/status"; Dir::Cache "$home/cache";
APT::Install-Recommends "false"; APT::Sandbox::User ""; Acquire::Languages "none"; Acquire::Check-Valid-Until "false";
Debug::NoLocking "true";
CONF
    APT_CONFIG=$home/apt.conf apt-get update -qq ||
      fail "the lists of $suite cannot be read from $uri" \
        "hint: try again, or give apt on this machine a mirror that has $suite"
    touch "$home/ready"
  fi
  echo "$home/apt.conf"
}

# The banner of the server in a directory, or its loader's complaint and failure.
banner() {
  local server
  server=$(compgen -G "$1/bin/*-server") && "$server" --version 2>&1
}

unpack() {
  local name=$1 suite=$2 conf root version deb binary libraries loader
  shift 2
  if version=$(banner "$dir/$name"); then say "$name is there: ${version%% sha=*}"; return; fi
  need_patchelf
  conf=$(private_apt "$suite")
  root=$dir/.new.$name
  rm -rf "$root" && mkdir -p "$root/debs" "$root/bin"

  # Of all that apt would install only the servers and the libraries they link to are wanted: no init scripts, no users.
  APT_CONFIG=$conf apt-get install --simulate "$@" > "$root/plan" || fail "$suite does not have: $*"
  awk '/^Inst (lib|lua|zlib|redis|valkey)/ { print $2 }' "$root/plan" > "$root/wanted"
  (cd "$root/debs" && APT_CONFIG=$conf xargs apt-get download -qq < "$root/wanted") ||
    fail "packages of $suite could not be fetched" "hint: delete $dir/.apt/$suite if its lists have aged, and try again"
  for deb in "$root"/debs/*.deb; do dpkg-deb --extract "$deb" "$root/tree"; done
  rm -rf "$root/debs" "$root/plan" "$root/wanted"

  # The binaries are told to use the loader and the libraries of their own tree. What Debian ships as links becomes
  # files, so that each keeps its name; the paths are those of the final place.
  rm -rf "${dir:?}/$name" && mv "$root" "$dir/$name"
  root=$dir/$name
  loader=$(find "$root/tree" -name 'ld-linux*.so.*' | sort | head -n 1)
  [ -n "$loader" ] || fail "no dynamic loader came with the packages of $suite"
  libraries=$(find "$root/tree" -name '*.so.*' -printf '%h\n' | sort -u | paste -sd :)
  for binary in "$root"/tree/usr/bin/{redis,valkey}-*; do
    [ -e "$binary" ] || continue
    case $(head -c 4 "$binary") in $'\x7fELF') ;; *) continue ;; esac
    cp --dereference "$binary" "$root/bin/"
    patchelf --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" "$root/bin/${binary##*/}"
  done
  version=$(banner "$root") || fail "$name does not run" "${version:-no server is in its packages}"
  say "$name unpacked: ${version%% sha=*}"
}

case ${1:-} in
  '' | -*) usage; [ "${1:-}" = --help ] || [ "${1:-}" = -h ] || exit 64; exit 0 ;;
esac

dir=${MUSTER_SERVERS:-$(dirname "$0")/../target/servers}
mkdir -p "$dir" && dir=$(cd "$dir" && pwd)
exec 9> "$dir/.lock"
flock 9 # Two runs at once would unpack over each other.

if [ $# -ge 3 ] && ! table | grep -q "^$2 "; then
  unpack "$@"
  exit
fi
if [ "$1" = all ]; then
  mapfile -t names < <(table | cut -d ' ' -f 1)
else
  names=("$@")
fi
for name in "${names[@]}"; do
  read -r -a row < <(table | grep "^$name ") || { say "$name is not in the table"; usage >&2; exit 64; }
  unpack "${row[@]}"
done
