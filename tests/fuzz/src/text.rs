//! Texts: of servers, of operators, of whoever holds a token.

use std::{fmt::Write as _, path::Path};

use muster_agent::{conf, talk::Info};
use muster_proto::{
    PortSet, Role, ServerVersion, Spec, Topology,
    acl::{AclRules, UserName},
    token::{AccessString, JoinToken},
    view, wire,
};

use super::harmless;

/// CLUSTER NODES, and nodes.conf, which is that and a line of variables.
pub fn nodes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines: String =
        text.lines().filter(|line| !line.starts_with("vars ")).map(|line| format!("{line}\n")).collect();
    match view::parse(&lines) {
        Ok(view) => {
            view.troubles.iter().for_each(|trouble| harmless(trouble));
            let ids: Vec<_> = view.topology.nodes().iter().map(|node| node.id).collect();
            assert!(ids.is_sorted_by(|one, other| one < other), "in order, and none twice");
            assert!(view.topology.get(view.myself).is_some(), "who speaks is one of them");
            let again = view::parse(&cluster_nodes(&view)).map(|again| (again.myself, again.topology));
            assert_eq!(again, Ok((view.myself, view.topology)));
        }
        Err(error) => {
            assert!(error.line <= lines.lines().count());
            harmless(&error.to_string());
        }
    }
}

/// INFO and CLUSTER INFO.
pub fn info(data: &[u8]) {
    let info = Info(String::from_utf8_lossy(data).into_owned());
    let named = |name: &str| info.0.lines().any(|line| line.starts_with(&format!("{name}:")));
    for name in ["loading", "master_link_status", "slave0", "cluster_state", "cluster_known_nodes", "db0"] {
        match info.field(name) {
            Some(value) => assert!(named(name) && !value.contains('\n')),
            None => assert!(!named(name)),
        }
        assert!(info.number(name).is_none() || info.field(name).is_some());
    }
    assert!(info.keys() == 0 || named("db0"));
}

fn cluster_nodes(view: &view::View) -> String {
    let mut text = String::new();
    for node in Topology::new(view.topology.nodes().to_vec()).nodes() {
        let me = if node.id == view.myself { "myself," } else { "" };
        let (flags, master) = match &node.role {
            Role::Master { .. } => ("master", "-".to_owned()),
            Role::Replica { master } => ("slave", master.to_string()),
        };
        let slots: Vec<_> = node.role.slots().iter().map(ToString::to_string).collect();
        let (id, place) = (node.id, format!("{}:{}@{}", node.address, node.port, node.bus_port));
        let epoch = view.config_epoch;
        writeln!(text, "{id} {place} {me}{flags} {master} 0 0 {epoch} connected {}", slots.join(" "))
            .unwrap_or_default();
    }
    text
}

/// What a server says to a conf that is tried on it.
pub fn verdict(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match conf::settings_verdict(&text) {
        Ok(()) => assert!(text.contains("muster-end-of-conf"), "a yes without its sign"),
        Err(words) => {
            assert!(!words.is_empty());
            harmless(&words);
        }
    }
}

/// What `redis-server --version` prints.
pub fn version(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for read in [ServerVersion::from_banner(&text), text.parse()] {
        match read {
            Ok(version) => {
                assert_eq!(version.to_string().parse(), Ok(version));
                let _ = version.dialect();
            }
            Err(error) => harmless(&error.to_string()),
        }
    }
}

/// Words of a set of ports, a line each.
pub fn ports(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match PortSet::parse(&text.lines().collect::<Vec<_>>()) {
        Ok(set) => {
            let words: Vec<String> = set.clone().into();
            assert_eq!(PortSet::parse(&words).as_ref(), Ok(&set));
            assert_eq!(PortSet::new(set.iter()), Ok(set));
        }
        Err(error) => harmless(&error.to_string()),
    }
}

/// Join tokens and access strings. What is refused is not shown: it may be one that was mistyped.
pub fn token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let join = text.parse::<JoinToken>();
    if let Ok(token) = &join {
        assert_eq!(token.text().expose().parse::<JoinToken>().as_ref(), Ok(token));
        assert!(!format!("{token} {token:?}").contains(token.secret().expose()));
    }
    let access = text.parse::<AccessString>();
    if let Ok(access) = &access {
        assert_eq!(access.text().expose().parse::<AccessString>().as_ref(), Ok(access));
        assert!(!format!("{access:?}").contains(access.secret().expose()));
    }
    assert!(join.is_err() || access.is_err(), "both at once");
}

/// The operator's users and their rules, a line each; so many lines.
pub fn acl(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for line in text.split('\n').take(16) {
        match line.parse::<AclRules>() {
            Ok(rules) => {
                assert_eq!(rules.as_str().parse::<AclRules>().as_ref(), Ok(&rules));
                is_closed(rules.as_str());
            }
            Err(error) => harmless(&error.to_string()),
        }
        match line.parse::<UserName>() {
            Ok(name) => assert_eq!(name.as_str().parse::<UserName>().as_ref(), Ok(&name)),
            Err(error) => harmless(&error.to_string()),
        }
    }
}

/// As `ACLMergeSelectorArguments` (acl.c, 7.0 and later) reads it: what is opened is closed, or the server does not
/// start; and outside of parentheses there is no password and no switch.
fn is_closed(rules: &str) {
    let mut open = false;
    for word in rules.split(' ') {
        if !open {
            assert!(!word.starts_with(['>', '<', '#', '!']), "a password: {rules:?}");
            assert!(!["on", "off", "nopass", "resetpass", "reset"].contains(&word), "a switch: {rules:?}");
        }
        open = (open || word.starts_with('(')) && !word.ends_with(')');
    }
    assert!(!open, "an open parenthesis: {rules:?}");
}

/// A spec file.
pub fn spec(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match muster_coordinator::spec_file::parse(&text) {
        Ok(spec) => assert_eq!(Spec::try_from(wire::Spec::from(&spec)), Ok(spec)),
        Err(wrong) => {
            assert!((1..=text.matches('\n').count() + 1).contains(&wrong.line), "line {} of {text:?}", wrong.line);
            harmless(&wrong.to_string());
        }
    }
}

/// The agent's config.
pub fn agent_config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match muster_agent::config::Config::parse(&text, Path::new("agent.toml")) {
        Ok(config) => assert!(config.base_dir.is_absolute() && !config.ports.is_empty()),
        Err(error) => drop(error.to_string()),
    }
}

/// The coordinator's config.
pub fn coordinator_config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match muster_coordinator::config::Config::parse(&text, Path::new("coordinator.toml")) {
        Ok(config) => assert!(config.state_dir.is_absolute() && config.admin_socket.is_absolute()),
        Err(error) => drop(error.to_string()),
    }
}
