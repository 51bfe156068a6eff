//! Hosts that are not there, for those who may go on without them.

use muster_proto::HostName;

use super::{Away, Inventory};
use crate::trust::Bars;

impl Inventory {
    /// Why nobody can tell a host anything, said of it; none where somebody can. One that is late to take in what it
    /// was told, or that refuses it, is there.
    pub fn away(&self, name: &HostName, bars: &Bars) -> Option<String> {
        match self.current(name, bars) {
            Ok(_) | Err(Away::Behind { .. } | Away::Refuses(_)) => None,
            Err(away) => Some(away.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_proto::Generation;

    use super::*;
    use crate::{
        samples::{blueprint, inventory, running},
        trust::Bar,
    };

    #[test]
    fn who_is_late_or_refuses_is_there_and_who_is_silent_or_barred_is_not() {
        let blueprint = blueprint();
        let mut inventory = inventory(&blueprint, |member| running(&blueprint, member));
        let [one, two, nobody] = ["server1", "server2", "nobody"].map(|name| name.parse::<HostName>().unwrap());
        let hosts = [one.clone(), two.clone(), nobody.clone()];
        let said = |inventory: &Inventory, bars: &Bars| {
            let said = |host: &HostName| Some(format!("{host} {}", inventory.away(host, bars)?));
            hosts.iter().filter_map(said).collect::<Vec<_>>()
        };
        let none = "nobody has no agent: none calls itself so";
        assert_eq!(said(&inventory, &Bars::new()), [none]);
        inventory.get_mut(&one).unwrap().told = Generation(7);
        inventory.get_mut(&two).unwrap().report.as_mut().unwrap().refusal = Some("an old term".into());
        assert_eq!(said(&inventory, &Bars::new()), [none]);
        inventory.get_mut(&one).unwrap().session = None;
        let bar = Bar { what: "is quarantined".into(), cure: "muster host approve server2".into() };
        assert_eq!(
            said(&inventory, &[(two.clone(), bar)].into()),
            [
                "server1 has not been heard of for 0 s",
                "server2 is quarantined (hint: muster host approve server2)",
                none
            ]
        );
    }
}
