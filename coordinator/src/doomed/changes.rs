//! How a spec differs from another one, a line each, in the spec's own words. Passwords are nobody's to read: of them
//! it is said only that they change.

use std::{collections::BTreeMap, fmt::Display};

use muster_proto::{
    Auth, HostName, PortSet, Setting, Spec, SpecHost, Tls,
    acl::{Acl, AclUser},
};

use crate::placement::text::list;

/// What would be another.
pub fn changes(from: &Spec, to: &Spec) -> Vec<String> {
    let (from, to) = (from.parts(), to.parts());
    let mut lines = Vec::new();
    lines.extend(becomes("replicas", from.replicas, to.replicas));
    let masters = |masters: Option<u32>| masters.map_or_else(|| "as many as fit".to_owned(), |count| count.to_string());
    lines.extend(becomes("masters", masters(from.masters), masters(to.masters)));
    lines.extend(hosts(&from.hosts, &to.hosts));
    lines.extend(becomes("allow_shared_host", from.allow_shared_host, to.allow_shared_host));
    lines.extend(settings(&from.settings, &to.settings));
    lines.extend(auth(&from.auth, &to.auth));
    lines.extend(tls(&from.tls, &to.tls));
    lines.extend(becomes("limits.memory", some(from.limits.memory), some(to.limits.memory)));
    lines.extend(becomes("limits.cpus", some(from.limits.cpus), some(to.limits.cpus)));
    lines
}

fn becomes<T: PartialEq + Display>(what: impl Display, from: T, to: T) -> Option<String> {
    (from != to).then(|| format!("{what}: {from} becomes {to}"))
}

fn some<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "unset".to_owned(), |value| value.to_string())
}

fn hosts(from: &[SpecHost], to: &[SpecHost]) -> Vec<String> {
    let by_name = |hosts: &[SpecHost]| -> BTreeMap<HostName, PortSet> {
        hosts.iter().map(|host| (host.name.clone(), host.ports.clone())).collect()
    };
    let (before, after) = (by_name(from), by_name(to));
    let leave = before.iter().filter(|(name, _)| !after.contains_key(*name));
    let mut lines: Vec<_> = leave.map(|(name, ports)| format!("{name} leaves: {ports}")).collect();
    for (name, ports) in &after {
        match before.get(name) {
            None => lines.push(format!("{name} joins: {ports}")),
            Some(had) => lines.extend(becomes(name, had, ports)),
        }
    }
    // Masters go in turn over the hosts as they stand.
    let common = |hosts: &[SpecHost], others: &BTreeMap<HostName, PortSet>| -> Vec<HostName> {
        hosts.iter().map(|host| host.name.clone()).filter(|name| others.contains_key(name)).collect()
    };
    let (was, is) = (common(from, &after), common(to, &before));
    lines.extend(becomes("order of hosts", list(was), list(is)));
    lines
}

fn settings(from: &[Setting], to: &[Setting]) -> Vec<String> {
    // A key may have several lines, such as `save`.
    let by_key = |settings: &[Setting]| {
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for setting in settings {
            keys.entry(setting.key.clone()).or_default().push(setting.value.clone());
        }
        keys.into_iter().map(|(key, values)| (key, values.join(" and "))).collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (by_key(from), by_key(to));
    let changed = before.iter().filter_map(|(key, value)| becomes(key, value.clone(), some(after.get(key))));
    let new = after.iter().filter(|(key, _)| !before.contains_key(*key));
    let new = new.filter_map(|(key, value)| becomes(key, "unset", value.as_str()));
    changed.chain(new).collect()
}

fn auth(from: &Auth, to: &Auth) -> Vec<String> {
    let (before, after) = match (from, to) {
        (Auth::None, Auth::None) => return Vec::new(),
        (Auth::Passwords(before), Auth::Passwords(after)) => (before.clone(), after.clone()),
        (Auth::None, Auth::Passwords(after)) => (Acl::default(), after.clone()),
        (Auth::Passwords(before), Auth::None) => (before.clone(), Acl::default()),
    };
    let word = |auth: &Auth| if *auth == Auth::None { "none" } else { "password" };
    let rules =
        |acl: &Acl| acl.default_rules.as_ref().map_or_else(|| "Muster's own rules".to_owned(), ToString::to_string);
    let mut lines: Vec<_> = becomes("auth", word(from), word(to)).into_iter().collect();
    lines.extend(becomes("acl.default", rules(&before), rules(&after)));
    let has = |acl: &Acl, user: &AclUser| acl.users.iter().any(|other| other.name == user.name);
    let leave = before.users.iter().filter(|user| !has(&after, user));
    lines.extend(leave.map(|user| format!("user {} leaves", user.name)));
    for user in &after.users {
        match before.users.iter().find(|other| other.name == user.name) {
            None => lines.push(format!("user {} joins: {}", user.name, user.rules)),
            Some(other) => {
                let name = format!("user {}", user.name);
                lines.extend(becomes(&name, other.rules.as_str(), user.rules.as_str()));
                let passwords = match (other.passwords.as_slice(), user.passwords.as_slice()) {
                    (before, after) if before == after => continue,
                    ([], _) => "its passwords are given from then on",
                    (_, []) => "its password is drawn from then on",
                    _ => "its given passwords change",
                };
                lines.push(format!("{name}: {passwords}"));
            }
        }
    }
    lines
}

fn tls(from: &Tls, to: &Tls) -> Vec<String> {
    let word = |tls: &Tls| match tls {
        Tls::Off => "off",
        Tls::Issued => "issued by Muster",
        Tls::Files(_) => "files of the operator",
    };
    let mut lines: Vec<_> = becomes("tls", word(from), word(to)).into_iter().collect();
    if let (Tls::Files(before), Tls::Files(after)) = (from, to) {
        lines.extend(becomes("tls.cert_file", before.cert.display().to_string(), after.cert.display().to_string()));
        lines.extend(becomes("tls.key_file", before.key.display().to_string(), after.key.display().to_string()));
        lines.extend(becomes("tls.ca_file", before.ca.display().to_string(), after.ca.display().to_string()));
    }
    lines
}
