//! What `--help` teaches about who may do what.

use super::Help;

/// `muster credentials`.
pub const CREDENTIALS: Help = Help {
    about: "Show what clients of a cluster log in with, or change it without downtime.\n\n\
        The password goes to stdout, and the coordinator's audit keeps who asked for it. `rotate` draws new \
        secrets and has old and new accepted side by side: move the clients, then `finish`, from which on \
        the old ones are refused. A cluster that is called like one of the commands is shown by `muster \
        credentials show NAME`. Needs the role operator.",
    examples: "EXAMPLES:
  muster credentials orders
  muster credentials orders --user reporting
  muster credentials orders --only ca > orders-ca.pem
  muster credentials show orders --output json | jq -r .password
  muster credentials rotate orders
  muster credentials rotate orders --certificates
  muster credentials finish orders

JSON: {\"cluster\", \"user\": name or null, \"password\": text or null, \"tls\": bool,
       \"ca_pem\": PEM or null, \"overlap\": bool}
      rotate, finish: {\"operation\": {...}}",
};

/// `muster token`.
pub const TOKEN: Help = Help {
    about: "Let hosts in: a join token is a secret that lets a host enrol, for a while.\n\n\
        It also names the fleet's authority by its hash, so that the host knows whom it speaks to before it \
        trusts anybody. The secret itself never travels. A token for a named host approves that host; one for \
        any host leaves it pending, until `muster host approve`. Needs the role admin.",
    examples: "EXAMPLES:
  muster token create --host server1
  muster token create --uses 20 --ttl 2h
  muster token create --host server1 | ssh server1 muster-agent --config /etc/muster/agent.toml enrol
  muster token list
  muster token revoke k3v9x2

JSON: create: {\"token\", \"id\", \"host\": name or null, \"expires_unix_ms\", \"command\"}
      list: {\"tokens\": [{\"id\", \"host\", \"uses_left\", \"expires_unix_ms\", \"rejoin\", \"approve\"}]}
      revoke: {\"id\", \"revoked\": true}",
};

/// `muster host`.
pub const HOST: Help = Help {
    about: "Decide how far a host is believed. None of it stops a redis-server.\n\n\
        `quarantine` is the brake: the host is cut off at once and comes back by `approve`. `revoke` refuses \
        its key for good; to come back it needs a rejoin token. `remove` forgets a host without instances, \
        and what a rebuild has left behind on it. \
        Revoking and removing ask for the host's name (--confirm HOST stands for it in scripts), and where two \
        persons are needed a second one agrees by `muster second`.",
    examples: "EXAMPLES:
  muster host approve server1
  muster host quarantine server1 --reason seen-twice
  muster host revoke server1 --reason stolen --confirm server1
  muster host remove server1 --confirm server1
  muster host rejoin-token server1

JSON: {\"host\", \"trust\": {\"state\", \"reason\", \"since_unix_ms\", \"key_sha256\",
       \"certificate_expires_unix_ms\"}}; remove: {\"host\", \"removed\": true};
      rejoin-token: as `muster token create`",
};

/// `muster user`.
pub const USER: Help = Help {
    about: "Let people and automation in, each with a role.\n\n\
        viewer looks; operator forms clusters, directs operations and reads passwords; destroyer does what \
        cannot be taken back; admin decides who is who. `add` shows an access string once: hand it over, and \
        the other side keeps it with `muster context add`. Needs the role admin.",
    examples: "EXAMPLES:
  muster user add alice --role operator
  muster user add ci --role viewer --ttl 30d --output json | jq -r .access
  muster user list
  muster user remove alice

JSON: add: {\"access\", \"user\": {\"name\", \"role\", \"expires_unix_ms\", \"created_unix_ms\", \"certified\"}}
      list: {\"users\": [...]}; remove: {\"user\", \"removed\": true}",
};

/// `muster context`.
pub const CONTEXT: Help = Help {
    about: "Coordinators by name, each with the fleet's authorities and your access.\n\n\
        `add` reads the access string that an admin made (muster user add) from standard input: without being \
        shown on a terminal, or as one line of a pipe. It is checked against the coordinator before it is kept. \
        With --certificate a key is made here, and the string is traded for a client certificate; a user has one, \
        so that a second trade ends what the first has brought: make a user for each machine. When the \
        fleet's authority is rotated, contexts follow by themselves the next time they are used.\n\n\
        They are kept in $MUSTER_CONFIG, or muster/contexts.toml in $XDG_CONFIG_HOME or ~/.config, which is \
        for its owner's eyes alone. Which one is used: --endpoint, MUSTER_ENDPOINT, --context, MUSTER_CONTEXT, \
        the current context, the socket of this host; the first of these that is there.",
    examples: "EXAMPLES:
  muster context add prod --endpoint https://192.168.1.5:7700
  muster context add prod --endpoint https://192.168.1.5:7700 --certificate < access.txt
  muster context add here --endpoint unix:/run/muster/admin.sock
  muster context use prod
  muster context list
  muster context remove prod

JSON: list: {\"current\": name or null, \"contexts\": [{\"name\", \"current\", \"endpoint\", \"user\",
       \"how\": \"access-string|certificate\" or null, \"expires_unix_ms\"}]}
      add, use, remove: {\"context\": {...}}",
};

/// `muster whoami`.
pub const WHOAMI: Help = Help {
    about: "Show who you are to the coordinator, what you may do, and until when.\n\n\
        On the coordinator's own host that is the owner of its socket, who may everything; elsewhere it is the \
        user of the context in use.",
    examples: "EXAMPLES:
  muster whoami
  muster --context prod whoami --output json | jq -r .role

JSON: {\"caller\", \"role\": \"viewer|operator|destroyer|admin\" or null, \"expires_unix_ms\": ms or null,
       \"endpoint\", \"context\": name or null}",
};

/// `muster second`.
pub const SECOND: Help = Help {
    about: "Be the second person for something that destroys.\n\n\
        Where the coordinator wants two, the first is refused and told an id. Another person with the role \
        destroyer agrees with it, and then the first has 15 minutes to do the same once more, once.",
    examples: "EXAMPLES:
  muster second 4f7k2m

JSON: {\"id\", \"what\", \"first\"}",
};

/// `muster ca`.
pub const CA: Help = Help {
    about: "The fleet's certificate authorities: who signs, who is believed.\n\n\
        `rotate` makes a new authority, which signs from now on and is signed by the old one too, so that \
        nobody is locked out. Hosts follow by themselves, users with a client certificate when they next type a \
        command; when the old one has signed for none of them any more, `retire` stops believing it. A \
        context that was not used in between has to be made anew then. Listing needs the role viewer, changing \
        admin.",
    examples: "EXAMPLES:
  muster ca list
  muster ca list --output json | jq -r '.authorities[].certificate_pem' > fleet.pem
  muster ca rotate
  muster ca retire

JSON: {\"authorities\": [{\"sha256\", \"signs\", \"created_unix_ms\", \"expires_unix_ms\",
       \"hosts\": [...], \"users\": [...], \"certificate_pem\"}]}",
};

/// `muster audit`.
pub const AUDIT: Help = Help {
    about: "Show what was done or refused, by whom and from where, oldest first.\n\n\
        Each entry holds the hash of the one before it, and where they end is sealed with the store's key. \
        --verify fetches all of them and checks that nothing was changed, taken out or cut off; the exit code is \
        1 if something was. An older copy of the whole store shows only to whoever kept the last number and hash \
        elsewhere. Needs the role operator.",
    examples: "EXAMPLES:
  muster audit
  muster audit --last 500
  muster audit --verify
  muster audit --output json | jq -r '.entries[] | select(.action == \"Trust/GetCredentials\")'

JSON: {\"entries\": [{\"seq\", \"unix_ms\", \"caller\", \"from\", \"action\", \"detail\", \"sha256\", \"previous\"}]}
      --verify: {\"holds\": bool, \"entries\", \"last_seq\", \"last_sha256\", \"error\": text or null}",
};
