//! `muster context`: what is kept under which name; never the secrets.

use serde::Serialize;

use super::{moment, table};

/// A context, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct ContextJson {
    /// How it is called.
    pub name: String,
    /// It is used when none is named.
    pub current: bool,
    /// Where its coordinator is.
    pub endpoint: String,
    /// Who we are there; none on this host.
    pub user: Option<String>,
    /// `access-string` or `certificate`.
    pub how: Option<&'static str>,
    /// When that ends; none for never.
    pub expires_unix_ms: Option<u64>,
}

/// All of them, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct ContextsJson {
    current: Option<String>,
    contexts: Vec<ContextJson>,
}

/// One of them, alone in a document.
#[derive(Debug, Clone, Serialize)]
pub struct OneJson {
    context: ContextJson,
}

impl ContextsJson {
    /// By name.
    pub fn new(contexts: &[ContextJson]) -> Self {
        let current = contexts.iter().find(|context| context.current).map(|context| context.name.clone());
        Self { current, contexts: contexts.to_vec() }
    }
}

impl OneJson {
    /// That one.
    pub fn new(context: &ContextJson) -> Self {
        Self { context: context.clone() }
    }
}

/// One in a line.
pub fn one(context: &ContextJson) -> String {
    let ContextJson { name, current, endpoint, user, how, expires_unix_ms } = context;
    let user = user.as_ref().map(|user| format!(" as {user}")).unwrap_or_default();
    let how = how.map(|how| format!(", by {}", words(how))).unwrap_or_default();
    let until = expires_unix_ms.map(|expires| format!(", until {}", moment(expires))).unwrap_or_default();
    let current = if *current { " (current)" } else { "" };
    format!("context {name}{current}: {endpoint}{user}{how}{until}\n")
}

/// A table; `now_ms` tells what has expired.
pub fn list(contexts: &[ContextJson], now_ms: u64) -> String {
    if contexts.is_empty() {
        return "No contexts; the coordinator of this host is used. Add one: muster context add NAME --endpoint URL\n"
            .into();
    }
    let dash = || "-".to_owned();
    let row = |context: &ContextJson| {
        let until = context.expires_unix_ms.map(|expires| match expires <= now_ms {
            true => format!("{} (expired)", moment(expires)),
            false => moment(expires),
        });
        [
            if context.current { "*" } else { "" }.to_owned(),
            context.name.clone(),
            context.endpoint.clone(),
            context.user.clone().unwrap_or_else(dash),
            context.how.map_or_else(dash, |how| words(how).to_owned()),
            until.unwrap_or_else(dash),
        ]
    };
    table(["", "CONTEXT", "ENDPOINT", "USER", "BY", "UNTIL"], contexts.iter().map(row).collect())
}

fn words(how: &str) -> &str {
    if how == "access-string" { "access string" } else { how }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::document;
    use expect_test::expect;

    fn three() -> Vec<ContextJson> {
        let one = |name: &str, endpoint: &str, who: Option<(&'static str, u64)>| ContextJson {
            name: name.into(),
            current: name == "prod",
            endpoint: endpoint.into(),
            user: who.map(|_| "alice".into()),
            how: who.map(|(how, _)| how),
            expires_unix_ms: who.map(|(_, expires)| expires),
        };
        vec![
            one("here", "unix:/run/muster/admin.sock", None),
            one("old", "https://10.0.0.1:7700", Some(("access-string", 1_795_384_800_000))),
            one("prod", "https://muster.example:7700", Some(("certificate", 1_803_160_800_000))),
        ]
    }

    #[test]
    fn contexts_are_a_table_that_tells_what_has_expired() {
        expect![[r#"
               CONTEXT  ENDPOINT                     USER   BY             UNTIL
               here     unix:/run/muster/admin.sock  -      -              -
               old      https://10.0.0.1:7700        alice  access string  2026-11-22T22:00:00Z (expired)
            *  prod     https://muster.example:7700  alice  certificate    2027-02-20T22:00:00Z
        "#]]
        .assert_eq(&list(&three(), 1_795_384_800_000));
        expect![[r#"
            context here: unix:/run/muster/admin.sock
            context old: https://10.0.0.1:7700 as alice, by access string, until 2026-11-22T22:00:00Z
            context prod (current): https://muster.example:7700 as alice, by certificate, until 2027-02-20T22:00:00Z
        "#]]
        .assert_eq(&three().iter().map(one).collect::<String>());
        assert!(list(&[], 0).starts_with("No contexts"));
    }

    #[test]
    fn contexts_are_a_document() {
        expect![[r#"
            {
              "current": null,
              "contexts": [
                {
                  "name": "old",
                  "current": false,
                  "endpoint": "https://10.0.0.1:7700",
                  "user": "alice",
                  "how": "access-string",
                  "expires_unix_ms": 1795384800000
                }
              ]
            }
        "#]]
        .assert_eq(&document(&ContextsJson::new(&three()[1..2])));
    }
}
