//! The server binary of this host, asked for its version when it has changed, as an upgrade of the package does.

use std::{
    fs,
    path::PathBuf,
    time::{Instant, SystemTime},
};

use muster_proto::Server;

use super::RETRY;
use crate::{config::Config, survey};

/// The server binary as last asked for its version; asked again when the file has changed.
pub(super) struct Binary {
    /// What it is; why there is none.
    pub(super) found: Result<Server, String>,
    file: Option<(u64, SystemTime)>,
    asked: Option<Instant>,
}

impl Binary {
    /// Not looked for yet.
    pub(super) fn unknown() -> Self {
        Self { found: Err("not looked for yet".into()), file: None, asked: None }
    }

    /// Asks it, where that is due; whether it is another than before.
    pub(super) async fn refresh(&mut self, config: &Config) -> bool {
        let path = match &self.found {
            Ok(server) => Some(PathBuf::from(&server.path)),
            Err(_) => None,
        };
        let file = path.and_then(|path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.len(), meta.modified().ok()?))
        });
        let due = self.asked.is_none_or(|at| at.elapsed() >= RETRY);
        if (file.is_none() && due) || (file.is_some() && file != self.file) {
            self.asked = Some(Instant::now());
            let before = self.file;
            self.found = survey::server(config).await;
            self.file = self.found.as_ref().ok().and_then(|server| {
                let meta = fs::metadata(&server.path).ok()?;
                Some((meta.len(), meta.modified().ok()?))
            });
            return self.file != before;
        }
        false
    }
}
