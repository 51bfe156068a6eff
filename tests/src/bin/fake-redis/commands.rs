//! What clients ask, and what they are told.

use std::{
    fmt::Write as _,
    io::{BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use muster_proto::{Sha256, slots::key_slot};

use crate::{
    resp::{self, Command, NIL, OK, array, bulk},
    server::{Server, State},
};

/// A connection, over either kind of socket.
pub trait Stream: Read + Write + Send + Sized + 'static {
    /// The same one again, to read from.
    fn twin(&self) -> std::io::Result<Self>;
}

impl Stream for TcpStream {
    fn twin(&self) -> std::io::Result<Self> {
        self.set_nodelay(true)?;
        self.try_clone()
    }
}

impl Stream for UnixStream {
    fn twin(&self) -> std::io::Result<Self> {
        self.try_clone()
    }
}

/// Answers a client for as long as it stays.
pub fn converse(server: &Arc<Server>, mut stream: impl Stream) {
    let server = server.clone();
    thread::spawn(move || {
        let Ok(twin) = stream.twin() else { return };
        server.state().clients += 1;
        let mut reader = BufReader::new(twin);
        let mut client = Client { user: None };
        while let Ok(Some(words)) = resp::read(&mut reader) {
            if words.is_empty() {
                continue;
            }
            let answer = client.answer(&server, &words);
            if stream.write_all(&answer).is_err() {
                break;
            }
        }
        server.state().clients -= 1;
    });
}

struct Client {
    /// Logged in as that one.
    user: Option<String>,
}

impl Client {
    fn answer(&mut self, server: &Server, words: &Command) -> Vec<u8> {
        let texts: Vec<String> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let name = texts[0].to_ascii_uppercase();
        let second = texts.get(1).map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        if name == "AUTH" {
            return self.log_in(&server.state(), &texts[1..]);
        }
        let open = server.state().users.get("default").is_some_and(|rules| rules.contains(" nopass"));
        if self.user.is_none() && !open {
            return error("NOAUTH Authentication required.");
        }
        match (name.as_str(), second.as_str()) {
            ("PING", _) => b"+PONG\r\n".to_vec(),
            ("INFO", _) => bulk(info(server, &server.state()).as_bytes()),
            ("CLUSTER", "NODES") => {
                let state = server.state();
                bulk(server.nodes.text(|id| server.flag(&state, id)).as_bytes())
            }
            ("CLUSTER", "INFO") => bulk(cluster_info(server, &server.state()).as_bytes()),
            ("CLUSTER", "MYID") => bulk(server.nodes.me.as_bytes()),
            ("CLUSTER", "SLOTS") => slots(server),
            ("CONFIG", "GET") => {
                let state = server.state();
                let found = texts[2..].iter().filter_map(|key| state.settings.get_key_value(&key.to_ascii_lowercase()));
                array(&found.flat_map(|(key, value)| [key.clone(), value.clone()]).collect::<Vec<_>>())
            }
            ("CONFIG", "SET") => {
                let pairs = texts[2..].chunks_exact(2).map(|pair| (pair[0].to_ascii_lowercase(), pair[1].clone()));
                server.state().settings.extend(pairs);
                OK.to_vec()
            }
            ("ACL", "WHOAMI") => bulk(self.user.as_deref().unwrap_or("default").as_bytes()),
            ("ACL", "USERS") => array(&server.state().users.keys().cloned().collect::<Vec<_>>()),
            ("ACL", "LIST") => array(&server.state().users.values().cloned().collect::<Vec<_>>()),
            ("ACL", "DELUSER") => {
                let gone = texts[2..].iter().filter(|user| server.state().users.remove(*user).is_some()).count();
                integer(gone as u64)
            }
            ("ACL", "SETUSER") if texts.len() > 2 => {
                let rules = texts[3..].iter().filter(|rule| !rule.starts_with("reset"));
                let line = rules.fold(format!("user {}", texts[2]), |line, rule| format!("{line} {rule}"));
                server.state().users.insert(texts[2].clone(), line);
                OK.to_vec()
            }
            ("CLIENT", "LIST") => bulk(b""),
            ("CLIENT" | "READONLY" | "SELECT", _) => OK.to_vec(),
            ("DBSIZE", _) => integer(server.state().keys.len() as u64),
            ("SET" | "DEL" | "GET", _) if words.len() > 1 => keys(server, &name, words),
            ("FLUSHALL", _) => {
                server.state().write(words);
                OK.to_vec()
            }
            ("WAIT", _) => wait(server, &texts),
            ("SHUTDOWN", _) => {
                server.leave();
                process::exit(0);
            }
            _ => error(&format!("ERR unknown command '{}', with args beginning with: ", texts[0])),
        }
    }

    /// `AUTH [user] password`.
    fn log_in(&mut self, state: &State, words: &[String]) -> Vec<u8> {
        let (user, password) = match words {
            [password] => ("default", password),
            [user, password] => (user.as_str(), password),
            _ => return error("ERR wrong number of arguments for 'auth' command"),
        };
        let hash = format!(" #{}", Sha256::of(password.as_bytes()));
        let rules = state.users.get(user);
        if rules.is_some_and(|rules| rules.contains(" on") && (rules.contains(" nopass") || rules.contains(&hash))) {
            self.user = Some(user.to_owned());
            return OK.to_vec();
        }
        error("WRONGPASS invalid username-password pair or user is disabled.")
    }
}

fn error(words: &str) -> Vec<u8> {
    format!("-{words}\r\n").into_bytes()
}

fn integer(number: u64) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

/// One key; a client that is wrong here is sent to where it is.
fn keys(server: &Server, name: &str, words: &Command) -> Vec<u8> {
    let slot = key_slot(&words[1]);
    let mut state = server.state();
    if !server.is_ok(&state) {
        return error("CLUSTERDOWN The cluster is down");
    }
    let Some(owner) = server.owner(slot) else { return error("CLUSTERDOWN Hash slot not served") };
    if owner.id != server.nodes.me {
        return error(&format!("MOVED {slot} {}", owner.place()));
    }
    match name {
        "GET" => state.keys.get(&words[1]).map_or(NIL.to_vec(), |value| bulk(value)),
        "SET" => {
            state.write(words);
            OK.to_vec()
        }
        _ => integer(state.write(words)),
    }
}

fn wait(server: &Server, texts: &[String]) -> Vec<u8> {
    let number = |nth: usize| texts.get(nth).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    let (wanted, patience) = (number(1), Duration::from_millis(number(2).clamp(1, 60_000)));
    let began = Instant::now();
    let mut state = server.state();
    let offset = state.offset;
    loop {
        let reached = state.replicas.values().filter(|replica| replica.acknowledged >= offset).count() as u64;
        let left = patience.saturating_sub(began.elapsed());
        if reached >= wanted || left.is_zero() {
            return integer(reached);
        }
        state = server.wait(state, left);
    }
}

fn slots(server: &Server) -> Vec<u8> {
    let mut ranges = Vec::new();
    let node = |place: &str, id: &str| {
        let (ip, port) = place.rsplit_once(':').unwrap_or((place, "0"));
        [b"*3\r\n".to_vec(), bulk(ip.as_bytes()), format!(":{port}\r\n").into_bytes(), bulk(id.as_bytes())].concat()
    };
    for master in &server.nodes.all {
        let replicas = server.nodes.all.iter().filter(|node| node.master.as_ref() == Some(&master.id));
        let nodes: Vec<Vec<u8>> = [master].into_iter().chain(replicas).map(|one| node(one.place(), &one.id)).collect();
        for (first, last) in master.ranges() {
            let head = format!("*{}\r\n:{first}\r\n:{last}\r\n", nodes.len() + 2).into_bytes();
            ranges.push([vec![head], nodes.clone()].concat().concat());
        }
    }
    [format!("*{}\r\n", ranges.len()).into_bytes(), ranges.concat()].concat()
}

fn cluster_info(server: &Server, state: &State) -> String {
    let ok = if server.is_ok(state) { "ok" } else { "fail" };
    let size = server.nodes.all.iter().filter(|node| !node.slots.is_empty()).count();
    let epoch = server.nodes.vars.split(' ').nth(2).unwrap_or("0");
    let mine = server.nodes.myself().map_or("0", |node| node.epoch.as_str());
    format!(
        "cluster_state:{ok}\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:0\r\ncluster_known_nodes:{}\r\ncluster_size:{size}\r\n\
         cluster_current_epoch:{epoch}\r\ncluster_my_epoch:{mine}\r\n",
        server.nodes.all.len()
    )
}

fn info(server: &Server, state: &State) -> String {
    let mut text = format!(
        "# Server\r\nredis_version:{}\r\nredis_mode:cluster\r\nprocess_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:1\r\n\
         # Clients\r\nconnected_clients:{}\r\n# Memory\r\nused_memory:1000000\r\nmaxmemory:0\r\n\
         # Persistence\r\nloading:0\r\nrdb_changes_since_last_save:{}\r\nrdb_bgsave_in_progress:0\r\n\
         rdb_last_save_time:0\r\nrdb_last_bgsave_status:ok\r\naof_enabled:{}\r\naof_last_write_status:ok\r\n\
         # Stats\r\ntotal_connections_received:1\r\ntotal_commands_processed:{}\r\n# Replication\r\n",
        crate::VERSION,
        process::id(),
        server.conf.port,
        state.clients,
        state.changes,
        u8::from(server.conf.is_on("appendonly")),
        state.offset,
    );
    if let Some(master) = server.master() {
        let (host, port) = master.place().rsplit_once(':').unwrap_or_default();
        let link = if state.synced { "up" } else { "down" };
        let _ = write!(
            text,
            "role:slave\r\nmaster_host:{host}\r\nmaster_port:{port}\r\nmaster_link_status:{link}\r\n\
             master_sync_in_progress:0\r\nslave_repl_offset:{}\r\n",
            state.offset
        );
    } else {
        let _ = write!(text, "role:master\r\nconnected_slaves:{}\r\n", state.replicas.len());
        for (nth, (id, replica)) in state.replicas.iter().enumerate() {
            let place = server.nodes.get(id).map_or(":", |node| node.place());
            let (host, port) = place.rsplit_once(':').unwrap_or_default();
            let offset = replica.acknowledged;
            let _ = write!(text, "slave{nth}:ip={host},port={port},state=online,offset={offset},lag=0\r\n");
        }
    }
    let _ = write!(text, "master_repl_offset:{}\r\n# Cluster\r\ncluster_enabled:1\r\n# Keyspace\r\n", state.offset);
    if !state.keys.is_empty() {
        let _ = write!(text, "db0:keys={},expires=0,avg_ttl=0\r\n", state.keys.len());
    }
    text
}
