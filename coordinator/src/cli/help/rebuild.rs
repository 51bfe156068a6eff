//! What `--help` teaches about rebuilding: whoever has read it can say what will happen to his data before he types the
//! name.

use super::{EXIT_CODES, Help};

/// `muster rebuild`.
pub const REBUILD: Help = Help {
    about: "Stop a cluster, set all its directories aside, and form it anew and empty; or take that back.\n\n\
        Nothing is deleted: every directory is renamed into .trash on its own host, and --undo puts it back. The plan \
        shows each of them first, with what it holds, and nothing is done before you have typed the cluster's name \
        (--confirm NAME stands for that in scripts; any other name is refused). --dry-run only shows the plan. It \
        takes the role destroyer, and where the coordinator wants two persons, a second one.",
    examples: REBUILD_EXAMPLES,
};

const REBUILD_EXAMPLES: &str = "EXAMPLES:
  muster rebuild orders --dry-run              # what would be set aside, and what comes
  muster rebuild orders                        # shows it, and wants the name typed
  muster rebuild orders --confirm orders       # the same in a script
  muster rebuild orders --file cluster.toml    # to other hosts, replicas, settings
  muster rebuild orders --fence-missing server3
  muster rebuild orders --undo                 # the data that was set aside comes back

`muster rebuild --help` says what becomes of your data.
JSON: {\"operation\": {...} or null, \"plan\": {..., \"rebuild\": {\"incarnation\", \"becomes\",
       \"undo\", \"doomed\": [{\"host\", \"port\", \"path\", \"node_id\", \"role\", \"bytes\",
        \"keys\", \"clients\", \"writes_millihertz\", \"last_save_unix_ms\", \"keeps\",
        \"quarantined\", \"error\"}], \"returns\": [{\"host\", \"port\", \"bytes\",
        \"aside_unix_ms\"}], \"fenced\", \"bus_offset\", \"changes\", \"supersedes\"}}}";

const WHAT_HAPPENS: &str = "WHAT BECOMES OF YOUR DATA:
  Each instance has a directory, <base_dir>/<port> on its host. It is renamed to
  <base_dir>/.trash/<port>-<cluster>-<node>-life<N>, whole: append-only file,
  snapshot, conf, log. Nothing is copied and nothing is deleted. The new cluster
  has new directories and no keys at all.
  It stays there until the host's agent makes room: after [trash] keep_hours of
  its config, 168 (7 days) unless it says otherwise, 0 for ever; or sooner where
  keep_gib sets a limit of size. `muster trash CLUSTER` says until when, and
  `muster trash purge` is the only command that deletes.
  What was never on disk cannot be set aside. KEEPS in the plan says what each
  directory holds: append-only file, snapshots, or nothing. Where it is nothing,
  the data ends when the server is stopped, and --undo brings back none.

WHAT IS NEW, AND WHAT STAYS:
  new    the incarnation (one higher), every node id, the passwords that
         replicas and agents use among themselves
  stays  the cluster's name and id, its spec (unless --file gives another), the
         users of clients with their passwords, the authority of its TLS: clients
         log in as before

HOW IT GOES:
  FENCE      Every server of the cluster is stopped, on every host. Clients are
             cut off from here on. No directory is touched before each agent has
             proved that nothing of its servers is left, no child that saves.
             Way back: muster op cancel ID. The cluster is started again with
             all its data, and verified.
  WIPE       The point of no return: directories are renamed, each with a permit
             that holds once. From here on it can be paused and resumed
             (muster op pause|resume ID), not called off.
             Way back: muster rebuild CLUSTER --undo, once it is formed; or at
             once, where it needs an operator or was paused.
  CONFIGURE, START, VERIFY, FORMED
             as of a bootstrap: new directories, all servers at once, every node
             agrees, every master has taken a write.
  It survives the death of the coordinator and of agents, at any moment, and
  does not need this command: Ctrl-C ends the watching and not the work.

WHAT IS REFUSED:
  A cluster to which clients write, unless --even-if-serving.
  A cluster that is protected (muster protect), always.
  A cluster with a host that is not there, which is named. With --fence-missing
  HOST it is rebuilt without that host, and on other bus ports (11000 above the
  client ports, say, instead of 10000): a server that still runs there finds
  nobody, and takes no write any more once its node timeout has passed; what it
  took until then is in its directory alone. Where the hosts that are away have
  a majority of the masters, they go on among themselves: power them off first.
  Their directories are quarantined (muster status): when a host is back, its
  agent stops what runs and sets it aside, before anything else. Hosts that do
  answer cannot be fenced off. Servers before 7.0 cannot have other bus ports,
  and with them it is refused.

UNDO:
  --undo is a rebuild backwards, with the same plan, name, fence and proofs: the
  present cluster is stopped and set aside, and the directories of the life
  before are renamed back and started, with the node ids and the data that they
  had. All of them have to be there still. What clients have written to the
  present cluster is not merged into it: that is set aside too, up to the last
  write before FENCE, and --undo once more brings that back.

";

/// `muster rebuild --help`, below the options: all of it.
pub fn rebuild_long() -> String {
    format!("{WHAT_HAPPENS}{EXIT_CODES}\n\n{REBUILD_EXAMPLES}")
}

/// `muster trash`.
pub const TRASH: Help = Help {
    about: "Show what rebuilds have set aside: which life of which cluster, how much, until when, and what brings it \
        back.\n\n\
        The trash is <base_dir>/.trash on each host. Its agent deletes what is older than [trash] keep_hours of its \
        config (168 unless it says otherwise; 0 for ever), and the oldest first beyond keep_gib. UNTIL is when the \
        first directory of a life goes by age; what an undo that is under way needs is never deleted. With CLUSTER \
        each directory is shown. A host that is not heard is named, and the exit code is then 1.\n\n\
        `purge` deletes for good, at once, on the hosts that are live. It shows what, and wants the name of the \
        cluster typed (--confirm NAME). The cluster is told by its id: a new one may have the old name. It takes the \
        role destroyer, and where the coordinator wants two persons, a second one.",
    examples: "EXAMPLES:
  muster trash
  muster trash orders
  muster trash --output json | jq '[.entries[].bytes] | add'
  muster trash purge --cluster-id 6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f --incarnation 1
  muster trash purge --cluster-id 6f1c2a34-8d1e-4b52-9f3a-0c5d7e9b1a2f --host server1

JSON: {\"entries\": [{\"cluster\", \"cluster_id\", \"incarnation\", \"host\", \"port\", \"life\",
        \"node_id\", \"name\", \"bytes\", \"aside_unix_ms\", \"until_unix_ms\": or null when not
        by age, \"undoable\"}], \"unknown\": [...]}
      purge: {\"purged\": [the same], \"errors\": [...]}",
};

/// `muster protect`.
pub const PROTECT: Help = Help {
    about: "Say that a cluster may not be rebuilt: `muster rebuild` refuses it, whatever is typed, with --undo \
        too.\n\n\
        `muster status` shows who has said so, and when. It is refused while the cluster is being rebuilt. It takes \
        the role operator; taking it back, a destroyer.",
    examples: "EXAMPLES:
  muster protect orders
  muster unprotect orders

JSON: {\"cluster\", \"protected\": true, \"already\"}",
};

/// `muster unprotect`.
pub const UNPROTECT: Help = Help {
    about: "Say that a cluster may be rebuilt again. It is not touched by that; `muster rebuild` asks for its name all \
        the same. It takes the role destroyer.",
    examples: "EXAMPLES:
  muster unprotect orders

JSON: {\"cluster\", \"protected\": false, \"already\"}",
};
