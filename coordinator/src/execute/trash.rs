//! What would be set aside, what is in the trash, and what leaves it for good.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use muster_proto::{
    ClusterId, HostName,
    convert::millis,
    wire::{self, task::Kind, task_result::Outcome},
};

use super::ANSWER;
use crate::{blueprint::Blueprint, doomed::WATCH, keeper::Shared};

/// Patience for a deletion. Large files take time, and what was not answered may still be done.
const PURGE: Duration = Duration::from_secs(60);

/// What was found on each host, or why that is not known.
pub type Found<T> = BTreeMap<HostName, Result<T, String>>;

impl Shared {
    /// What the instances of a cluster hold, and who uses them. Takes as long as writes are counted.
    pub async fn appraise(self: &Arc<Self>, blueprint: &Blueprint) -> Found<wire::Appraisal> {
        let watch_ms = u32::try_from(millis(WATCH)).unwrap_or(u32::MAX);
        let task = wire::Appraise { cluster: blueprint.cluster.to_string(), watch_ms };
        self.ask_each(blueprint.hosts(), Kind::Appraise(task), WATCH + ANSWER, |outcome| match outcome {
            Outcome::Appraisal(appraisal) => Some(appraisal),
            _ => None,
        })
        .await
    }

    /// What is in the trash of hosts; of one cluster, or of all.
    pub async fn rummage(
        self: &Arc<Self>,
        hosts: Vec<HostName>,
        cluster_id: Option<ClusterId>,
    ) -> Found<wire::RummageResult> {
        let cluster_id = cluster_id.map(|id| id.to_string()).unwrap_or_default();
        self.ask_each(hosts, Kind::Rummage(wire::Rummage { cluster_id }), ANSWER, |outcome| match outcome {
            Outcome::Rummage(result) => Some(result),
            _ => None,
        })
        .await
    }

    /// Deletes from the trash of hosts, for good.
    pub async fn purge(self: &Arc<Self>, hosts: Vec<HostName>, task: wire::Purge) -> Found<wire::PurgeResult> {
        self.ask_each(hosts, Kind::Purge(task), PURGE, |outcome| match outcome {
            Outcome::Purge(result) => Some(result),
            _ => None,
        })
        .await
    }

    /// Asks several the same.
    fn ask_each<T: Send + 'static>(
        self: &Arc<Self>,
        hosts: Vec<HostName>,
        kind: Kind,
        patience: Duration,
        read: fn(Outcome) -> Option<T>,
    ) -> impl Future<Output = Found<T>> {
        let asks: Vec<_> = hosts
            .into_iter()
            .map(|host| {
                let (shared, name, kind) = (self.clone(), host.clone(), kind.clone());
                (host, async move {
                    let outcome = shared.ask(&name, kind, patience).await?;
                    read(outcome).ok_or_else(|| "its answer is of another kind".to_owned())
                })
            })
            .collect();
        self.ask_all(asks)
    }
}
