//! `muster ca`: the fleet's authorities.

use muster_proto::wire::Authority;
use serde::Serialize;

use super::{moment, table};

/// Authorities, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct AuthoritiesJson {
    authorities: Vec<AuthorityJson>,
}

/// An authority, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct AuthorityJson {
    sha256: String,
    signs: bool,
    created_unix_ms: u64,
    expires_unix_ms: u64,
    hosts: Vec<String>,
    users: Vec<String>,
    certificate_pem: String,
}

impl From<&[Authority]> for AuthoritiesJson {
    fn from(authorities: &[Authority]) -> Self {
        let one = |authority: &Authority| AuthorityJson {
            sha256: authority.sha256.clone(),
            signs: authority.signs,
            created_unix_ms: authority.created_unix_ms,
            expires_unix_ms: authority.expires_unix_ms,
            hosts: authority.hosts.clone(),
            users: authority.users.clone(),
            certificate_pem: authority.certificate_pem.clone(),
        };
        Self { authorities: authorities.iter().map(one).collect() }
    }
}

/// A table, the signing one first; the hash is whole, because it is what tokens pin.
pub fn list(authorities: &[Authority]) -> String {
    let row = |authority: &Authority| {
        let users = authority.users.iter().map(|user| format!("user {user}"));
        let for_whom: Vec<_> = authority.hosts.iter().cloned().chain(users).collect();
        let for_whom = if for_whom.is_empty() { "-".to_owned() } else { for_whom.join(", ") };
        let role = if authority.signs { "signs" } else { "believed" };
        [authority.sha256.clone(), role.to_owned(), moment(authority.expires_unix_ms), for_whom]
    };
    table(["SHA256", "ROLE", "EXPIRES", "HAS SIGNED FOR"], authorities.iter().map(row).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::render::document;
    use expect_test::expect;

    pub(crate) fn two() -> Vec<Authority> {
        let one = |byte: &str, signs, hosts: &[&str], users: &[&str]| Authority {
            sha256: byte.repeat(32),
            signs,
            created_unix_ms: 1_795_384_800_000,
            expires_unix_ms: 2_110_744_800_000,
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            users: users.iter().map(|user| (*user).to_owned()).collect(),
            certificate_pem: "-----BEGIN CERTIFICATE-----\n".into(),
        };
        vec![one("cd", true, &[], &[]), one("ab", false, &["server1", "server2"], &["alice"])]
    }

    #[test]
    fn authorities_are_a_table_and_a_document() {
        expect![[r#"
            SHA256                                                            ROLE      EXPIRES               HAS SIGNED FOR
            cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd  signs     2036-11-19T22:00:00Z  -
            abababababababababababababababababababababababababababababababab  believed  2036-11-19T22:00:00Z  server1, server2, user alice
        "#]]
        .assert_eq(&list(&two()));
        expect![[r#"
            {
              "authorities": [
                {
                  "sha256": "abababababababababababababababababababababababababababababababab",
                  "signs": false,
                  "created_unix_ms": 1795384800000,
                  "expires_unix_ms": 2110744800000,
                  "hosts": [
                    "server1",
                    "server2"
                  ],
                  "users": [
                    "alice"
                  ],
                  "certificate_pem": "-----BEGIN CERTIFICATE-----\n"
                }
              ]
            }
        "#]]
        .assert_eq(&document(&AuthoritiesJson::from(&two()[1..])));
    }
}
