//! `muster user`: people and automation that are let in.

use muster_proto::{AccessRole, Secret, wire::User};
use serde::Serialize;

use super::{moment, table};

/// A new user, for scripts; the only document that ever holds the access string.
#[derive(Debug, Clone, Serialize)]
pub struct AddedJson {
    #[serde(serialize_with = "super::exposed")]
    access: Secret,
    user: UserJson,
}

/// Users, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct UsersJson {
    users: Vec<UserJson>,
}

/// A user without secrets, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct UserJson {
    name: String,
    role: Option<AccessRole>,
    expires_unix_ms: u64,
    created_unix_ms: u64,
    certified: bool,
}

/// A user that is let in no more, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct RemovedJson {
    user: String,
    removed: bool,
}

impl AddedJson {
    /// Of the access string and what is known of the user.
    pub fn new(access: &Secret, user: &User) -> Self {
        Self { access: access.clone(), user: user.into() }
    }
}

impl RemovedJson {
    /// That one.
    pub fn new(name: &str) -> Self {
        Self { user: name.to_owned(), removed: true }
    }
}

impl From<&User> for UserJson {
    fn from(user: &User) -> Self {
        Self {
            name: user.name.clone(),
            role: AccessRole::from_wire(user.role),
            expires_unix_ms: user.expires_unix_ms,
            created_unix_ms: user.created_unix_ms,
            certified: user.certified,
        }
    }
}

impl From<&[User]> for UsersJson {
    fn from(users: &[User]) -> Self {
        Self { users: users.iter().map(UserJson::from).collect() }
    }
}

/// What to do with the access string of a user just added.
pub fn added(user: &User, endpoint: &str) -> String {
    let role = role(user);
    format!(
        "user {} is let in as {role} until {}; the access string is not shown again.\n\
         Hand it over by a safe way. The other side keeps it, typed or on standard input, with:\n  \
         muster context add NAME --endpoint {endpoint}",
        user.name,
        moment(user.expires_unix_ms),
    )
}

/// A table, by name.
pub fn list(users: &[User]) -> String {
    if users.is_empty() {
        let owner = "the owner of the coordinator's socket may everything";
        return format!("No users; {owner}. Add one: muster user add NAME --role ROLE\n");
    }
    let row = |user: &User| {
        [
            user.name.clone(),
            role(user),
            moment(user.created_unix_ms),
            moment(user.expires_unix_ms),
            if user.certified { "yes" } else { "-" }.to_owned(),
        ]
    };
    table(["USER", "ROLE", "SINCE", "UNTIL", "CERTIFICATE"], users.iter().map(row).collect())
}

fn role(user: &User) -> String {
    AccessRole::from_wire(user.role).map_or_else(|| "unknown".to_owned(), |role| role.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::render::document;
    use expect_test::expect;

    pub(crate) fn alice() -> User {
        User {
            name: "alice".into(),
            role: AccessRole::Operator.wire().into(),
            expires_unix_ms: 1_803_160_800_000,
            created_unix_ms: 1_795_384_800_000,
            certified: true,
        }
    }

    #[test]
    fn users_are_a_table_and_a_document() {
        let ci = User { name: "ci".into(), role: 99, certified: false, ..alice() };
        expect![[r#"
            USER   ROLE      SINCE                 UNTIL                 CERTIFICATE
            alice  operator  2026-11-22T22:00:00Z  2027-02-20T22:00:00Z  yes
            ci     unknown   2026-11-22T22:00:00Z  2027-02-20T22:00:00Z  -
        "#]]
        .assert_eq(&list(&[alice(), ci.clone()]));
        expect![[r#"
            {
              "users": [
                {
                  "name": "ci",
                  "role": null,
                  "expires_unix_ms": 1803160800000,
                  "created_unix_ms": 1795384800000,
                  "certified": false
                }
              ]
            }
        "#]]
        .assert_eq(&document(&UsersJson::from(&[ci][..])));
        assert!(list(&[]).starts_with("No users"));
    }

    #[test]
    fn an_access_string_is_in_its_document_and_in_no_debug() {
        let added = AddedJson::new(&Secret::new("muster-access-1:alice:SECRET:HASH"), &alice());
        assert!(document(&added).contains("\"access\": \"muster-access-1:alice:SECRET:HASH\""));
        assert!(!format!("{added:?}").contains("SECRET"));
    }
}
