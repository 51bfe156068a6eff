//! What `--help` teaches about rebuilding: whoever has read it can say what will happen to his data before he types the
//! name.

use super::Help;

/// `muster rebuild`.
pub const REBUILD: Help = Help {
    about: "Stop a cluster, set all its directories aside, and form it anew and empty; or take that back.\n\n\
        The plan shows every directory first, with what it holds and what of that is on disk (KEEPS), and nothing is \
        done before you have typed the cluster's name. --dry-run only shows the plan. What was on disk can be had \
        back with --undo, for 7 days unless the agents' configs say otherwise.",
    examples: REBUILD_EXAMPLES,
};

const REBUILD_EXAMPLES: &str = "EXAMPLES:
  muster rebuild orders --dry-run              # what would be set aside, and what comes
  muster rebuild orders                        # shows it, and wants the name typed
  muster rebuild orders --confirm orders       # the same in a script
  muster rebuild orders --file cluster.toml    # to other hosts, replicas, settings
  muster rebuild orders --fence-missing server3
  muster rebuild orders --undo                 # the data that was set aside comes back

`muster rebuild --help` says what becomes of your data, and what the JSON has.";

const WHAT_HAPPENS: &str = "WHAT BECOMES OF YOUR DATA:
  Each instance's directory, <base_dir>/<port> on its host, is renamed whole to
  <base_dir>/.trash/<port>-<cluster>-<node>-life<N>. The rebuild copies nothing
  and deletes nothing; the new cluster begins without a key. Only what is on disk
  can come back, and KEEPS in the plan says what that will be:
    append-only file  what the server has taken until it was stopped
    snapshots         the same, since it saves as it stops; what it had at LAST
                      SAVE, where it cannot
    nothing           no data: it ends with the server, --undo brings it back empty
  The host's agent deletes it [trash] keep_hours of its config later (168, 7 days;
  0 is never), or sooner where keep_gib sets a limit. A full disk does not shorten
  that, and the trash shares the disk with the new cluster: muster trash NAME says
  how much it is and until when, muster trash purge deletes it at once.

WHAT IS NEW, WHAT STAYS, WHAT IS GONE:
  new    the life, a number that is also called incarnation; the node ids; the
         passwords that replicas and agents use among themselves
  stays  name and id; the spec (unless --file gives another), its users with their
         passwords, the authority of its TLS: clients log in as before
  gone   what was only set in running servers: CONFIG SET, ACL SETUSER, functions,
         scripts. --undo brings functions back with the data, the rest not.

PHASES, AND THE WAY BACK:
  FENCE      all servers stop, no directory     muster op cancel ID: what ran is
             is touched                         started again from disk, verified
  WIPE       the point of no return:            muster op pause ID, then
             directories are renamed            muster rebuild NAME --undo;
  CONFIGURE  new directories                    or wait until it is formed.
  START      all servers at once                op cancel is refused
  VERIFY     all agree, all masters take writes
  FORMED     done                               muster rebuild NAME --undo
  muster op pause|resume ID work in every phase: no other is begun meanwhile. What
  is stopped in FENCE stops all the same, and stays stopped. A rebuild that stands
  still past the point of no return (paused, or NEEDS OPERATOR) gives way to
  another one, or an undo, that is typed for the cluster, and that cannot be
  cancelled. One that runs refuses a second.
  Agents and coordinator may die at any moment: it goes on when they are back, and
  the cluster stays as it is until then, down if it was. Ctrl-C ends the watching.

HOW SERVERS STOP, AND WHAT CLIENTS SEE:
  All get SIGTERM at once, and save if they are set to; masters do not hand over.
  Who has not left after stop_patience_ms of the agent's config is killed, but not
  while he saves. No directory is touched before each agent has proved that
  nothing of its servers is left, no child that saves. Clients are refused their
  connections, then told CLUSTERDOWN for some 2 s, and then they find an empty
  cluster, at the addresses of the plan.

WHAT IS REFUSED:
  A cluster that is protected (muster protect).
  A cluster to which clients write in the second in which it is looked at, twice:
  for the plan, and when it is approved. Readers are no obstacle; who is connected
  and writes seldom is not seen, and the plan says that somebody is connected.
  One of which a server runs and does not answer (NOT_APPRAISED).
  --even-if-serving overrules both, of an undo too. What they write until their
  server stops is kept as KEEPS says; who tries again then writes into another
  cluster, and the two are never merged.
  A cluster with a host that is away. --fence-missing HOST leaves it out; that is
  for hosts that are gone, and one that answers is refused (FENCE_LIVE).

HOSTS THAT ARE AWAY:
  The new life gets other bus ports: 11000 above the client ports (or 12000, 9000)
  instead of 10000. Open them in the firewall; preflight dials them. A server that
  still runs on the host then finds nobody, and takes no write any more once its
  node timeout has passed; one that is started there by hand, no more than its
  node timeout and some 1 s after its start. What they took until then is in their
  directories alone.
  Hosts that together have most of the masters go on as a cluster of their own
  (ISLAND_SERVES): power them off first. Servers before 7.0 cannot have other bus
  ports, and with them it is refused.
  The host's directories are awaited from then on (Quarantined in muster status,
  which is not muster host quarantine): when its agent calls, it stops what runs
  there and sets it aside. The host is no part of the cluster then; to have it
  again: muster rebuild NAME --file SPEC. Until then an undo is refused, and the
  bus ports are not used again, of which there are four kinds. If the host is never
  to come back: muster host remove HOST. (Is it enrolled again, it is set aside all
  the same.)
  One that dies during FENCE is waited for. NEEDS OPERATOR is said when nothing
  has moved for verify_patience_ms of the coordinator's config (60 s); when it is
  back, it goes on. Gone for good: muster op cancel ID, and when that has ended,
  muster rebuild NAME --fence-missing HOST. Later than FENCE it is the same, but
  for the cancel: that rebuild takes the place of the one that stands still.

UNDO:
  A rebuild backwards, with the same plan, name, phases and refusals: the present
  life is set aside, and the one before it renamed back and started, with the node
  ids and the spec that it had; clients keep the passwords that they have now. It
  goes back one life; twice is where you were; each time the hours of what is set
  aside begin anew. A rebuild of a cluster that was rebuilt before ends the undo of
  that one (ENDS_UNDO). It is refused where
  there is no earlier life (NOTHING_TO_UNDO), where the trash has not all of it
  (TRASH_INCOMPLETE), and where a host of either life is away.

WHO MAY:
  rebuild, --undo and trash purge take a destroyer, and with two_persons a second
  one; --dry-run, op cancel|pause|resume and protect an operator; unprotect a
  destroyer. muster audit shows what was done.

EXIT CODES (without --dry-run it waits until the cluster is formed):
  0    formed; of --dry-run: nothing fatal speaks against it
  1    refused, the name was not typed, called off, or it NEEDS OPERATOR: then the
       operation goes on when that is mended (muster op watch ID)
  2    we failed: no coordinator; muster ops shows whether it has begun
  64   bad usage or spec: another name behind --confirm, none and no terminal
  130  Ctrl-C";

const REBUILD_JSON: &str = "JSON: {\"operation\": {...} or null, \"plan\": {..., \"rebuild\": {...}}}
 and in rebuild:
  cluster_id         which of the clusters that had this name
  incarnation        the life that ends
  becomes            the one that begins, or comes back
  undo               whether it comes back
  fenced             the hosts of --fence-missing
  bus_offset         from client port to bus port
  changes            of the spec, a sentence each
  even_if_serving    as typed
  supersedes         the operation that gives way, or null
  ends_undo_of       the life that --undo brings back now, and not any more then,
                     or null
  doomed             what is set aside, each with host, address, port, node_id, life
    path             the directory; here and below null for what is not known
    role             \"master|replica\"
    bytes            of its files
    keys             in its databases
    clients          connected ones, without Muster's own
    writes_millihertz  thousandths of a change a second
    last_save_unix_ms  of its snapshot
    keeps            \"append-only file|snapshots|nothing\"
    quarantined      its host is left out, and it is awaited from then on
    error            why what is null above is not known
  returns            what comes back, each with host, address, port, node_id, life
    bytes            of its files
    aside_unix_ms    since when it is in the trash; null: in place, or missing
    missing          why it cannot come back, so that undo is refused; or null";

/// `muster rebuild --help`, below the options: all of it.
pub fn rebuild_long() -> String {
    let examples = REBUILD_EXAMPLES.split("\n\n").next().unwrap_or_default();
    format!("{WHAT_HAPPENS}\n\n{examples}\n\n{REBUILD_JSON}")
}

/// `muster trash`.
pub const TRASH: Help = Help {
    about: "Show what rebuilds, and bootstraps that were called off, have set aside: which life of which cluster, how \
        much, until when, and what brings it back.\n\n\
        The trash is <base_dir>/.trash on each host, and its agent empties it: `muster rebuild --help` says when. \
        UNTIL is when the first directory of a life goes by age; what an undo that is under way needs is never \
        deleted. UNDO is there for the one life that an undo would put back now, if all of it is there \
        ([INCOMPLETE] says what is not); no command brings back another. \
        With CLUSTER each directory is shown. A host that is not heard is named, and the exit code is then 1.\n\n\
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
        by age, \"undoable\"}], \"unknown\": [...], \"incomplete\": [...]}
      purge: {\"purged\": [the same], \"errors\": [...]}",
};

/// `muster protect`.
pub const PROTECT: Help = Help {
    about: "Say that a cluster may not be rebuilt: `muster rebuild` refuses it, whatever is typed, with --undo \
        too. `muster stop` and `muster trash purge` are not stopped by it.\n\n\
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
