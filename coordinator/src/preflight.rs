//! Judges what the hosts' surveys found: facts in, findings out. It asks nobody and changes nothing.

pub mod own;

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{HostName, Port, ServerVersion, Spec, SpecHost, report::Server, wire};

use crate::{
    facts,
    finding::Finding,
    trust::{Bars, away},
};

/// What one host has answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its facts, or why there are none.
    pub survey: Result<wire::SurveyResult, String>,
    /// The agent's clock less the coordinator's, in milliseconds; the round trip is halved.
    pub skew_ms: i64,
    /// Whom it cannot reach, or why it was not asked.
    pub reach: Result<Vec<wire::Unreached>, String>,
    /// What it announces.
    pub address: String,
}

/// Judges everything. `offered` is what each agent's config offers; `bus_offset` is what was asked about.
pub fn judge(
    spec: &Spec,
    answers: &BTreeMap<HostName, Answer>,
    offered: &BTreeMap<HostName, BTreeSet<Port>>,
    bars: &Bars,
    bus_offset: u16,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut versions: BTreeMap<ServerVersion, Vec<&HostName>> = BTreeMap::new();
    for host in &spec.parts().hosts {
        let Some(answer) = answers.get(&host.name) else { continue };
        findings.extend(not_offered(host, offered.get(&host.name)));
        match &answer.survey {
            Err(why) => findings.push(away(&host.name, &format!("the agent did not answer: {why}"), bars)),
            Ok(survey) => {
                if let Ok(server) = server_of(survey) {
                    versions.entry(server.version).or_default().push(&host.name);
                }
                findings.extend(survey_findings(&host.name, survey, bus_offset));
                findings.extend(unlimited(spec, &host.name, survey));
                findings.extend(facts::clock(&host.name, answer.skew_ms).trouble);
                // From an address that it does not have a host reaches nobody; that is said once.
                match survey.ports.iter().find_map(not_local) {
                    Some(error) => findings.push(elsewhere(&host.name, &answer.address, error)),
                    None => findings.extend(reach_findings(&host.name, answer, bars)),
                }
            }
        }
    }
    findings.extend(version_findings(&versions));
    findings.sort();
    findings
}

/// The server that a survey found.
pub fn server_of(survey: &wire::SurveyResult) -> Result<Server, String> {
    match survey.server.clone() {
        Some(server) => Server::try_from(server).map_err(|error| error.to_string()),
        None => Err(survey.server_error.clone()),
    }
}

/// The kernel's words for an address that is another machine's (EADDRNOTAVAIL, bind(2)).
fn not_local(fact: &wire::PortFact) -> Option<&str> {
    let errors = [fact.client_error.as_str(), fact.bus_error.as_str()];
    errors.into_iter().find(|error| error.contains("cannot assign requested address"))
}

fn elsewhere(host: &HostName, address: &str, error: &str) -> Finding {
    Finding::fatal("ADDRESS_NOT_LOCAL", "address", format!("{address} is not on this machine: {error}"))
        .on(host)
        .cure(format!("on {host}: correct `address` in the agent's config (ip address) and restart muster-agent"))
}

fn not_offered(host: &SpecHost, offered: Option<&BTreeSet<Port>>) -> Vec<Finding> {
    let missing = host.ports.iter().filter(|port| offered.is_some_and(|offered| !offered.contains(port)));
    let finding = |port: Port| {
        Finding::fatal("PORT_NOT_OFFERED", format!("port {port}"), format!("the agent does not offer port {port}"))
            .on(&host.name)
            .cure(format!(
                "add it to `ports` in the agent's config on {} and restart muster-agent, or change the spec",
                host.name
            ))
    };
    missing.map(finding).collect()
}

fn survey_findings(host: &HostName, survey: &wire::SurveyResult, bus_offset: u16) -> Vec<Finding> {
    let mut findings = Vec::new();
    match server_of(survey) {
        Err(why) => findings.push(
            Finding::fatal("SERVER_MISSING", "redis-server", why)
                .on(host)
                .cure(format!("on {host}: apt-get install redis-server, or set redis_server in the agent's config")),
        ),
        Ok(server) if server.version.dialect().is_none() => findings.push(
            Finding::fatal(
                "SERVER_UNKNOWN",
                server.path,
                format!("{} writes a nodes.conf that this version does not know", server.version),
            )
            .on(host)
            .cure("install Redis 4.0 to 8.x or Valkey 7.2 to 9.1, or a newer Muster"),
        ),
        Ok(_) => {}
    }
    if !survey.settings_error.is_empty() {
        findings.push(
            Finding::fatal(
                "SETTINGS_REFUSED",
                "redis.config",
                format!("the server refuses a setting: {}", survey.settings_error),
            )
            .on(host)
            .cure("change [redis.config] in the spec"),
        );
    }
    findings.extend(access_findings(host, survey));
    findings.extend(facts::disk(host, survey.disk_free_bytes, &survey.disk_error).trouble);
    let (ephemeral, kernel) = survey
        .kernel
        .as_ref()
        .map(|kernel| (ephemeral(host, survey, kernel, bus_offset), facts::findings(facts::kernel(host, kernel))))
        .unwrap_or_default();
    findings.extend(survey.ports.iter().flat_map(|port| port_findings(host, port, bus_offset)));
    findings.extend(ephemeral);
    findings.extend(kernel);
    findings
}

/// Limits of the spec that nobody enforces.
fn unlimited(spec: &Spec, host: &HostName, survey: &wire::SurveyResult) -> Option<Finding> {
    let enforced = survey.kernel.as_ref().is_some_and(|kernel| kernel.scopes);
    (!spec.parts().limits.is_none() && !enforced).then(|| {
        let message =
            "systemd does not run the agent here: nobody enforces the spec's limits, and the servers run without";
        Finding::warning("LIMITS_UNENFORCED", "limits", message)
            .on(host)
            .cure(format!("on {host}: run the agent as a unit (systemd/muster-agent.service), or take [limits] out"))
    })
}

/// What the server cannot do of the spec's `auth` and `tls`, in its own words.
fn access_findings(host: &HostName, survey: &wire::SurveyResult) -> Vec<Finding> {
    let auth = (!survey.auth_error.is_empty()).then(|| {
        let message = format!("the server cannot have the spec's users: {}", survey.auth_error);
        Finding::fatal("AUTH_UNSUPPORTED", "auth", message)
            .on(host)
            .cure("users need Redis 6.0 or newer, or Valkey; change [acl], or ask for an open cluster: auth = \"none\"")
    });
    let tls = (!survey.tls_error.is_empty()).then(|| {
        let message = format!("the server cannot speak the spec's TLS: {}", survey.tls_error);
        Finding::fatal("TLS_UNSUPPORTED", "tls", message).on(host).cure(format!(
            "on {host}: install a server that is built with TLS (redis-server --tls-port 0 --port 0 says so), look at \
             the files of [tls], or write tls = false"
        ))
    });
    auth.into_iter().chain(tls).collect()
}

fn port_findings(host: &HostName, fact: &wire::PortFact, bus_offset: u16) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kinds = [("PORT_TAKEN", "client"), ("BUS_PORT_TAKEN", "bus")];
    for ((code, kind), own::Side { port, error, holder }) in kinds.into_iter().zip(own::sides(fact, bus_offset)) {
        if error.is_empty() || not_local(fact).is_some() {
            continue;
        }
        let by = if holder.is_empty() { String::new() } else { format!(", held by {holder}") };
        let message = format!("{kind} port {port} cannot be bound: {error}{by}");
        let finding = Finding::fatal(code, format!("port {port}"), message)
            .cure(format!("on {host}: stop what listens there (ss -ltnp 'sport = :{port}'), or choose another port"));
        findings.push(finding.on(host));
    }
    let path = &fact.path;
    let blocked = match wire::Directory::try_from(fact.directory) {
        Ok(wire::Directory::Free) => None,
        Ok(wire::Directory::Stamped) => Some((
            "DIRECTORY_TAKEN",
            format!("{path} belongs to cluster {}", fact.directory_note),
            "choose another port, or look at: muster status".to_owned(),
        )),
        Ok(wire::Directory::Foreign) => Some((
            "DIRECTORY_FOREIGN",
            format!("{path} is not ours ({}); it is never touched", fact.directory_note),
            format!("on {host}: move it away (mv {path} {path}.old), or choose another port"),
        )),
        Ok(wire::Directory::Unreadable | wire::Directory::Unspecified) | Err(_) => Some((
            "DIRECTORY_UNREADABLE",
            format!("cannot tell whose {path} is: {}", fact.directory_note),
            format!("on {host}: look at {path}"),
        )),
    };
    findings
        .extend(blocked.map(|(code, message, cure)| Finding::fatal(code, path.clone(), message).on(host).cure(cure)));
    findings
}

/// An outgoing connection can hold a port of the ephemeral range at the very moment the server wants it.
fn ephemeral(
    host: &HostName,
    survey: &wire::SurveyResult,
    kernel: &wire::KernelFacts,
    bus_offset: u16,
) -> Vec<Finding> {
    let (first, last) = (kernel.ephemeral_first, kernel.ephemeral_last);
    let wanted = survey.ports.iter().flat_map(|fact| own::sides(fact, bus_offset).map(|side| side.port));
    let exposed: Vec<u32> =
        wanted.filter(|port| (first..=last).contains(port) && !reserved(&kernel.reserved_ports, *port)).collect();
    let Some((low, high)) = exposed.iter().min().zip(exposed.iter().max()) else { return Vec::new() };
    let ports = if low == high { low.to_string() } else { format!("{low}-{high}") };
    let message = format!(
        "ports {ports} lie in the kernel's ephemeral range {first}-{last}: an outgoing connection may hold one \
         when the server starts"
    );
    vec![
        Finding::warning("PORT_EPHEMERAL", format!("ports {ports}"), message)
            .on(host)
            .cure(format!("client ports below 22768, or: sysctl net.ipv4.ip_local_reserved_ports={ports}")),
    ]
}

fn reserved(list: &str, port: u32) -> bool {
    list.split(',').any(|run| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        first.trim().parse().is_ok_and(|first: u32| first <= port)
            && last.trim().parse().is_ok_and(|last: u32| port <= last)
    })
}

/// One for each host that cannot be reached, and each way in which it cannot.
fn reach_findings(host: &HostName, answer: &Answer, bars: &Bars) -> Vec<Finding> {
    let unreached = match &answer.reach {
        Ok(unreached) => unreached,
        // Whom it reaches is not known, and must not be taken for everybody.
        Err(why) => return vec![away(host, &format!("the agent did not answer: {why}"), bars)],
    };
    let mut ways: BTreeMap<(&str, &str, &str), Vec<&wire::Target>> = BTreeMap::new();
    for one in unreached {
        let Some(target) = &one.target else { continue };
        ways.entry((&target.host, &target.address, &one.error)).or_default().push(target);
    }
    ways.into_iter()
        .filter_map(|((to, address, error), targets)| blocked(host, answer, to, address, error, &targets))
        .collect()
}

fn blocked(
    host: &HostName,
    answer: &Answer,
    to: &str,
    address: &str,
    error: &str,
    targets: &[&wire::Target],
) -> Option<Finding> {
    let (first, rest) = targets.split_first()?;
    let (from, place) = (&answer.address, format!("{address}:{}", first.port));
    let what = if first.bus { "bus port" } else { "client port" };
    let nor: String = rest.iter().map(|target| format!(", nor {}", target.port)).collect();
    let message = format!("{host} {from} cannot reach {place} ({what} of {to}){nor}: {error}");
    let cure = format!(
        "look for a firewall (nft list ruleset) or a missing route (ip route get {address} from {from}) on {host}, \
         on {to} and between them"
    );
    Some(Finding::fatal("UNREACHABLE", place, message).on(host).cure(cure))
}

fn version_findings(versions: &BTreeMap<ServerVersion, Vec<&HostName>>) -> Vec<Finding> {
    if versions.len() < 2 {
        return Vec::new();
    }
    let each = versions.iter().map(|(version, hosts)| {
        let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        format!("{version} on {}", hosts.join(", "))
    });
    let message = format!("the hosts do not run the same server: {}", each.collect::<Vec<_>>().join("; "));
    vec![
        Finding::fatal("SERVER_VERSIONS_DIFFER", "redis-server", message).cure("install the same version on all hosts"),
    ]
}

#[cfg(test)]
mod tests;
