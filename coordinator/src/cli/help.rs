//! What `--help` teaches: for each command a paragraph and examples. A test parses every example.

mod rebuild;
mod trust;

pub use self::rebuild::{PROTECT, REBUILD, TRASH, UNPROTECT, rebuild_long};
pub use self::trust::{AUDIT, CA, CONTEXT, CREDENTIALS, HOST, SECOND, TOKEN, USER, WHOAMI};
use crate::spec_file;

/// The coordinator's socket on its own host, where nothing else was said.
pub const SOCKET: &str = "/run/muster/admin.sock";

/// A command's paragraph and examples.
#[derive(Debug, Clone, Copy)]
pub struct Help {
    /// What it does, what it reads, what it changes.
    pub about: &'static str,
    /// Lines to copy.
    pub examples: &'static str,
}

macro_rules! exit_codes {
    () => {
        "EXIT CODES:
  0    done
  1    a finding or a refusal that you must act on; the message says how
  2    we failed: no coordinator, a lost connection, a fault of muster's own
  64   bad usage, or a spec file that is not right
  130  interrupted (Ctrl-C); an operation that has begun goes on"
    };
}

/// What the exit codes mean.
pub const EXIT_CODES: &str = exit_codes!();

/// Below the list of commands.
pub const TOP: &str = concat!(
    "EXAMPLES:
  muster hosts                              who is there
  muster plan cluster.toml                  what a bootstrap would do
  muster bootstrap cluster.toml             do it
  muster status --watch                     how it is doing
  muster check orders                       a verdict, with an exit code
  muster restart orders --host server1      masters hand over first
  muster rebuild orders --dry-run           what a wipe and new beginning would do
  muster credentials orders                 what clients log in with
  muster token create --host server3        let another host in

WHICH COORDINATOR, the first of these that is there:
  --endpoint, MUSTER_ENDPOINT, --context, MUSTER_CONTEXT, the current context
  (muster context use NAME), and on the coordinator's own host its socket,
  unix:/run/muster/admin.sock. An https:// endpoint takes its access from the
  context that is kept for it.

Data goes to stdout, everything else to stderr. With --output json each command
writes exactly one document, commands that watch one on each line, and what is
refused before anything was done none: stderr says why, and the exit code.
Fields are only ever added.

",
    exit_codes!()
);

/// `muster hosts`.
pub const HOSTS: Help = Help {
    about: "List the hosts whose agents have ever connected, with the age of what is shown.\n\n\
        A host is `live` when its agent was heard of within three heartbeats, and `unknown` otherwise: then \
        nothing is concluded about its instances, which go on without an agent. PORTS shows what lies at \
        each offered port: free, foreign (somebody else's, never touched), or the name of a cluster. TRUST is \
        how far an enrolled host is believed: pending, approved, quarantined or revoked; CERTIFICATE is when \
        its certificate ends, which its agent renews by itself.\n\n\
        With --facts every live host is asked how kernel, memory, disk and clock are; what Redis suffers from is \
        marked, with its cure, and the exit code is then 1. On a host, `muster-agent tune` sets the kernel.",
    examples: "EXAMPLES:
  muster hosts
  muster hosts --facts
  muster hosts --output json | jq -r '.hosts[] | select(.state != \"live\") | .name'

JSON: {\"hosts\": [{\"name\", \"address\", \"state\": \"live|unknown\", \"age_ms\",
        \"agent_version\", \"server\", \"ports\": [{\"port\", \"use\"}],
        \"trust\": {\"state\", \"reason\", \"since_unix_ms\", \"key_sha256\",
        \"certificate_expires_unix_ms\"} or null,
        \"facts\": [{\"name\", \"value\", \"good\", \"why\", \"cure\"}], \"facts_error\",
        \"findings\": [{\"severity\", \"code\", \"message\", \"cure\"}], ...}],
       \"coordinator_version\", \"term\"}",
};

/// `muster plan`.
pub const PLAN: Help = Help {
    about: "Show what a bootstrap of this spec would do. Changes nothing.\n\n\
        Every host is looked at (ports, directories, server, kernel, who reaches whom), masters and replicas \
        are placed, and the plan is shown with what the death of each host would mean. Fatal findings must \
        be dealt with before a bootstrap; warnings are yours to weigh. The exit code is 1 if a finding is \
        fatal.",
    examples: PLAN_EXAMPLES,
};

const PLAN_EXAMPLES: &str = "EXAMPLES:
  muster plan cluster.toml
  muster plan cluster.toml --why
  muster plan cluster.toml --output json | jq .plan.losses

`muster plan --help` shows a spec with every key.
JSON: {\"plan\": {\"hash\", \"shards\", \"losses\", \"findings\", ...} or null,
       \"existing\": {\"name\", \"formed\", \"operation_id\"} or null}";

/// `muster plan --help`, below the options: the examples and every key of a spec.
pub fn plan_long() -> String {
    format!("{PLAN_EXAMPLES}\n\nTHE SPEC:\n{}", spec_file::REFERENCE)
}

/// `muster bootstrap`.
pub const BOOTSTRAP: Help = Help {
    about: "Form a cluster from bare hosts, and prove that it works.\n\n\
        The plan is shown and your `yes` is asked for (--yes answers it; without a terminal it is needed). \
        Then the coordinator takes over: its operation is on disk, survives the death of the coordinator and \
        of any agent, and does not need this command. Ctrl-C ends the watching, not the work, and says how \
        to watch on. Success means that every node's own view equals the plan, every master took a write, \
        and every replica is in sync.\n\n\
        Running it again is safe: a spec that is already formed says so and exits 0, one that is being \
        formed is watched.",
    examples: "EXAMPLES:
  muster bootstrap cluster.toml
  muster bootstrap cluster.toml --yes
  muster bootstrap cluster.toml --yes --output json | jq .operation.phases

JSON: {\"operation\": {\"id\", \"state\", \"phases\": [{\"phase\", \"micros\"}], ...} or null,
       \"plan\": {\"hash\", \"shards\", \"preflight_micros\", ...} or null}",
};

/// `muster agent`.
pub const AGENT: Help = Help {
    about: "Ask what agents know of the processes on their hosts.\n\n\
        `ps` shows for every instance whose the process at its port is, and the evidence: *ours* is supervised; \
        *gone* means that the lock of the port is free, and it is started when that is safe; *foreign* (somebody \
        else has the port or the directory) and *unknown* (the lock is held, and something speaks against its \
        being ours, marked (!)) are left alone. On the host itself, without a coordinator: muster-agent ps.",
    examples: "EXAMPLES:
  muster agent ps
  muster agent ps server1
  muster agent ps --output json | jq -r '.processes[] | select(.standing != \"ours\") | .host, .port, .reason'

JSON: {\"processes\": [{\"host\", \"port\", \"cluster\", \"pid\", \"reason\", \"age_ms\",
       \"condition\": code or null, \"since_ms\", \"next_try_ms\": ms or null,
       \"standing\": \"ours|gone|foreign|unknown\", \"evidence\": [...]}]}",
};

/// `muster logs`.
pub const LOGS: Help = Help {
    about: "Show the log of a redis-server, read by its agent: no SSH, and no other way into the host.\n\n\
        The agent puts a log aside when it is longer than redis_log_mib of its config, and --follow goes on over \
        that. It takes the role operator.",
    examples: "EXAMPLES:
  muster logs orders server1:7000
  muster logs orders server1:7000 --follow --lines 20

JSON: {\"line\"} a line",
};

/// `muster events`.
pub const EVENTS: Help = Help {
    about: "Show what has happened on hosts: starts, ends with their reasons and last words, every change of an \
        instance's state, and what its agent did.\n\n\
        Each agent keeps a diary, which outlives it and the coordinator, and forgets the oldest (some thousand \
        entries a host). All hosts are asked side by side; one that is not heard is named, and the exit code is \
        then 1. Times are by the hosts' own clocks.",
    examples: "EXAMPLES:
  muster events
  muster events orders --host server1 --last 200
  muster events --output json | jq -r '.events[] | select(.what == \"ended\") | .host, .port, .text'

JSON: {\"events\": [{\"host\", \"unix_ms\", \"what\": \"agent|state|started|ended\", \"port\": or null,
        \"cluster\": or null, \"text\", \"condition\": code or null}],
       \"silent\": [{\"host\", \"why\"}]}",
};

/// `muster stop`.
pub const STOP: Help = Help {
    about: "Stop instances of a formed cluster: all, those of one host, or one. They stay stopped, over restarts of \
        agents and machines too, until `muster start`. Directories and data stay as they are.\n\n\
        A master hands over first, to a replica in sync that is not to be stopped (CLUSTER FAILOVER: no acknowledged \
        write is lost); a canary measures how long a client that writes has to wait. Then each server is asked to stop \
        (SIGTERM: it saves if it is set to), has the patience of its agent's config (stop_patience_ms), and is \
        killed then, but not while it saves. \
        *Stopped* is said when the lock of its port is free: then nothing of it runs, no child that saves either.\n\n\
        What would be done and what it means is shown first. Where slots would be served by nobody, as when a whole \
        cluster is stopped, the cluster's name is asked for (--confirm NAME); otherwise a yes (--yes). A cluster that \
        keeps nothing on disk loses its data when all copies of a shard are stopped: that takes the role destroyer.",
    examples: "EXAMPLES:
  muster stop orders --host server1 --dry-run
  muster stop orders --host server1 --yes
  muster stop orders --instance server2:7004
  muster stop orders --confirm orders

JSON: {\"operation\": {..., \"hand_overs\": [{\"from\", \"to\", \"gap_micros\", \"unmeasured\"}]}};
      with --dry-run, or where there is nothing to do:
      {\"cluster\", \"kind\", \"steps\": [...], \"consequences\": [...], \"unserved\"}",
};

/// `muster restart`.
pub const RESTART: Help = Help {
    about: "Restart instances of a formed cluster without taking it down: for a new redis-server, or after changes \
        on the host.\n\n\
        Replicas first, then masters, which hand over before (CLUSTER FAILOVER) and come back as replicas. The very \
        first goes alone. Of a shard one copy at a time, and only while all its others are in sync; shards side by \
        side. Whoever does not come back well stops everything that was not begun: the operation waits for you, says \
        for whom, and goes on by itself when that is mended; `muster op cancel` ends it where it is. It survives the \
        death of the coordinator and of agents.\n\n\
        The write gap of each hand-over, measured by a canary, is reported at the end. Masters stay where they went, \
        unless --give-back: then each gets its slots back when all is in sync again, with a second hand-over. \
        What is stopped is not started by it, unless it is named by --instance.",
    examples: "EXAMPLES:
  muster restart orders --dry-run
  muster restart orders --yes
  muster restart orders --host server1 --give-back
  muster restart orders --instance server2:7004 --yes --output json | jq .operation.hand_overs

JSON: as of `muster stop`",
};

/// `muster start`.
pub const START: Help = Help {
    about: "Start instances that were stopped, and have those that wait be tried now: after a pause, a crash loop, or \
        a conf that was put right. It ends when they run, and replicas are in sync with masters that run.\n\n\
        A master with replicas that has nothing to load waits until another node has its slots, because it would \
        empty its replicas (EMPTY_RESTART_GUARD in `muster status`). Where nobody can be elected any more and what \
        the replicas hold may be lost, --even-if-empty overrules that, for this one start. It takes the role \
        destroyer and the typed name, and where the coordinator wants two persons, a second one.",
    examples: "EXAMPLES:
  muster start orders
  muster start orders --host server1
  muster start orders --instance server1:7000
  muster start orders --instance server1:7000 --even-if-empty --confirm server1:7000

JSON: as of `muster stop`; with --even-if-empty:
      {\"cluster\", \"instance\", \"running\": true when it ran already}",
};

/// `muster status`.
pub const STATUS: Help = Help {
    about: "Show a cluster: what is wrong first, then by shard, then by host.\n\n\
        Roles and slots are what each instance says of itself, with the age of its saying; where they differ \
        from the plan (after a failover) it is noted. Without CLUSTER all clusters are listed, and if there \
        is just one it is shown; JSON without CLUSTER is always the list.",
    examples: "EXAMPLES:
  muster status
  muster status orders
  muster status orders --watch
  muster status orders --output json | jq -r '.instances[] | select(.role == \"master\") | .address'

JSON: {\"cluster\", \"incarnation\", \"state\": \"forming|formed|cancelling|stopped|rebuilding\",
       \"rotation\": what it waits for or null, \"roll\": the same of a stop, start or restart,
       \"rebuild\": the same of a rebuild or its undo, \"protection\": by whom or null,
       \"quarantined\": [directories of earlier lives on hosts that were not there],
       \"issues\": [...], \"hosts\": [...],
       \"instances\": [{\"host\", \"address\", \"port\", \"pid\", \"node_id\",
        \"role\": \"master|replica\", \"master\": node id or null, \"slots\": \"0-5460\",
        \"state\", \"link\": \"up|down|unknown\", or null for masters, \"age_ms\",
        \"reason\", \"condition\": code or null, \"since_ms\", \"next_try_ms\": or null,
        \"standing\", \"evidence\": [...], \"seen\", \"changed\": \"promoted|demoted|moved|slots\" or null, ...}]}
      without CLUSTER: {\"clusters\": [{\"cluster\", \"incarnation\", \"state\", ...}]}",
};

/// `muster check`.
pub const CHECK: Help = Help {
    about: "Ask every instance anew and judge the answers: against each other, the blueprint and the placement \
        rules.\n\n\
        Findings come first, then what was held to be true. The exit code is 1 if a finding is fatal or an \
        instance did not answer, because what does not answer was not judged; warnings alone leave it at 0. \
        Changes nothing.",
    examples: "EXAMPLES:
  muster check orders
  muster check orders --output json | jq .findings

JSON: {\"cluster\", \"ok\", \"answered\", \"instances\", \"passed\": [...],
       \"findings\": [{\"severity\": \"fatal|warning\", \"code\", \"host\", \"subject\",
        \"message\", \"cure\"}]}",
};

/// `muster smoke`.
pub const SMOKE: Help = Help {
    about: "Be a client of the cluster: write, read and remove one key through every master.\n\n\
        Each key is first sent to another master, so that the redirect is seen, and then through a cluster \
        client that follows it. The client is this process, and so this host must reach the instances; with \
        --from it is an agent's host. It logs in and speaks TLS as the cluster wants it. Keys are called \
        muster:smoke:{...} and expire after a minute if they could not be removed.",
    examples: "EXAMPLES:
  muster smoke orders
  muster smoke orders --from server1
  muster smoke orders --output json | jq .ok

JSON: {\"cluster\", \"from\": host or null, \"ok\",
       \"steps\": [{\"slot\", \"key\", \"asked\", \"answered\", \"error\", \"micros\"}]}",
};

/// `muster ops`.
pub const OPS: Help = Help {
    about: "List operations, newest first.\n\n\
        An operation is a journaled piece of work of the coordinator, such as a bootstrap. It goes on by \
        itself after any crash. `needs_operator` means that it waits for a person; its message says what to \
        type.",
    examples: "EXAMPLES:
  muster ops
  muster ops orders
  muster ops --output json | jq -r '.operations[] | select(.state == \"needs_operator\") | .id'

JSON: {\"operations\": [{\"id\", \"kind\", \"cluster\", \"phase\", \"message\",
        \"state\": \"running|paused|needs_operator|cancelling|done|cancelled\",
        \"started_unix_ms\", \"ended_unix_ms\", \"phases\", ...}]}",
};

/// `muster op`.
pub const OP: Help = Help {
    about: "Look at one operation, or direct it.\n\n\
        `watch` shows every event from the first on and ends with the operation: 0 if it is done, 1 if it \
        was cancelled or needs an operator. It reconnects when the coordinator restarts. `cancel` of a bootstrap is \
        refused once the cluster is formed; of a rotation, once the new credentials are in use: passwords are from \
        SWITCH on, certificates from `muster credentials finish` on. A stop, start or restart ends where it is. A \
        rebuild, or its undo, brings the cluster back as it was; that is refused once directories are set aside \
        (WIPE): then it can be paused and resumed, and undone (muster rebuild CLUSTER --undo). `show` says what takes \
        a rebuild back at that moment.",
    examples: "EXAMPLES:
  muster op show 0199a2b4-0000-7000-8000-000000000001
  muster op watch 0199a2b4-0000-7000-8000-000000000001
  muster op pause 0199a2b4-0000-7000-8000-000000000001
  muster op resume 0199a2b4-0000-7000-8000-000000000001
  muster op cancel 0199a2b4-0000-7000-8000-000000000001

JSON: {\"operation\": {...}}; `watch` writes lines of {\"seq\", \"unix_ms\", \"phase\",
      \"state\", \"message\", \"done\", \"total\"}",
};
