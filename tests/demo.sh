#!/usr/bin/env bash
# The demo: the layout of the procedure that Muster replaces, on one machine. Two agents play two servers, `server1`
# on 127.0.0.1 and `server2` on 127.0.0.2, with three redis-servers each. Each is enrolled with a token; one command
# forms the cluster, with passwords and TLS; then an agent and a master are killed, Redis fails over, and the agent
# comes back and puts things right.
#
#   tests/demo.sh         run it; everything lives in .demo/ and goes when it ends
#   tests/demo.sh stop    take down what KEEP=1 left up
#
#   KEEP=1                leave it up at the end, and say how to use it
#   BASE_PORT=7000        six client ports from here on; their bus ports are 10000 above
#   COORDINATOR_PORT=7700
#
# It expects the binaries to be built (`make demo` does that). Waits are for something that is named, with a deadline.
set -euo pipefail
cd "$(dirname "$0")/.."

KEEP=${KEEP:-}
BASE_PORT=${BASE_PORT:-7000}
COORDINATOR_PORT=${COORDINATOR_PORT:-7700}
export PATH="$PWD/target/debug:$PATH"

bold='' plain=''
if [[ -t 1 ]]; then
  bold=$'\e[1m' plain=$'\e[0m'
else
  # redis-cli looks at nothing else before it paints.
  export TERM=dumb
fi
title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
say() { echo "demo: $*" >&2; }
fail() { say "$*"; exit 1; }
# Shows a command as the reader would type it, and runs it.
run() { printf '%s$ %s%s\n' "$bold" "$*" "$plain"; "$@"; }

# --- what runs, and how it ends ---------------------------------------------------------------------------------------
# All that the demo starts has its working directory in $root: the daemons in $root itself, each redis-server in its own
# directory below. So what is ours is read from /proc, and no pid file can lie.

root=$(readlink -f .demo || true)
# What a daemon or redis-server of the demo needs below $root; a unix socket's path may have 107 bytes.
longest=/server1/agent/agent.sock

alive() { [[ -r /proc/$1/stat ]] && [[ $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) != [ZX]* ]]; }

# Pids of ours: `daemons` or `servers`.
ours() {
  local kind=$1 entry cwd
  # Below an empty root would be everything that this machine runs.
  [[ $root == */* ]] || return 0
  for entry in /proc/[0-9]*; do
    cwd=$(readlink "$entry/cwd" 2>/dev/null) || continue
    case $kind:$cwd in
      "daemons:$root" | "servers:$root"/*) alive "${entry#/proc/}" && echo "${entry#/proc/}" ;;
    esac
  done
  return 0
}

# Asks to end, waits, and insists.
end() {
  local kind=$1 pids pid signal tries
  for signal in TERM KILL; do
    mapfile -t pids < <(ours "$kind")
    for pid in "${pids[@]}"; do
      kill -"$signal" "$pid" 2>/dev/null || true
    done
    for ((tries = 0; tries < 100; tries++)); do
      [[ -n $(ours "$kind") ]] || return 0
      sleep 0.1
    done
  done
  say "these $kind outlived SIGKILL: $(ours "$kind" | tr '\n' ' ')"
  return 1
}

# Agents first: one that lives would start its redis-servers again.
take_down() {
  [[ -n $root && -d $root ]] || return 0
  end daemons
  end servers
  rm -rf "$root" .demo
}

if [[ ${1:-} == stop ]]; then
  [[ -e .demo ]] || { say "there is no .demo/, so nothing is up"; exit 0; }
  take_down
  say "stopped; nothing is left"
  exit 0
elif [[ $# -gt 0 ]]; then
  sed -n '6,12p' "$0" | sed 's/^# \{0,1\}//' >&2
  exit 64
fi

# wait_for SECONDS WHAT COMMAND...: until the command succeeds. Past the deadline it says what was waited for, and what
# the command said last.
wait_for() {
  local seconds=$1 what=$2 last
  shift 2
  local deadline=$((SECONDS + seconds))
  until last=$("$@" 2>&1); do
    ((SECONDS < deadline)) || fail "waited $seconds s for this: $what. Last: ${last:-no answer}"
    sleep 0.1
  done
}

# --- before anything is started ---------------------------------------------------------------------------------------

for binary in muster muster-agent muster-coordinator redis-server redis-cli jq; do
  command -v "$binary" >/dev/null || fail "$binary is not there; \`make demo\` builds and installs what is missing"
done
if [[ -e .demo ]]; then
  if [[ -n $(ours daemons)$(ours servers) ]]; then
    fail "a demo is up already; stop it with: make demo-stop"
  fi
  rm -rf "$root" .demo
fi

last_port=$((BASE_PORT + 5))
taken=()
# An open port answers a connect; who it belongs to only root can always see.
look_at() {
  local address=$1 port=$2 holder
  if (exec 9<>"/dev/tcp/$address/$port") 2>/dev/null; then
    holder=$(ss -Hltnp "sport = :$port" 2>/dev/null |
      sed -n '1s/.*users:((\("[^"]*"\),pid=\([0-9]*\).*/\1, pid \2/p' || true)
    taken+=("$address:$port is taken by ${holder:-a process that only root can see (try: sudo ss -ltnp)}")
  fi
}
for ((port = BASE_PORT; port <= last_port; port++)); do
  address=127.0.0.$((port < BASE_PORT + 3 ? 1 : 2))
  look_at $address "$port"
  look_at $address $((port + 10000))
done
look_at 127.0.0.1 "$COORDINATOR_PORT"
if [[ ${#taken[@]} -gt 0 ]]; then
  printf 'demo: %s\n' "${taken[@]}" >&2
  say "nothing was started. Choose others:"
  say "  make demo BASE_PORT=$((BASE_PORT + 100)) COORDINATOR_PORT=$((COORDINATOR_PORT + 1))"
  exit 1
fi

if ((${#PWD} + 6 + ${#longest} < 107)); then
  mkdir .demo
else
  # The path of this checkout is too long for a unix socket.
  ln -s "$(mktemp -d /tmp/muster-demo.XXXXXX)" .demo
fi
root=$(readlink -f .demo)
export MUSTER_ENDPOINT=unix:$root/admin.sock

ended() {
  local status=$?
  trap - EXIT
  # An interrupt is no failure: only a failure needs the logs, at which nobody can look afterwards.
  if ((status > 128)); then
    say "interrupted"
  elif ((status != 0)); then
    tail -n 15 "$root"/*.log >&2 2>/dev/null || true
    tail -n 5 "$root"/server*/*/redis.log >&2 2>/dev/null || true
    say "failed (exit $status); the last lines of every log are above"
  fi
  if [[ -z $KEEP ]]; then
    take_down || status=2
    ((status != 0)) || echo "Everything is taken down; nothing is left. \`make demo KEEP=1\` leaves it up."
  elif ((status != 0)); then
    say "KEEP=1: what runs is left as it is, in $root; stop it with: make demo-stop"
  fi
  exit "$status"
}
trap ended EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- the daemons ------------------------------------------------------------------------------------------------------

# start NAME PROGRAM: in a session of its own, so that ^C here reaches the demo and not the daemons.
start() {
  local name=$1 program=$2
  (cd "$root" && exec setsid "$program" --config "$root/$name.toml" >>"$root/$name.log" 2>&1 </dev/null) &
  disown
}
# The process that was started with the config of this name.
pid_of() {
  local pid
  for pid in $(ours daemons); do
    if tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qxF "$root/$1.toml"; then
      echo "$pid"
    fi
  done
}

write_configs() {
  mkdir -p "$root/server1" "$root/server2"
  cat >"$root/coordinator.toml" <<CONFIG
state_dir = "$root/coordinator"
listen = "https://127.0.0.1:$COORDINATOR_PORT"
admin_socket = "$root/admin.sock"
CONFIG
  local nth first
  for nth in 1 2; do
    first=$((BASE_PORT + 3 * (nth - 1)))
    cat >"$root/server$nth.toml" <<CONFIG
name = "server$nth"
address = "127.0.0.$nth"
base_dir = "$root/server$nth"
coordinator = "https://127.0.0.1:$COORDINATOR_PORT"
ports = ["$first-$((first + 2))"]
CONFIG
  done
  cat >"$root/cluster.toml" <<SPEC
name = "orders"
replicas = 1
tls = true                        # for clients, replicas and the bus; passwords are the default

[[hosts]]
name = "server1"
ports = ["$BASE_PORT-$((BASE_PORT + 2))"]

[[hosts]]
name = "server2"
ports = ["$((BASE_PORT + 3))-$last_port"]

[redis.config]
appendonly = "yes"
cluster-node-timeout = "2000"     # so that the failover below takes seconds; 15000 is the server's default
SPEC
}

# host_is NAME STATE: succeeds when it is so, and says how it is.
host_is() {
  local state
  state=$(muster hosts --output json | jq -r --arg name "$1" '.hosts[] | select(.name == $name) | .state') || return 1
  echo "${state:-not known}"
  [[ $state == "$2" ]]
}
# enrol NAME: makes a token for a host, and lets its agent read it.
enrol() {
  muster token create --host "$1" --output json | jq -r .token | muster-agent --config "$root/$1.toml" enrol
}
coordinator_answers() { muster hosts; }
# ask HOST PORT WORDS...: redis-cli as a client of the cluster, logged in and over TLS. The password is in no argument.
ask() { REDISCLI_AUTH=$password redis-cli --tls --cacert "$root/ca.pem" -h "$1" -p "$2" "${@:3}"; }
# shown WORDS...: the same, as the reader would type it.
shown() {
  printf '%s$ redis-cli --tls --cacert ca.pem %s%s\n' "$bold" "$*" "$plain"
  REDISCLI_AUTH=$password redis-cli --tls --cacert "$root/ca.pem" "$@"
}
# instances FILTER: what a jq filter makes of orders' instances.
instances() { muster status orders --output json | jq -r "$1"; }

all_well() {
  local not_well
  not_well=$(instances '.instances[] | select(.state != "running" or (.role == "replica" and .link != "up"))
    | "\(.host):\(.port) is \(.role), \(.state), link \(.link)"') || return 1
  [[ -z $not_well ]] || { echo "$not_well"; return 1; }
}

# --- the scenes -------------------------------------------------------------------------------------------------------

began=$SECONDS
title "Two servers, with nothing on them but muster-agent"
write_configs
start coordinator muster-coordinator
wait_for 20 "the coordinator answers" coordinator_answers
for server in server1 server2; do
  printf '%s$ muster token create --host %s | muster-agent --config %s.toml enrol%s\n' "$bold" $server $server "$plain"
  enrol $server
  start $server muster-agent
done
wait_for 20 "server1 is live" host_is server1 live
wait_for 20 "server2 is live" host_is server2 live
run muster hosts

title "One command"
run cat .demo/cluster.toml
run muster bootstrap .demo/cluster.toml --yes

title "What there is now"
run muster status orders
password=$(muster credentials orders --output json | jq -r .password)
muster credentials orders --output json | jq -r .ca_pem >"$root/ca.pem"
run muster credentials orders | sed "s/$password/(the password)/"
shown --cluster check "127.0.0.1:$BASE_PORT"

title "Written and read through every master"
run muster smoke orders
keys=30
for ((key = 1; key <= keys; key++)); do
  ask 127.0.0.1 "$BASE_PORT" -c set "demo:$key" "value $key" >/dev/null
done
echo "and $keys keys of our own are in it"

title "Kill the agent of server1: its redis-servers do not notice"
before=$(instances '.instances[] | select(.host == "server1") | "\(.port) \(.pid)"' | sort)
agent=$(pid_of server1)
run kill -9 "$agent"
wait_for 20 "server1's agent is missed" host_is server1 unknown
run muster hosts
while read -r port pid; do
  alive "$pid" || fail "server1:$port, pid $pid, went with its agent"
  echo "server1:$port, pid $pid: $(ask 127.0.0.1 "$port" ping)"
done <<<"$before"

title "Now kill a master of server1: Redis fails over by itself"
read -r port pid id < <(instances \
  'first(.instances[] | select(.host == "server1" and .role == "master")) | "\(.port) \(.pid) \(.node_id)"')
read -r heir heir_id < <(instances \
  "first(.instances[] | select(.master == \"$id\")) | \"\(.address):\(.port) \(.node_id)\"")
echo "127.0.0.1:$port is a master; its replica is $heir"
run kill -9 "$pid"
killed_at=${EPOCHREALTIME/[.,]/}
promoted() {
  local line
  line=$(ask 127.0.0.2 "$last_port" cluster nodes | grep "^$heir_id")
  echo "$line"
  [[ $line == *master* && $line == *connected\ [0-9]* ]] || return 1
  [[ $(ask 127.0.0.2 "$last_port" cluster info) == *cluster_state:ok* ]]
}
wait_for 30 "$heir is promoted and the cluster is ok again" promoted
echo "$heir is master after $(((${EPOCHREALTIME/[.,]/} - killed_at) / 1000)) ms:"
shown -h 127.0.0.2 -p "$last_port" cluster nodes
run muster status orders
found=0
for ((key = 1; key <= keys; key++)); do
  [[ $(ask 127.0.0.2 "$last_port" -c get "demo:$key") != "value $key" ]] || found=$((found + 1))
done
echo "$found of $keys keys can be read"
((found == keys)) || fail "a key is missing"

title "Start the agent of server1 again: it finds the living, starts the dead"
start server1 muster-agent
wait_for 20 "server1 is live" host_is server1 live
returned() {
  instances ".instances[] | select(.node_id == \"$id\") | \"\(.role) \(.state) \(.pid)\"" |
    {
      read -r role state now
      echo "$role, $state, pid $now"
      [[ "$role $state" == "replica running" && $now != "$pid" ]]
    }
}
wait_for 60 "127.0.0.1:$port runs again, as a replica" returned
wait_for 30 "everything runs and every link is up" all_well
while read -r was_port was_pid; do
  is_pid=$(instances ".instances[] | select(.host == \"server1\" and .port == $was_port) | .pid")
  if [[ $was_port == "$port" ]]; then
    echo "server1:$was_port was pid $was_pid, was killed, and is pid $is_pid now"
  elif [[ $was_pid == "$is_pid" ]]; then
    echo "server1:$was_port is pid $is_pid, as before"
  else
    fail "server1:$was_port was pid $was_pid and is $is_pid: it should not have been touched"
  fi
done <<<"$before"
run muster status orders
# The last to learn of a change learns it by gossip.
wait_for 30 "every node has the same view again" muster check orders
# Its exit code 1 would mean a fatal finding; that roles are not the planned ones any more is Redis' right, and is said.
run muster check orders
shown --cluster check "127.0.0.1:$BASE_PORT"

title "New passwords: old and new are accepted until clients have moved"
run muster credentials rotate orders
old=$password
password=$(muster credentials orders --output json | jq -r .password)
with_both() {
  echo "with the new one: $(ask 127.0.0.1 "$BASE_PORT" ping)"
  echo "with the old one: $(password=$old ask 127.0.0.1 "$BASE_PORT" ping 2>&1 | grep -v "^$" | tail -n 1)"
}
with_both
run muster credentials finish orders
with_both
run muster audit --verify

title "Done in $((SECONDS - began)) s"
if [[ -n $KEEP ]]; then
  cat <<USE
It is left up, in $root. To use it:
  export MUSTER_ENDPOINT=$MUSTER_ENDPOINT PATH=$PWD/target/debug:\$PATH
  muster status orders --watch
  muster credentials orders
To stop it and remove everything:
  make demo-stop
USE
fi
