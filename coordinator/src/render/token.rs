//! `muster token`: what lets hosts in.

use muster_proto::{Secret, wire::Token};
use serde::Serialize;

use super::{count, moment, some, table};

/// What the host runs, with the token on its standard input.
fn enrol(about: &Token) -> &'static str {
    // Who comes back has a certificate, perhaps a good one: without the word the agent would leave it at that.
    if about.rejoin {
        "muster-agent --config /etc/muster/agent.toml enrol --new-key"
    } else {
        "muster-agent --config /etc/muster/agent.toml enrol"
    }
}

/// A new token, for scripts; the only document that ever holds it.
#[derive(Debug, Clone, Serialize)]
pub struct CreatedJson {
    #[serde(serialize_with = "super::exposed")]
    token: Secret,
    id: String,
    host: Option<String>,
    expires_unix_ms: u64,
    #[serde(serialize_with = "super::exposed")]
    command: Secret,
}

/// Tokens, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct TokensJson {
    tokens: Vec<TokenJson>,
}

/// A token without its secret, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct TokenJson {
    id: String,
    host: Option<String>,
    uses_left: u32,
    expires_unix_ms: u64,
    rejoin: bool,
    approve: bool,
}

/// A token that was taken back, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct RevokedJson {
    id: String,
    revoked: bool,
}

impl CreatedJson {
    /// Of the token and what is known of it.
    pub fn new(token: &Secret, about: &Token) -> Self {
        Self {
            token: token.clone(),
            id: about.id.clone(),
            host: some(&about.host),
            expires_unix_ms: about.expires_unix_ms,
            command: command(token, about),
        }
    }
}

impl RevokedJson {
    /// That one.
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned(), revoked: true }
    }
}

impl From<&[Token]> for TokensJson {
    fn from(tokens: &[Token]) -> Self {
        let token = |token: &Token| TokenJson {
            id: token.id.clone(),
            host: some(&token.host),
            uses_left: token.uses_left,
            expires_unix_ms: token.expires_unix_ms,
            rejoin: token.rejoin,
            approve: token.approve,
        };
        Self { tokens: tokens.iter().map(token).collect() }
    }
}

/// The one command for the host. A here-string is a file to the agent: the token is in nobody's arguments.
fn command(token: &Secret, about: &Token) -> Secret {
    Secret::new(format!("{} <<< '{}'", enrol(about), token.expose()))
}

/// What a token just made is good for, and what to type on the host; with the token in it, when somebody sees it.
pub fn created(about: &Token, token: Option<&Secret>) -> String {
    let place = some(&about.host);
    let whose = match (&place, about.rejoin, about.approve) {
        (Some(host), true, _) => format!("lets {host} come back with another key"),
        (Some(host), false, _) => format!("lets {host} in, and approves it"),
        (None, _, true) => format!("lets {} in, and approves whoever comes", count(about.uses_left, "host")),
        (None, _, false) => {
            format!("lets {} in, each to wait for: muster host approve HOST", count(about.uses_left, "host"))
        }
    };
    let place = place.unwrap_or_else(|| "the host".to_owned());
    let how = match token {
        Some(token) => format!("On {place}, as root:\n  {}", command(token, about).expose()),
        None => format!("It goes to the standard input of this, on {place}, as root:\n  {}", enrol(about)),
    };
    format!(
        "token {} {whose}; it holds until {} and is not shown again.\n{how}",
        about.id,
        moment(about.expires_unix_ms)
    )
}

/// A table, by expiry.
pub fn list(tokens: &[Token]) -> String {
    if tokens.is_empty() {
        return "No tokens. Make one: muster token create --host HOST\n".to_owned();
    }
    let row = |token: &Token| {
        let kind = match (token.rejoin, token.host.is_empty(), token.approve) {
            (true, ..) => "comes back",
            (false, false, _) | (false, true, true) => "is approved",
            (false, true, false) => "waits for approval",
        };
        [
            token.id.clone(),
            some(&token.host).unwrap_or_else(|| "any".to_owned()),
            token.uses_left.to_string(),
            moment(token.expires_unix_ms),
            kind.to_owned(),
        ]
    };
    table(["TOKEN", "HOST", "USES LEFT", "EXPIRES", "WHO USES IT"], tokens.iter().map(row).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::render::document;
    use expect_test::expect;

    pub(crate) fn token(host: &str) -> Token {
        Token {
            id: "k3v9x2".into(),
            host: host.into(),
            uses_left: 1,
            expires_unix_ms: 1_795_386_600_000,
            ..Token::default()
        }
    }

    #[test]
    fn a_new_token_says_what_to_type_and_shows_itself_only_where_somebody_looks() {
        let secret = Secret::new("muster-join-1:k3v9x2:SECRET:HASH");
        expect![[r#"
            token k3v9x2 lets server1 in, and approves it; it holds until 2026-11-22T22:30:00Z and is not shown again.
            On server1, as root:
              muster-agent --config /etc/muster/agent.toml enrol <<< 'muster-join-1:k3v9x2:SECRET:HASH'"#]]
        .assert_eq(&created(&token("server1"), Some(&secret)));
        expect![[r#"
            token k3v9x2 lets 20 hosts in, each to wait for: muster host approve HOST; it holds until 2026-11-22T22:30:00Z and is not shown again.
            It goes to the standard input of this, on the host, as root:
              muster-agent --config /etc/muster/agent.toml enrol"#]]
        .assert_eq(&created(&Token { uses_left: 20, ..token("") }, None));
        let again = created(&Token { rejoin: true, ..token("server1") }, None);
        assert!(again.contains("lets server1 come back with another key"), "{again}");
        assert!(again.ends_with("muster-agent --config /etc/muster/agent.toml enrol --new-key"), "{again}");
        expect![[r#"
            {
              "token": "muster-join-1:k3v9x2:SECRET:HASH",
              "id": "k3v9x2",
              "host": null,
              "expires_unix_ms": 1795386600000,
              "command": "muster-agent --config /etc/muster/agent.toml enrol <<< 'muster-join-1:k3v9x2:SECRET:HASH'"
            }
        "#]]
        .assert_eq(&document(&CreatedJson::new(&secret, &token(""))));
        let debug = format!("{:?}", CreatedJson::new(&secret, &token("")));
        assert!(!debug.contains("SECRET"), "{debug}");
    }

    #[test]
    fn tokens_are_a_table_and_a_document() {
        let tokens = [
            token("server1"),
            Token { rejoin: true, ..token("server2") },
            Token { uses_left: 20, ..token("") },
            Token { approve: true, ..token("") },
        ];
        expect![[r#"
            TOKEN   HOST     USES LEFT  EXPIRES               WHO USES IT
            k3v9x2  server1  1          2026-11-22T22:30:00Z  is approved
            k3v9x2  server2  1          2026-11-22T22:30:00Z  comes back
            k3v9x2  any      20         2026-11-22T22:30:00Z  waits for approval
            k3v9x2  any      1          2026-11-22T22:30:00Z  is approved
        "#]]
        .assert_eq(&list(&tokens));
        expect![[r#"
            {
              "tokens": [
                {
                  "id": "k3v9x2",
                  "host": "server1",
                  "uses_left": 1,
                  "expires_unix_ms": 1795386600000,
                  "rejoin": false,
                  "approve": false
                }
              ]
            }
        "#]]
        .assert_eq(&document(&TokensJson::from(&tokens[..1])));
        assert_eq!(list(&[]), "No tokens. Make one: muster token create --host HOST\n");
    }
}
