//! What a server keeps of its data by itself, which is what a restart may lean on.

use crate::Setting;

/// What Muster writes into a redis.conf unless the operator has a line with the same key. `cluster-node-timeout` is not
/// among them: the server's own default of 15000 ms is meant.
pub const DEFAULTS: &[(&str, &str)] = &[("appendonly", "yes")];

/// The files that are as new as the data set, or as old as the operator has chosen. Others may lie beside them: every
/// replica's first sync leaves an RDB behind, and nothing ever brings that up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Every write, in the append-only file; the server loads nothing else then (`loadDataFromDisk`, server.c).
    Log,
    /// Snapshots.
    Snapshots,
    /// Nothing.
    Nothing,
}

impl Keeps {
    /// What the settings say; the last line of a key counts.
    pub fn of(settings: &[Setting]) -> Self {
        let last = |wanted: &str| {
            let own = settings.iter().map(|setting| (setting.key.as_str(), setting.value.as_str()));
            let value = DEFAULTS.iter().copied().chain(own).rfind(|(key, _)| *key == wanted)?.1;
            Some(value.trim_matches(['"', '\'']).to_ascii_lowercase())
        };
        match (last("appendonly").as_deref(), last("save").as_deref()) {
            (Some("yes"), _) => Self::Log,
            (_, Some("")) => Self::Nothing,
            // Without a line for it, servers of every version make snapshots.
            (_, Some(_) | None) => Self::Snapshots,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_the_last_lines_say() {
        let cases: [(&[(&str, &str)], Keeps); 7] = [
            (&[], Keeps::Log),
            (&[("appendonly", "yes"), ("save", "\"\"")], Keeps::Log),
            (&[("appendonly", "\"YES\"")], Keeps::Log),
            (&[("appendonly", "no")], Keeps::Snapshots),
            (&[("appendonly", "no"), ("save", "\"\"")], Keeps::Nothing),
            (&[("appendonly", "no"), ("save", "\"\""), ("save", "900 1")], Keeps::Snapshots),
            (&[("appendonly", "no"), ("save", "900 1"), ("save", "\"\"")], Keeps::Nothing),
        ];
        for (lines, expected) in cases {
            let setting = |(key, value): &(&str, &str)| Setting { key: (*key).into(), value: (*value).into() };
            assert_eq!(Keeps::of(&lines.iter().map(setting).collect::<Vec<_>>()), expected, "{lines:?}");
        }
    }
}
