#!/usr/bin/env bash
# Forms a Redis Cluster the way a careful operator does it without Muster, as fast as that goes, and says how long each
# phase took: `<phase> <milliseconds>` a line on stdout, `total` last. `make bench` compares Muster with this.
#
#   tests/by-hand.sh [--rebuild] DIR REPLICAS ADDRESS:PORT...
#
# DIR must be new or empty. The servers run until this script ends, which takes them down and removes what it made.
# With --rebuild the clock starts later: it forms the cluster, says `formed`, waits for a line on its standard input
# (meanwhile somebody may write to the cluster), and then rebuilds it: SHUTDOWN NOSAVE, nodes.conf and data removed,
# everything started, FLUSHALL on each, created again.
#
# Done well means: directories and confs written by a script, every server started at once, `redis-cli --cluster create`
# in one go, and the end is looked for without sleeping through it. Settings are the server's defaults but for those
# without which it is no cluster, or none on these addresses. The clock stops when every node says cluster_state:ok and
# every replica's link is up, which is what Muster means by formed.
set -euo pipefail

usage() {
  sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//' >&2
  exit 64
}
rebuild=
if [[ ${1:-} == --rebuild ]]; then
  rebuild=yes
  shift
fi
[[ $# -ge 3 ]] || usage
dir=$1 replicas=$2
shift 2
nodes=("$@")
deadline_s=180

pids=()
# The servers hold nothing worth keeping: they are killed, and waited for, before their directories go.
take_down() {
  if [[ ${#pids[@]} -gt 0 ]]; then
    kill -KILL "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
  fi
  rm -rf "$dir"
}

say() { echo "by-hand: $*" >&2; }

mkdir -p "$dir"
[[ -z $(ls -A "$dir") ]] || { say "$dir is not empty"; exit 64; }
dir=$(cd "$dir" && pwd)
trap take_down EXIT

# Milliseconds since the epoch, without starting a process.
now() { local us=${EPOCHREALTIME/[.,]/}; REPLY=$((us / 1000)); }

# One inline command to one node, the reply in REPLY. A connection of bash's own: a redis-cli for each look would load
# the machine that is being measured.
ask() {
  local node=$1 command=$2 fd length
  REPLY=""
  { exec {fd}<>"/dev/tcp/${node%:*}/${node##*:}"; } 2>/dev/null || return 1
  printf '%s\r\n' "$command" >&"$fd"
  read -r length <&"$fd" || true
  length=${length%$'\r'}
  case $length in
    '$'*) IFS= read -r -N "${length#\$}" REPLY <&"$fd" || true ;;
    *) REPLY=$length ;;
  esac
  exec {fd}>&-
}

# A pipe that nobody writes to: reading it with a timeout is a pause that starts no process.
exec {idle}<> <(:)

# Waits until `ask NODE COMMAND` answers with TEXT in it. One deadline for the whole run; past it, the last answer is
# said.
now; started=$REPLY
await() {
  local node=$1 command=$2 text=$3 at
  while ! { ask "$node" "$command" && [[ $REPLY == *"$text"* ]]; }; do
    local last=$REPLY
    now; at=$REPLY
    if ((at - started > deadline_s * 1000)); then
      say "$node did not answer $command with $text within $deadline_s s; its last answer: ${last:-none}"
      exit 1
    fi
    read -r -t 0.005 -u "$idle" || true
  done
}

phase_began=$started
phase_ends() {
  now
  echo "$1 $((REPLY - phase_began))"
  phase_began=$REPLY
}

# Two hosts may use one port.
home_of() { echo "$dir/${1/:/-}"; }

write_conf() {
  local address=${1%:*} port=${1##*:} home
  home=$(home_of "$1")
  mkdir "$home"
  # The last two settings: without them a server on a host's second address tells its peers the first one.
  cat >"$home/redis.conf" <<CONF
port $port
bind $address
dir $home
logfile $home/redis.log
protected-mode no
cluster-enabled yes
cluster-config-file nodes.conf
bind-source-addr $address
cluster-announce-ip $address
CONF
  # What Muster sets unless it is told otherwise; without data on the disk there would be less to do.
  [[ -z $rebuild ]] || echo "appendonly yes" >>"$home/redis.conf"
}

start() {
  local node
  pids=()
  for node in "${nodes[@]}"; do
    redis-server "$(home_of "$node")/redis.conf" >/dev/null 2>&1 </dev/null &
    pids+=($!)
  done
  for node in "${nodes[@]}"; do
    await "$node" PING +PONG
  done
  phase_ends start
}

create() {
  local node synced=0 masters=$((${#nodes[@]} / (replicas + 1)))
  if ! redis-cli --cluster create "${nodes[@]}" --cluster-replicas "$replicas" --cluster-yes >"$dir/create.log" 2>&1
  then
    cat "$dir/create.log" >&2
    exit 1
  fi
  phase_ends create
  for node in "${nodes[@]}"; do
    await "$node" "CLUSTER INFO" cluster_state:ok
  done
  phase_ends cluster_ok
  for node in "${nodes[@]}"; do
    ask "$node" "INFO replication"
    if [[ $REPLY == *role:slave* ]]; then
      await "$node" "INFO replication" master_link_status:up
      synced=$((synced + 1))
    fi
  done
  if ((synced != ${#nodes[@]} - masters)); then
    say "$synced replicas are in sync, $((${#nodes[@]} - masters)) were expected"
    exit 1
  fi
  phase_ends replicas_in_sync
}

form() {
  local node
  for node in "${nodes[@]}"; do
    write_conf "$node"
  done
  phase_ends confs
  start
  create
}

# All are told at once, and then all are waited for.
stop() {
  local node fd
  for node in "${nodes[@]}"; do
    exec {fd}<>"/dev/tcp/${node%:*}/${node##*:}"
    printf 'SHUTDOWN NOSAVE\r\n' >&"$fd"
    exec {fd}>&-
  done
  wait "${pids[@]}" || true
  pids=()
  phase_ends stop
}

remove() {
  local node homes=()
  for node in "${nodes[@]}"; do
    homes+=("$(home_of "$node")")
  done
  rm -rf "${homes[@]/%//nodes.conf}" "${homes[@]/%//appendonlydir}" "${homes[@]/%//appendonly.aof}" \
    "${homes[@]/%//dump.rdb}"
  phase_ends remove
}

flush() {
  local node
  for node in "${nodes[@]}"; do
    await "$node" FLUSHALL +OK
  done
  phase_ends flushall
}

if [[ -z $rebuild ]]; then
  form
else
  form >/dev/null
  echo formed
  read -r _
  # A server that writes its first append-only file refuses to end.
  for node in "${nodes[@]}"; do
    await "$node" "INFO persistence" aof_rewrite_in_progress:0
  done
  now
  started=$REPLY phase_began=$REPLY
  stop
  remove
  start
  flush
  create
fi
now
echo "total $((REPLY - started))"
