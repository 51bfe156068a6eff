//! The loop's part in the empty-restart guard: agents hear who serves a cluster's slots.

use muster_proto::wire;

use super::Keeper;
use crate::ledger::ClusterRecord;

impl Keeper {
    /// Tells a formed cluster's hosts who serves its slots, where they have not been told yet.
    pub(super) fn tell_leaders(&mut self, record: &ClusterRecord) {
        let inventory = self.shared.inventory();
        let Some(leaders) = inventory.leaders(&record.blueprint) else { return };
        let cluster = &record.blueprint.cluster;
        for name in record.blueprint.hosts() {
            let Some(session) = inventory.get(&name).and_then(|host| host.session.as_ref()) else { continue };
            let known = self.led.get(&(cluster.clone(), name.clone()));
            if known.is_some_and(|(stream, told)| *stream == session.id && *told == leaders) {
                continue;
            }
            let node_ids = leaders.iter().map(ToString::to_string).collect();
            let said = wire::Leaders { cluster: cluster.to_string(), node_ids };
            let message = wire::ToAgent { body: Some(wire::to_agent::Body::Leaders(said)) };
            if session.say.try_send(message).is_ok() {
                self.led.insert((cluster.clone(), name), (session.id, leaders.clone()));
            }
        }
    }
}
