//! The trash of a modelled machine, and what is deleted from it: the only way for a directory to go for good.

use std::time::Duration;

use muster_agent::{
    layout::Stamp,
    reconcile::stamp_of,
    trash::{Entry, Policy, overdue},
};
use muster_proto::{ClusterAssignment, InstanceAssignment, Port, convert::millis};

use super::{host::Directory, sabotage::Sabotage, world::World};

impl World {
    fn in_trash(&self, host: usize, stamp: &Stamp) -> Option<usize> {
        self.hosts[host].disk.trash.iter().position(|directory| directory.stamp.same_life(stamp))
    }

    /// What a directory that is to be put back lacks.
    pub fn trashed(&self, host: usize, cluster: &ClusterAssignment, wanted: &InstanceAssignment) -> Result<(), String> {
        let stamp = stamp_of(cluster, wanted);
        self.in_trash(host, &stamp).map(drop).ok_or_else(|| "it is not in the trash".to_owned())
    }

    /// Out of the trash, into its place.
    pub fn restore(&mut self, host: usize, port: Port, stamp: &Stamp) -> Result<(), String> {
        if self.hosts[host].disk.places.contains_key(&port) {
            return Err("File exists".into());
        }
        let nth = self.in_trash(host, stamp).ok_or("it is not in the trash")?;
        let directory = self.hosts[host].disk.trash.remove(nth);
        self.tell(format!("{}:{port}", self.name(host)), format!("life {} is put back", directory.stamp.life));
        self.judge_restored(host, &directory);
        self.hosts[host].disk.places.insert(port, directory);
        Ok(())
    }

    /// Whether what the host was told wants that put back.
    fn is_wanted(&self, host: usize, stamp: &Stamp) -> bool {
        if self.sabotage(Sabotage::DeleteWanted) {
            return false;
        }
        self.hosts[host].disk.orders.assignment().clusters.iter().any(|cluster| {
            let mut returns = cluster.instances.iter().filter(|instance| instance.restore);
            returns.any(|instance| stamp_of(cluster, instance).same_life(stamp))
                || cluster.keeps.iter().any(|former| stamp.is_of(cluster.cluster_id, former))
        })
    }

    /// Deletes from the trash what is meant, unless it is to be put back.
    pub fn deletes(&mut self, host: usize, is_meant: impl Fn(&Directory) -> bool) {
        let trash = std::mem::take(&mut self.hosts[host].disk.trash);
        let (gone, stay): (Vec<_>, Vec<_>) =
            trash.into_iter().partition(|it| is_meant(it) && !self.is_wanted(host, &it.stamp));
        self.hosts[host].disk.trash = stay;
        for directory in gone {
            let what = format!("{} of life {} is deleted", directory.stamp.port, directory.stamp.life);
            self.tell(self.name(host), what);
            self.judge_purged(host, &directory);
        }
    }

    /// The policy of some host is applied to its trash: what is older than some seconds goes.
    pub fn sweeps(&mut self, host: usize) {
        let policy = Policy { keep: Some(Duration::from_secs([1, 20, 60][self.dice.below(3)])), most: None };
        if self.hosts[host].agent.is_none() {
            return;
        }
        let entry = |directory: &Directory| Entry {
            name: directory.inode.to_string(),
            stamp: directory.stamp.clone(),
            bytes: 1,
            aside_unix_ms: millis(directory.aside),
        };
        let entries: Vec<Entry> = self.hosts[host].disk.trash.iter().map(entry).collect();
        let overdue = overdue(&entries, |stamp| self.is_wanted(host, stamp), |_| false, millis(self.now), true, policy);
        let gone: Vec<String> = overdue.into_iter().map(|(entry, _)| entry.name.clone()).collect();
        self.deletes(host, |directory| gone.contains(&directory.inode.to_string()));
    }
}
