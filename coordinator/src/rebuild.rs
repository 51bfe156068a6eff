//! A rebuild: one life of a cluster ends, and another begins, or comes back.
//!
//! Durable are the [`Stage`], the life that will begin, and where directories of ended lives may still be
//! ([`Remnant`]). The phase, what it waits for and what comes next are computed from these and from what was heard
//! last, as in [`formation`]. The one step that cannot be taken back is [`cross`]: only [`Phase::Fenced`] leads to it,
//! which nothing but the reports of all hosts make, that nothing runs there any more.
//!
//! An undo is a rebuild whose next life has been before. A function of values throughout.

use std::collections::{BTreeMap, BTreeSet};

use muster_proto::{BusOffset, Former, HostName, InstanceState, Life, Member, OperationId, Port, Spec};
use serde::{Deserialize, Serialize};

use crate::{
    blueprint::Blueprint,
    credentials::Credentials,
    formation::{self, Goal, Heard, Phase},
    ledger::{ClusterRecord, OpState},
    rolling::Duties,
};

mod judge;

/// One life of a cluster, complete.
#[derive(Debug, Clone)]
pub struct LifeRecord {
    /// What the operator wanted.
    pub spec: Spec,
    /// Who is what.
    pub blueprint: Blueprint,
    /// What is logged in with and believed there.
    pub credentials: Option<Credentials>,
    /// What operators want of its instances.
    pub duties: Duties,
}

/// How far a rebuild has gone, as far as that cannot be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Everything is being stopped; nothing has been moved.
    Fence,
    /// Past the point of no return: the record is the next life's.
    Wipe,
    /// Called off while it was fencing: the life goes on.
    Return,
}

/// A rebuild that is under way.
#[derive(Debug, Clone)]
pub struct Rebuild {
    /// Its operation.
    pub operation: OperationId,
    /// How far.
    pub stage: Stage,
    /// The next life has been before: its directories are put back.
    pub undo: bool,
    /// Hosts that it is done without.
    pub missing: BTreeSet<HostName>,
    /// The life that ends is whole, so that calling off leads back to it.
    pub can_return: bool,
    /// The life that ends has been a cluster, if perhaps not since it came back: an undo may want it.
    pub lived: bool,
    /// The life that will begin; none when it has, or will not.
    pub next: Option<Box<LifeRecord>>,
}

/// A directory of an ended life, which may still be in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remnant {
    /// Where.
    pub host: HostName,
    /// Its client port.
    pub port: Port,
    /// The bus port that its server listened on.
    pub bus_port: u16,
    /// Which life.
    pub former: Former,
    /// Its host was forgotten: nobody waits for it any more, and it is set aside should it come back.
    #[serde(default)]
    pub forgotten: bool,
}

impl Remnant {
    /// `server3:7006 (life 1)`, as people read it.
    pub fn name(&self) -> String {
        format!("{}:{} (life {})", self.host, self.port, self.former.life)
    }
}

/// What was approved.
#[derive(Debug, Clone)]
pub struct Order {
    /// Its operation.
    pub operation: OperationId,
    /// Puts back what was set aside.
    pub undo: bool,
    /// Hosts that it is done without.
    pub missing: BTreeSet<HostName>,
    /// The life that will begin.
    pub next: LifeRecord,
}

/// The kind of the operation.
pub fn kind(undo: bool) -> &'static str {
    if undo { "undo" } else { "rebuild" }
}

/// The record with a rebuild that fences.
pub fn begin(record: &ClusterRecord, order: Order) -> ClusterRecord {
    let rebuild = Rebuild {
        operation: order.operation,
        stage: Stage::Fence,
        undo: order.undo,
        missing: order.missing,
        can_return: record.formed_ms.is_some(),
        lived: has_lived(record),
        next: Some(Box::new(order.next)),
    };
    ClusterRecord { rebuild: Some(rebuild), ..record.clone() }
}

/// The life has been a cluster, if perhaps not since it came back.
pub fn has_lived(record: &ClusterRecord) -> bool {
    record.formed_ms.is_some() || came_back(record)
}

/// The life is one that an undo has put back, or was about to when another rebuild took its place.
fn came_back(record: &ClusterRecord) -> bool {
    record.rebuild.as_ref().is_some_and(|rebuild| match rebuild.stage {
        Stage::Wipe => rebuild.undo,
        Stage::Fence | Stage::Return => rebuild.lived,
    })
}

/// Past the point of no return: the record of the next life, and the one that has ended. None where there is none to
/// go to.
pub fn cross(record: &ClusterRecord) -> Option<(ClusterRecord, LifeRecord)> {
    let rebuild = record.rebuild.clone()?;
    let next = *rebuild.next?;
    let ended = LifeRecord {
        spec: record.spec.clone(),
        blueprint: record.blueprint.clone(),
        credentials: record.credentials.clone(),
        duties: record.duties.clone(),
    };
    // What comes back is not left behind, even if it was on its way out.
    let stays = |remnant: &Remnant| remnant.former.incarnation != next.blueprint.incarnation;
    let left = record.remnants.iter().cloned().chain(remnants(&record.blueprint, rebuild.operation));
    let duties = match rebuild.undo {
        true => revived(next.blueprint.members.iter(), &Duties::new(), last_run(record).max(runs(&next.duties))),
        false => next.duties,
    };
    let crossed = ClusterRecord {
        remnants: left.filter(stays).collect(),
        spec: next.spec,
        blueprint: next.blueprint,
        goal: Goal::Prepared,
        formed_ms: None,
        operation: rebuild.operation,
        credentials: next.credentials,
        duties,
        roll: None,
        rebuild: Some(Rebuild { stage: Stage::Wipe, can_return: false, next: None, ..rebuild }),
    };
    Some((crossed, ended))
}

/// Called off while nothing has been moved: everything that ran before is to run again. Of a shard that is stopped as a
/// whole nobody can be emptied by that; in others the guard of the agents looks after what still runs, so that nothing
/// is said of them. None where it leads nowhere.
pub fn call_off(record: &ClusterRecord, heard: &Heard) -> Option<ClusterRecord> {
    let rebuild = record.rebuild.clone().filter(|rebuild| rebuild.stage == Stage::Fence && rebuild.can_return)?;
    let stopped = |member: &Member| {
        let status = heard.instances.get(&member.node_id);
        !heard.silent.contains_key(&member.host) && status.is_some_and(|it| it.state == InstanceState::Stopped)
    };
    let runs = record.blueprint.members.iter().filter(|member| !stopped(member));
    let dim: BTreeSet<_> = runs.map(|member| member.shard).collect();
    let dark = record.blueprint.members.iter().filter(|member| !dim.contains(&member.shard));
    let duties = revived(dark, &record.duties, last_run(record));
    let rebuild = Some(Rebuild { stage: Stage::Return, next: None, ..rebuild });
    Some(ClusterRecord { duties, rebuild, ..record.clone() })
}

/// The cluster is what the rebuild was to make of it: what hosts that are not there have is all that is left behind.
pub fn done(record: &ClusterRecord) -> ClusterRecord {
    let Some(rebuild) = &record.rebuild else { return record.clone() };
    let left = record.remnants.iter().filter(|remnant| is_away(record, rebuild, remnant));
    ClusterRecord { remnants: left.cloned().collect(), rebuild: None, ..record.clone() }
}

/// A remnant that the rebuild goes on without: its host is not there, or was not in an earlier one and takes no part
/// since, and nothing takes its place.
fn is_away(record: &ClusterRecord, rebuild: &Rebuild, remnant: &Remnant) -> bool {
    let ends = remnant.former.operation == rebuild.operation;
    let here = record.blueprint.members.iter().any(|member| member.host == remnant.host);
    !here && (rebuild.missing.contains(&remnant.host) || !ends)
}

/// Whether another rebuild may take the place of one that is open: that one cannot go on by itself, and does not lead
/// back either.
pub fn gives_way(record: &ClusterRecord, state: OpState) -> bool {
    let stands = matches!(state, OpState::NeedsOperator | OpState::Paused);
    stands && record.rebuild.as_ref().is_some_and(|rebuild| rebuild.stage != Stage::Return && !rebuild.can_return)
}

/// What to type where one stands still.
pub fn cure(record: &ClusterRecord, operation: OperationId, phase: &Phase) -> String {
    let name = &record.blueprint.cluster;
    match &record.rebuild {
        None => format!("mend it and it goes on by itself, or call it off: muster op cancel {operation}"),
        Some(rebuild) if rebuild.can_return => format!(
            "mend it and it goes on by itself; or bring the cluster back as it was: muster op cancel {operation}; \
             for a host that is gone for good, then: muster rebuild {name} --fence-missing HOST"
        ),
        Some(_) if matches!(phase, Phase::Return { .. }) => "mend it and it goes on by itself".to_owned(),
        Some(_) => format!(
            "mend it and it goes on by itself; or put back what was set aside: muster rebuild {name} --undo; or begin \
             anew: muster rebuild {name}, where a host is gone for good with --fence-missing HOST"
        ),
    }
}

/// The bus ports of the next life: the present ones, unless somebody who is not there may come back to them (`away`, or
/// an offset in `theirs`), or they are not free. None where there is no choice left.
pub fn offset(
    seats: &[(HostName, Port)],
    present: BusOffset,
    away: bool,
    theirs: &BTreeSet<u16>,
    taken: &BTreeSet<(HostName, u16)>,
) -> Option<BusOffset> {
    let clients: BTreeSet<_> = seats.iter().map(|(host, port)| (host, port.get())).collect();
    let free = |(host, port): &(HostName, Port), offset: BusOffset| {
        let bus = port.bus(offset);
        offset.fits(*port) && !taken.contains(&(host.clone(), bus)) && !clients.contains(&(host, bus))
    };
    let fits = |offset: &BusOffset| !theirs.contains(&offset.get()) && seats.iter().all(|seat| free(seat, *offset));
    let others = BusOffset::CHOICE.into_iter().filter(|offset| *offset != present);
    (!away).then_some(present).into_iter().chain(others).find(fits)
}

/// The bus offset that a life has.
pub fn offset_of(blueprint: &Blueprint) -> BusOffset {
    let first = blueprint.members.first().map(|member| member.bus_port.saturating_sub(member.port.get()));
    BusOffset::CHOICE.into_iter().find(|offset| Some(offset.get()) == first).unwrap_or_default()
}

/// All directories of a life, as remnants of it.
fn remnants(blueprint: &Blueprint, operation: OperationId) -> impl Iterator<Item = Remnant> + '_ {
    let (incarnation, life) = (blueprint.incarnation, Life(blueprint.incarnation.0));
    blueprint.members.iter().map(move |member| Remnant {
        host: member.host.clone(),
        port: member.port,
        bus_port: member.bus_port,
        former: Former { operation, incarnation, life, node_id: member.node_id },
        forgotten: false,
    })
}

/// The duties with which these run that did not stand still before, in a run that no process was started for. Nobody
/// can be emptied by it: of their shards nothing runs.
fn revived<'a>(members: impl Iterator<Item = &'a Member>, before: &Duties, last: u64) -> Duties {
    let mut duties = before.clone();
    for member in members {
        let duty = duties.entry(member.node_id).or_default();
        if !duty.stopped {
            (duty.run, duty.all_stopped) = (last + 1, true);
        }
    }
    duties
}

fn runs(duties: &Duties) -> u64 {
    duties.values().map(|duty| duty.run).max().unwrap_or(0)
}

fn last_run(record: &ClusterRecord) -> u64 {
    runs(&record.duties)
}

impl ClusterRecord {
    /// The hosts that are told of it, each once, by name.
    pub fn hosts(&self) -> BTreeSet<HostName> {
        let left = self.remnants.iter().map(|remnant| remnant.host.clone());
        let next = self.rebuild.as_ref().and_then(|rebuild| rebuild.next.as_ref());
        let next = next.map(|next| next.blueprint.hosts()).unwrap_or_default();
        self.blueprint.hosts().into_iter().chain(left).chain(next).collect()
    }

    /// Whether a host has instances of it, or will.
    pub fn uses(&self, host: &HostName) -> bool {
        let next = self.rebuild.as_ref().and_then(|rebuild| rebuild.next.as_ref());
        let blueprints = next.map(|next| &next.blueprint).into_iter().chain([&self.blueprint]);
        blueprints.into_iter().any(|blueprint| blueprint.members.iter().any(|member| member.host == *host))
    }

    /// What may still be in place, with that of a host not awaited any more.
    pub fn without_awaiting(&self, host: &HostName) -> Vec<Remnant> {
        let one = |remnant: &Remnant| {
            let forgotten = remnant.forgotten || remnant.host == *host;
            Remnant { forgotten, ..remnant.clone() }
        };
        self.remnants.iter().map(one).collect()
    }

    /// What may still be in place on a host, by port.
    pub fn remnants_on(&self, host: &HostName) -> BTreeMap<Port, Vec<Former>> {
        let mut ports = BTreeMap::<Port, Vec<Former>>::new();
        for remnant in self.remnants.iter().filter(|remnant| remnant.host == *host) {
            ports.entry(remnant.port).or_default().push(remnant.former.clone());
        }
        ports
    }

    /// Client and bus ports that something of it listens on, or may: of what is, of what is left behind, and of what
    /// will be.
    pub fn listens(&self) -> BTreeSet<(HostName, u16)> {
        let of = |blueprint: &Blueprint| {
            let both = |member: &muster_proto::Member| {
                [member.port.get(), member.bus_port].map(|port| (member.host.clone(), port))
            };
            blueprint.members.iter().flat_map(both).collect::<Vec<_>>()
        };
        let left = self
            .remnants
            .iter()
            .flat_map(|remnant| [remnant.port.get(), remnant.bus_port].map(|port| (remnant.host.clone(), port)));
        let next = self.rebuild.as_ref().and_then(|rebuild| rebuild.next.as_ref());
        let next = next.map(|next| of(&next.blueprint)).unwrap_or_default();
        of(&self.blueprint).into_iter().chain(left).chain(next).collect()
    }

    /// How far its rebuild is, if it has one.
    pub fn stage(&self) -> Option<Stage> {
        self.rebuild.as_ref().map(|rebuild| rebuild.stage)
    }

    /// Its directories have run before, and are put back.
    pub fn restores(&self) -> bool {
        self.rebuild.as_ref().is_some_and(|rebuild| rebuild.undo && rebuild.stage == Stage::Wipe)
    }
}

/// Computes the phase of a cluster that is being formed, rebuilt or brought back.
pub fn phase(record: &ClusterRecord, heard: &Heard) -> Phase {
    let Some(rebuild) = &record.rebuild else {
        return formation::phase(&record.blueprint, record.goal, false, heard);
    };
    match (rebuild.stage, record.goal) {
        (Stage::Fence, _) => match judge::running(record, rebuild, heard) {
            unsettled if unsettled.is_empty() => Phase::Fenced,
            unsettled => Phase::Fence { unsettled },
        },
        (Stage::Return, _) => match judge::away(record, heard) {
            unsettled if unsettled.is_empty() => Phase::Returned,
            unsettled => Phase::Return { unsettled },
        },
        (Stage::Wipe, Goal::Prepared) => match judge::in_place(record, rebuild, heard) {
            unsettled if unsettled.is_empty() => formation::phase(&record.blueprint, record.goal, false, heard),
            unsettled => Phase::Wipe { unsettled },
        },
        (Stage::Wipe, _) if rebuild.undo => formation::resumed(&record.blueprint, heard),
        (Stage::Wipe, _) => formation::phase(&record.blueprint, record.goal, false, heard),
    }
}

#[cfg(test)]
mod tests;
