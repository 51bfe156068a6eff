//! What is done in a case, from the first start to the judge.

use super::{
    Fate,
    oracle::{Expected, judge},
    stage::{Server, Stage},
};

/// The cluster of every case.
const CLUSTER: &str = "orders";
const SETTINGS: &str = "appendonly = \"yes\"\ncluster-node-timeout = \"2000\"";

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// A cluster is formed, on hosts that are started for the first time.
    Bootstrap,
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
    pub const EACH: [Self; 1] = [Self::Bootstrap];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
        }
    }

    /// Plays it.
    pub fn play(self, server: Server, fate: Fate) -> Outcome {
        let mut stage = Stage::new(server, fate);
        let verdict = match self {
            Self::Bootstrap => bootstrap(&mut stage),
        };
        Outcome { stage, verdict }
    }
}

fn bootstrap(stage: &mut Stage) -> Result<(), String> {
    stage.begin();
    stage.start()?;
    form(stage)?;
    ends(stage, &Expected { cluster: CLUSTER.into(), life: 1, aside: Vec::new(), data: Vec::new() })
}

/// Plans and approves as a script does that does not give up, and waits for the end.
fn form(stage: &mut Stage) -> Result<(), String> {
    let path = stage.world.spec(CLUSTER, 1, SETTINGS);
    let spec = muster_coordinator::spec_file::read(path.as_ref()).map_err(|error| error.to_string())?;
    let mut hash: Option<String> = None;
    let id = stage.until("a plan is approved", |stage| {
        if let Some(hash) = &hash {
            // Maybe it was approved, and the answer was lost: the same request gets the same operation.
            let (mut client, request) = (stage.admin.client(), apply(hash, "bootstrap", ""));
            match stage.call(async move { client.apply(request).await }) {
                Ok(answer) => return Ok(answer.into_inner().operation.unwrap_or_default().id),
                Err(why) if !why.contains("no plan") && !why.contains("fatal finding") && !why.contains("hold") => {
                    return Err(why);
                }
                Err(_) => {}
            }
        }
        let request = muster_proto::wire::PlanRequest { spec: Some((&spec).into()) };
        let mut client = stage.admin.client();
        let plan = stage.call(async move { client.plan(request).await })?.into_inner().plan.unwrap_or_default();
        hash = Some(plan.hash);
        Err("it was only planned yet".to_owned())
    })?;
    let operation = stage.until_ended(&id)?;
    if operation.phase != "FORMED" {
        return Err(format!("it has ended as {}: {}", operation.phase, operation.message));
    }
    Ok(())
}

fn apply(plan_hash: &str, request_id: &str, confirm: &str) -> muster_proto::wire::ApplyRequest {
    muster_proto::wire::ApplyRequest {
        plan_hash: plan_hash.to_owned(),
        request_id: request_id.to_owned(),
        confirm: confirm.to_owned(),
    }
}

fn ends(stage: &mut Stage, expected: &Expected) -> Result<(), String> {
    stage.until("the judge finds nothing", |stage| judge(&stage.places(), expected))
}
