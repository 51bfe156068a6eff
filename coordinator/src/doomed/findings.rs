//! What speaks against a rebuild, of what the instances hold and who uses them.

use std::{cmp::Reverse, collections::BTreeMap};

use muster_proto::{HostName, Member, Port, wire};

use super::{Appraisals, Question, WATCH, appraised, fence, returns, words};
use crate::{blueprint::Blueprint, finding::Finding};

/// More instances than this are said as a number.
const SHOWN: usize = 5;
/// What a directory keeps, the least first.
const KEEPS: [&str; 3] = ["nothing", "snapshots", "append-only file"];

/// Everything that the operator should know, or that stops it; the worst first.
pub fn findings(of: &Question) -> Vec<Finding> {
    let mut findings = fence::findings(of);
    findings.extend(no_trash(of.appraisals));
    findings.extend(serving(of));
    findings.extend(buries(of));
    findings.extend(keeps_nothing(of));
    findings.extend(not_appraised(of));
    findings.extend(of.undo.as_ref().and_then(returns::incomplete));
    findings.sort();
    findings
}

/// Who is written to, as a sentence; none when nobody is, or nobody knows. What a replica takes comes from its master.
pub fn writes(blueprint: &Blueprint, appraisals: &Appraisals) -> Option<String> {
    let rate = |member: &Member| {
        let found = appraised(member, appraisals).ok()?;
        let counts = found.role() == wire::Role::Master && found.writes_millihertz > 0;
        counts.then(|| (Reverse(found.writes_millihertz), member.name()))
    };
    let mut written: Vec<_> = blueprint.members.iter().filter_map(rate).collect();
    written.sort();
    if written.is_empty() {
        return None;
    }
    let one = |(Reverse(rate), name): &(Reverse<u64>, String)| format!("{name} ({})", words::rate(*rate));
    let shown: Vec<_> = written.iter().take(SHOWN).map(one).collect();
    let more = match written.len().saturating_sub(SHOWN) {
        0 => String::new(),
        1 => " and 1 more".to_owned(),
        more => format!(" and {more} more"),
    };
    Some(format!("clients write to {}{more}", shown.join(", ")))
}

/// Hosts on which nothing can be set aside.
pub fn no_trash(appraisals: &Appraisals) -> Vec<Finding> {
    let one = |(host, found): (&HostName, &Result<wire::Appraisal, String>)| {
        let why = found.as_ref().ok().map(|found| &found.trash_error).filter(|why| !why.is_empty())?;
        let message = format!("nothing can be set aside there: {why}");
        let cure = format!(
            "on {host}: make way for a directory of that name, on the file system of base_dir; where nothing is, the \
             agent makes it"
        );
        Some(Finding::fatal("TRASH_UNUSABLE", "base_dir/.trash", message).on(host).cure(cure))
    };
    appraisals.iter().filter_map(one).collect()
}

/// An undo goes back one life, and what there is now becomes that life.
fn buries(of: &Question) -> Option<Finding> {
    let (life, present, cluster) = (of.buries?, of.blueprint.incarnation, &of.blueprint.cluster);
    let message = format!(
        "an undo brings back life {life} now, and life {present} afterwards: then no command brings back life {life}, \
         whose directories stay in .trash until they are deleted"
    );
    let cure = format!("where it is the data of life {life} that matters: muster rebuild {cluster} --undo");
    Some(Finding::warning("ENDS_UNDO", format!("life {life}"), message).cure(cure))
}

/// Who writes seldom is not seen.
fn connected(of: &Question) -> Option<Finding> {
    let clients = of.blueprint.members.iter().filter_map(|member| Some(appraised(member, of.appraisals).ok()?.clients));
    let most = clients.max().filter(|clients| *clients > 0 && !of.even_if_serving)?;
    let message = format!(
        "up to {} connected to an instance, and nobody wrote while it was looked at, which was {} s: who writes seldom \
         is not seen",
        if most == 1 { "1 client is".to_owned() } else { format!("{most} clients are") },
        WATCH.as_secs_f64()
    );
    let cure = "be sure that they only read; they get errors from the first step on, and find an empty cluster then";
    Some(Finding::warning("CLIENTS_CONNECTED", "clients", message).cure(cure))
}

fn serving(of: &Question) -> Option<Finding> {
    let Some(sentence) = writes(of.blueprint, of.appraisals) else { return connected(of) };
    if of.even_if_serving {
        let message = format!(
            "{sentence}; they get errors from the first step on, and what they have written is in no cluster afterwards"
        );
        return Some(Finding::warning("CLIENTS_WRITE", "clients", message));
    }
    let cure = format!("stop the writers, or say that you mean it: {} --even-if-serving", words::command(of, []));
    Some(Finding::fatal("CLIENTS_WRITE", "clients", sentence).cure(cure))
}

fn keeps_nothing(of: &Question) -> Option<Finding> {
    let nothing = of.blueprint.members.iter().filter(|member| {
        let found = appraised(member, of.appraisals);
        found.is_ok_and(|found| found.keeps == KEEPS[0] && (found.keys > 0 || !found.error.is_empty()))
    });
    let nothing: Vec<_> = nothing.map(|member| (&member.host, member.port)).collect();
    if nothing.is_empty() {
        return None;
    }
    let whole = nothing.len() == of.blueprint.members.len();
    let back = if whole { "an undo brings back an empty cluster" } else { "an undo brings them back empty" };
    let message = format!("the directories of {} keep nothing of the data: {back}", words::places(nothing));
    let cure = "where the data matters: copy it out with a client first; or, as a user whom the spec's rules let \
                (+bgsave), BGSAVE on each of the masters: a server that is put back loads what that has written";
    Some(Finding::warning("KEEPS_NOTHING", "data", message).cure(cure))
}

/// Instances that are not known of what they hold, by host and reason; and whether one of them may be written to. Hosts
/// in `without` are named elsewhere.
fn unknown<'a>(
    blueprint: &'a Blueprint,
    appraisals: &Appraisals,
    without: impl Fn(&HostName) -> bool,
) -> BTreeMap<(&'a HostName, String), (Vec<Port>, bool)> {
    let mut reasons: BTreeMap<(&HostName, String), (Vec<Port>, bool)> = BTreeMap::new();
    for member in blueprint.members.iter().filter(|member| !without(&member.host)) {
        let (why, runs) = match appraised(member, appraisals) {
            Err(why) => (why, true),
            Ok(found) if !found.error.is_empty() => (found.error.clone(), found.runs),
            Ok(_) => continue,
        };
        let (ports, may_run) = reasons.entry((&member.host, why)).or_default();
        ports.push(member.port);
        *may_run |= runs;
    }
    reasons
}

/// Who may be written to, as a sentence: he cannot be asked.
pub fn may_be_written(
    blueprint: &Blueprint,
    appraisals: &Appraisals,
    without: impl Fn(&HostName) -> bool,
) -> Option<String> {
    let mut found = unknown(blueprint, appraisals, without).into_iter().filter(|(_, (_, runs))| *runs);
    let ((host, why), (ports, _)) = found.next()?;
    Some(format!("whether clients write to {host} ({}) is not known: {why}", words::runs(ports)))
}

/// One for each host and reason.
fn not_appraised(of: &Question) -> Vec<Finding> {
    let without = |host: &HostName| of.fenced.contains(host) || of.away.contains_key(host);
    let finding = |((host, why), (ports, runs)): ((&HostName, String), (Vec<Port>, bool))| {
        let (ports, look) = (words::runs(ports), format!("muster status {}", of.blueprint.cluster));
        let subject = format!("ports {ports}");
        let message = format!("what {host} ({ports}) holds, and whether clients write to it, is not known: {why}");
        let finding = if runs && !of.even_if_serving {
            let cure = format!("{look}; or say that you mean it: {} --even-if-serving", words::command(of, []));
            Finding::fatal("NOT_APPRAISED", subject, message).cure(cure)
        } else {
            Finding::warning("NOT_APPRAISED", subject, message).cure(look)
        };
        finding.on(host)
    };
    unknown(of.blueprint, of.appraisals, without).into_iter().map(finding).collect()
}

/// What an instance holds now that would not come back as it would have when the plan was made, or that was not there
/// then, as a sentence.
pub fn keeps_less(plan: &wire::RebuildPlan, now: &Appraisals) -> Option<String> {
    let rank = |keeps: &str| KEEPS.iter().position(|word| *word == keeps);
    plan.doomed.iter().find_map(|planned| {
        let host: HostName = planned.host.parse().ok()?;
        let appraisal = now.get(&host)?.as_ref().ok()?;
        let found = appraisal.instances.iter().find(|found| found.port == planned.port)?;
        let name = format!("{}:{}", planned.host, planned.port);
        if let (Some(before), Some(after)) = (rank(&planned.keeps), rank(&found.keeps))
            && after < before
        {
            return Some(format!("the directory of {name} kept {}, and keeps {} now", planned.keeps, found.keeps));
        }
        // Whoever has approved it while clients write knows that the figures move.
        let was_empty = planned.error.is_empty() && planned.keys == 0 && !plan.even_if_serving;
        let filled = was_empty && found.error.is_empty() && found.keys > 0;
        filled.then(|| format!("{name} held no keys, and holds {} now", found.keys))
    })
}
