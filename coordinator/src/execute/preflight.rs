//! Preflight: every host looks at itself and holds its ports, then dials everyone else's, then lets go.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use muster_proto::{
    HostName, Spec,
    convert::millis,
    wire::{self, task::Kind, task_result::Outcome},
};

use super::ANSWER;
use crate::{
    keeper::Shared,
    ledger::unix_ms,
    preflight::{
        Answer,
        own::{self, Ours},
    },
};

/// Patience for a survey, which runs a server twice.
const SURVEY: Duration = Duration::from_secs(8);
/// Patience of one dial. A blocked pair is named after it.
const DIAL: Duration = Duration::from_secs(3);
/// Listeners are given up after this.
const HOLD: Duration = Duration::from_secs(20);

impl Shared {
    /// Asks all hosts of the spec. Added to a client port, `bus_offset` gives its bus port. What the cluster's own
    /// instances explain of the answers is not in them; of a cluster that is still to be there are none.
    pub async fn preflight(self: &Arc<Self>, spec: &Spec, bus_offset: u16, ours: &Ours) -> BTreeMap<HostName, Answer> {
        let _sole = self.surveying.lock().await;
        let hosts = &spec.parts().hosts;
        let settings: Vec<_> = spec.parts().settings.iter().map(wire::Setting::from).collect();
        let surveys = hosts.iter().map(|host| {
            let task = wire::Survey {
                ports: host.ports.iter().map(u32::from).collect(),
                bus_offset: bus_offset.into(),
                settings: settings.clone(),
                hold_ms: u32::try_from(millis(HOLD)).unwrap_or(u32::MAX),
                auth: Some((&spec.parts().auth).into()),
                tls: Some((&spec.parts().tls).into()),
            };
            let (shared, name) = (self.clone(), host.name.clone());
            (host.name.clone(), async move { shared.survey(&name, task).await })
        });
        let surveys = self.ask_all(surveys).await;
        // Those that have not answered hold no ports, and need not be waited for again.
        let answered = |name: &HostName| surveys.get(name).is_some_and(|(survey, _)| survey.is_ok());
        let hosts: Vec<_> = hosts.iter().filter(|host| answered(&host.name)).collect();
        let targets: BTreeMap<_, _> = hosts
            .iter()
            .map(|host| {
                let survey = surveys.get(&host.name).and_then(|(survey, _)| survey.as_ref().ok());
                (host.name.clone(), self.targets(&host.name, survey, bus_offset, ours))
            })
            .collect();
        let dials = hosts.iter().map(|host| {
            let others =
                targets.iter().filter(|(name, _)| **name != host.name).flat_map(|(_, targets)| targets.clone());
            let timeout_ms = u32::try_from(millis(DIAL)).unwrap_or(u32::MAX);
            let task = wire::Reach { targets: others.collect(), timeout_ms };
            let (shared, name) = (self.clone(), host.name.clone());
            (host.name.clone(), async move { shared.reach(&name, task).await })
        });
        let mut reached = self.ask_all(dials).await;
        let releases = hosts.iter().map(|host| {
            let (shared, name) = (self.clone(), host.name.clone());
            (host.name.clone(), async move { shared.ask(&name, Kind::Release(wire::Release {}), ANSWER).await })
        });
        self.ask_all(releases).await;
        let answer = |(name, (survey, skew_ms)): (HostName, (Result<_, _>, i64))| {
            let reach = reached.remove(&name).unwrap_or_else(|| Err("not asked".into()));
            let address = self.inventory().get(&name).map(|host| host.hello.address.to_string()).unwrap_or_default();
            (name, Answer { survey, skew_ms, reach, address })
        };
        own::explain(surveys.into_iter().map(answer).collect(), &spec.parts().name, ours, bus_offset)
    }

    async fn survey(&self, host: &HostName, task: wire::Survey) -> (Result<wire::SurveyResult, String>, i64) {
        let (sent, clock) = (unix_ms(), Instant::now());
        match self.ask(host, Kind::Survey(task), SURVEY).await {
            Ok(Outcome::Survey(survey)) => {
                let skew = super::skew(survey.unix_ms, sent, clock);
                (Ok(survey), skew)
            }
            Ok(_) => (Err("its answer is of another kind".into()), 0),
            Err(why) => (Err(why), 0),
        }
    }

    async fn reach(&self, host: &HostName, task: wire::Reach) -> Result<Vec<wire::Unreached>, String> {
        match self.ask(host, Kind::Reach(task), DIAL + ANSWER).await {
            Ok(Outcome::Reach(result)) => Ok(result.unreached),
            Ok(_) => Err("its answer is of another kind".into()),
            Err(why) => Err(why),
        }
    }

    /// The ports of a host that can be dialled: those that are held, and those on which our own servers listen.
    fn targets(
        &self,
        host: &HostName,
        survey: Option<&wire::SurveyResult>,
        bus_offset: u16,
        ours: &Ours,
    ) -> Vec<wire::Target> {
        let address = self.inventory().get(host).map(|host| host.hello.address.to_string()).unwrap_or_default();
        let target = |port, bus| wire::Target { host: host.to_string(), address: address.clone(), port, bus };
        let open = |fact: &wire::PortFact| {
            let sides = own::sides(fact, bus_offset).into_iter().zip([false, true]);
            let open = sides.filter(|(side, _)| side.error.is_empty() || own::listens(ours, host, side));
            open.map(|(side, bus)| target(side.port, bus)).collect::<Vec<_>>()
        };
        survey.map(|survey| survey.ports.iter().flat_map(open).collect()).unwrap_or_default()
    }
}
