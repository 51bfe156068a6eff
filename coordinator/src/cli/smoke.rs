//! `muster smoke`: be a client, from here or from an agent's host.
//!
//! Whom to ask is what the instances themselves say (not the blueprint: after a failover that would be yesterday's
//! master). Slots that nobody running serves are a failure in themselves. How to log in is what `muster credentials`
//! says; a cluster without credentials is spoken to in plain.

mod access;
mod client;

use std::{fs, io, path::Path};

use muster_proto::{
    ClusterName, HostName, SLOTS, SlotRange,
    slots::normal,
    wire::{
        ClusterInstance, GetStatusRequest, GetStatusResponse, InstanceState, Role, SlotRange as WireSlots, SmokeStep,
        SmokeTestRequest,
    },
};

use self::access::Access;
use super::{
    Context, Verdict,
    connect::{QUICK, THOROUGH, call},
    credentials,
    error::CliError,
};
use crate::render::smoke::{SmokeJson, ok, text};

pub async fn run(
    context: &mut Context,
    cluster: &ClusterName,
    from: Option<&HostName>,
    ca: Option<&Path>,
) -> Result<Verdict, CliError> {
    let unreadable = |error: io::Error| CliError::Usage {
        what: format!("--ca {}: {error}", ca.unwrap_or(Path::new("")).display()),
        hint: "name the PEM file of the authority that has signed the cluster's certificates".into(),
    };
    let authority = ca.map(fs::read_to_string).transpose().map_err(unreadable)?;
    let link = context.dial().await?;
    let mut admin = link.admin();
    let name = cluster.to_string();
    let steps = match from {
        Some(from) => {
            let request = SmokeTestRequest { cluster: name.clone(), from_host: from.to_string() };
            call(&format!("the smoke test of {name} from {from}"), THOROUGH, admin.smoke_test(request)).await?.steps
        }
        None => {
            let request = GetStatusRequest { cluster: name.clone() };
            let answer = call(&format!("asking for the masters of {name}"), QUICK, admin.get_status(request)).await?;
            let masters = masters(&answer);
            let credentials = credentials::get(&mut link.trust(), cluster).await?;
            let access = credentials.map(Access::from).unwrap_or_default().believing(authority);
            let mut steps = client::visit(&masters, &access).await;
            steps.extend(unserved(&masters));
            steps
        }
    };
    let from = from.map(HostName::as_str);
    context.show(|| text(&name, from, &steps), || SmokeJson::new(&name, from, &steps));
    Ok(Verdict::of(ok(&steps)))
}

/// Whoever is asked for some slots.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Master {
    address: String,
    port: u16,
    slots: Vec<SlotRange>,
}

/// Those that run and say that they are masters with slots. Slots that none of them serves may be served where an agent
/// is silent: there those count that said so last, or else that were planned. Whether they do, the client finds out.
fn masters(answer: &GetStatusResponse) -> Vec<Master> {
    let of = |state: InstanceState, slots: fn(&ClusterInstance) -> Option<&Vec<WireSlots>>| {
        let found = answer.instances.iter().filter_map(move |instance| {
            let status = instance.status.as_ref().filter(|status| status.state() == state)?;
            let slots = slots(instance)?.iter().filter_map(|range| SlotRange::try_from(*range).ok()).collect();
            let port = u16::try_from(status.port).ok()?;
            Some(Master { address: status.address.clone(), port, slots: normal(slots) })
        });
        found.collect::<Vec<_>>()
    };
    let mut masters = of(InstanceState::Running, said);
    for others in [of(InstanceState::Unknown, said), of(InstanceState::Unknown, planned)] {
        let open = gaps(&masters);
        masters.extend(others.into_iter().map(|master| Master { slots: common(&master.slots, &open), ..master }));
    }
    masters.retain(|master| !master.slots.is_empty());
    masters
}

fn said(instance: &ClusterInstance) -> Option<&Vec<WireSlots>> {
    let view = instance.status.as_ref()?.view.as_ref()?;
    (view.role() == Role::Master).then_some(&view.slots)
}

fn planned(instance: &ClusterInstance) -> Option<&Vec<WireSlots>> {
    instance.planned.as_ref().map(|planned| &planned.slots)
}

/// Slots that none of them serves.
fn gaps(masters: &[Master]) -> Vec<SlotRange> {
    let served = normal(masters.iter().flat_map(|master| master.slots.clone()).collect());
    let (mut next, mut gaps) = (0, Vec::new());
    // A range that begins after the last slot closes the last gap.
    let ends = served.iter().map(|range| (range.first(), range.last() + 1)).chain([(SLOTS, SLOTS)]);
    for (first, after) in ends {
        gaps.extend((next < first).then(|| SlotRange::new(next, first - 1).ok()).flatten());
        next = after;
    }
    gaps
}

/// What is in both.
fn common(some: &[SlotRange], others: &[SlotRange]) -> Vec<SlotRange> {
    let both = |one: &SlotRange, other: &SlotRange| {
        SlotRange::new(one.first().max(other.first()), one.last().min(other.last())).ok()
    };
    some.iter().flat_map(|one| others.iter().filter_map(move |other| both(one, other))).collect()
}

/// A failed step for each run of slots that none of them serves.
fn unserved(masters: &[Master]) -> Vec<SmokeStep> {
    let step = |gap: SlotRange| {
        let error = format!("no running master serves slots {}-{}", gap.first(), gap.last());
        SmokeStep { slot: gap.first().into(), error, ..SmokeStep::default() }
    };
    gaps(masters).into_iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_nobody_serves_are_failures() {
        let master = |range: &str| Master { address: "127.0.0.1".into(), port: 1, slots: vec![range.parse().unwrap()] };
        let gaps = |ranges: &[&str]| {
            let masters: Vec<_> = ranges.iter().map(|range| master(range)).collect();
            unserved(&masters).into_iter().map(|step| (step.slot, step.error)).collect::<Vec<_>>()
        };
        let error = |slots: &str| format!("no running master serves slots {slots}");
        assert_eq!(gaps(&["0-5460", "5461-10922", "10923-16383"]), []);
        assert_eq!(gaps(&["0-5460", "10923-16383"]), [(5461, error("5461-10922"))]);
        assert_eq!(gaps(&["5461-10922"]), [(0, error("0-5460")), (10923, error("10923-16383"))]);
        assert_eq!(gaps(&[]), [(0, error("0-16383"))]);
    }

    #[test]
    fn the_masters_are_those_that_run_and_say_so() {
        let healthy = crate::render::status::tests::healthy();
        let ports = |answer: &GetStatusResponse| masters(answer).iter().map(|master| master.port).collect::<Vec<_>>();
        assert_eq!(ports(&healthy), [7000, 7003, 7001]);
        let mut dead = healthy.clone();
        dead.instances[0].status.as_mut().unwrap().state = InstanceState::Down.into();
        assert_eq!(ports(&dead), [7003, 7001]);

        // An agent that is silent: its instances may well serve, as they said, or as was planned.
        let mut silent = healthy;
        let status = silent.instances[0].status.as_mut().unwrap();
        status.state = InstanceState::Unknown.into();
        assert_eq!(ports(&silent), [7003, 7001, 7000]);
        assert_eq!(unserved(&masters(&silent)), []);
        let view = silent.instances[0].status.as_mut().unwrap().view.take().unwrap();
        silent.instances[0].planned.get_or_insert_default().slots.clone_from(&view.slots);
        assert_eq!(ports(&silent), [7003, 7001, 7000]);
        // Another one has taken over since.
        silent.instances[0].status.as_mut().unwrap().view = Some(view.clone());
        let successor = silent.instances.iter_mut().find(|instance| {
            let status = instance.status.as_ref().unwrap();
            status.port == 7004
        });
        successor.unwrap().status.as_mut().unwrap().view = Some(view);
        assert_eq!(ports(&silent), [7004, 7003, 7001]);
    }
}
