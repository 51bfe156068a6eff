//! What is done in a case, from the first start to the judge.

use std::{
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use muster_proto::wire::{
    ApplyRequest, CancelOperationRequest, Operation, OperationState, Plan, PlanRebuildRequest, PlanRequest,
    PlanResponse,
};
use tonic::{Response, Status, transport::Channel};

use super::{
    Fate,
    oracle::{Expected, gone, judge},
    resp,
    stage::{Server, Stage},
};

/// The cluster of every case.
const CLUSTER: &str = "orders";
const SETTINGS: &str = "appendonly = \"yes\"\ncluster-node-timeout = \"2000\"";
/// One in each third of the slots, so one on each of three masters.
const KEYS: [&str; 3] = ["a", "b", "c"];

type Client = muster_proto::wire::admin_client::AdminClient<Channel>;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// A cluster is formed, on hosts that are started for the first time.
    Bootstrap,
    /// A cluster with data is rebuilt.
    Rebuild,
    /// That is undone.
    Undo,
    /// A rebuild is called off as soon as it has begun; where that comes too late, it is done.
    Cancel,
    /// A bootstrap is called off as soon as it has begun; where that comes too late, it is done.
    Retreat,
}

/// How a case went.
pub struct Outcome {
    /// The stage, still up.
    pub stage: Stage,
    /// What was wrong.
    pub verdict: Result<(), String>,
}

impl Scenario {
    /// Each of them.
    pub const EACH: [Self; 5] = [Self::Bootstrap, Self::Rebuild, Self::Undo, Self::Cancel, Self::Retreat];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Rebuild => "rebuild",
            Self::Undo => "undo",
            Self::Cancel => "cancel",
            Self::Retreat => "retreat",
        }
    }

    /// Plays it.
    pub fn play(self, server: Server, fate: Fate) -> Outcome {
        let mut stage = Stage::new(server, fate);
        let verdict = self.act(&mut stage);
        Outcome { stage, verdict }
    }

    fn act(self, stage: &mut Stage) -> Result<(), String> {
        let mut expected = Expected { cluster: CLUSTER.into(), life: 1, aside: Vec::new(), data: Vec::new() };
        if matches!(self, Self::Bootstrap | Self::Retreat) {
            stage.begin();
        }
        stage.start()?;
        let id = form(stage)?;
        if self == Self::Retreat && call_off(stage, &id)? {
            stage.let_die();
            return stage.until("nothing is left in place", |stage| gone(&stage.places()));
        }
        formed(&stage.until_ended(&id)?)?;
        ends(stage, &expected)?;
        if matches!(self, Self::Bootstrap | Self::Retreat) {
            return Ok(());
        }
        fill(stage, &mut expected)?;
        let rebuilt = Expected { life: 2, aside: vec![1], ..expected.clone() };
        match self {
            Self::Bootstrap | Self::Retreat => {}
            Self::Rebuild => {
                stage.begin();
                rebuild(stage, false)?;
                expected = rebuilt;
            }
            Self::Undo => {
                rebuild(stage, false)?;
                expected = rebuilt;
                ends(stage, &expected)?;
                fill(stage, &mut expected)?;
                stage.begin();
                rebuild(stage, true)?;
                expected = Expected { life: 1, aside: vec![2], ..expected };
            }
            Self::Cancel => {
                stage.begin();
                let id = approve(stage, "rebuild", |client| plan_rebuild(client, false))?;
                if !call_off(stage, &id)? {
                    expected = rebuilt;
                }
            }
        }
        ends(stage, &expected)
    }
}

fn ends(stage: &mut Stage, expected: &Expected) -> Result<(), String> {
    stage.let_die();
    stage.until("the judge finds nothing", |stage| judge(&stage.places(), expected))
}

/// Begins to form the cluster; the operation's id.
fn form(stage: &mut Stage) -> Result<String, String> {
    let path = stage.world.spec(CLUSTER, 1, SETTINGS);
    let spec = muster_coordinator::spec_file::read(path.as_ref()).map_err(|error| error.to_string())?;
    approve(stage, "form", move |mut client| {
        let request = PlanRequest { spec: Some((&spec).into()) };
        async move { client.plan(request).await }
    })
}

/// Rebuilds it, or takes that back.
fn rebuild(stage: &mut Stage, undo: bool) -> Result<(), String> {
    let id = approve(stage, if undo { "undo" } else { "rebuild" }, move |client| plan_rebuild(client, undo))?;
    formed(&stage.until_ended(&id)?)
}

async fn plan_rebuild(mut client: Client, undo: bool) -> Result<Response<PlanResponse>, Status> {
    let request = PlanRebuildRequest { cluster: CLUSTER.to_owned(), undo, ..PlanRebuildRequest::default() };
    client.plan_rebuild(request).await
}

/// Calls an operation off. Whether that came in time.
fn call_off(stage: &mut Stage, id: &str) -> Result<bool, String> {
    stage.until("it is called off", |stage| {
        let (mut client, id) = (stage.admin.client(), id.to_owned());
        match stage.call(async move { client.cancel_operation(CancelOperationRequest { id }).await }) {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is_no() => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    })?;
    let operation = stage.until_ended(id)?;
    match operation.state() {
        OperationState::Cancelled => Ok(true),
        _ => formed(&operation).map(|()| false),
    }
}

fn formed(operation: &Operation) -> Result<(), String> {
    match (operation.state(), operation.phase.as_str()) {
        (OperationState::Done, "FORMED") => Ok(()),
        (state, phase) => Err(format!("it has ended as {} in {phase}: {}", state.as_str_name(), operation.message)),
    }
}

/// Plans and approves, as a script does that does not give up: a request whose answer was lost is made again as it was,
/// one that was refused is planned anew. The operation's id.
fn approve<F>(stage: &mut Stage, request_id: &str, plan: impl Fn(Client) -> F) -> Result<String, String>
where
    F: Future<Output = Result<Response<PlanResponse>, Status>> + Send + 'static,
{
    let mut planned: Option<Plan> = None;
    stage.until(&format!("{request_id} is approved"), |stage| {
        if planned.is_none() {
            let answer = stage.call(plan(stage.admin.client()))?;
            planned = answer.into_inner().plan;
        }
        let hash = planned.as_ref().map(|plan| plan.hash.clone()).unwrap_or_default();
        let request = ApplyRequest { plan_hash: hash, request_id: request_id.to_owned(), confirm: CLUSTER.to_owned() };
        let mut client = stage.admin.client();
        match stage.call(async move { client.apply(request).await }) {
            Ok(answer) => Ok(answer.into_inner().operation.unwrap_or_default().id),
            Err(refusal) => {
                let found = planned.iter().flat_map(|plan| &plan.findings);
                let found: Vec<_> = found.map(|finding| finding.message.clone()).collect();
                if refusal.is_no() {
                    planned = None;
                }
                Err(format!("{} {found:?}", String::from(refusal)))
            }
        }
    })
}

/// Writes a value into each shard, and waits until it is in both of its directories.
fn fill(stage: &mut Stage, expected: &mut Expected) -> Result<(), String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let places = stage.places();
    let any = format!("{}:{}", places[0].address, places[0].ports[0]);
    for key in KEYS {
        let value = format!("<{key}-{}-{}>", process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let set = |endpoint: &str| resp::ask(endpoint, &["SET", key, &value]);
        stage.until("a value is written", |_| match set(&any) {
            // MOVED slot address:port
            Err(moved) if moved.contains("MOVED") => set(moved.rsplit(' ').next().unwrap_or_default()),
            other => other,
        })?;
        expected.data.push((value, expected.life));
    }
    ends(stage, expected)
}
