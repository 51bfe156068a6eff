//! `muster credentials`: what clients of a cluster log in with.

use muster_proto::{Secret, wire::GetCredentialsResponse};
use serde::Serialize;

use super::some;

/// Credentials, for scripts.
#[derive(Debug, Clone, Serialize)]
pub struct CredentialsJson {
    cluster: String,
    user: Option<String>,
    #[serde(serialize_with = "super::exposed_or_null")]
    password: Option<Secret>,
    tls: bool,
    ca_pem: Option<String>,
    overlap: bool,
}

impl CredentialsJson {
    /// Of that cluster.
    pub fn new(cluster: &str, answer: &GetCredentialsResponse) -> Self {
        Self {
            cluster: cluster.to_owned(),
            user: some(&answer.user),
            password: some(&answer.password).map(Secret::new),
            tls: answer.tls,
            ca_pem: some(&answer.ca_pem),
            overlap: answer.overlap,
        }
    }
}

/// For a person: the values, and a line to copy. The line has no password in it: it takes one from the environment of
/// that one command, which is its owner's alone, while arguments are for everybody to read.
pub fn text(cluster: &str, answer: &GetCredentialsResponse, seed: Option<(&str, u32)>) -> String {
    let GetCredentialsResponse { user, password, tls, ca_pem, overlap } = answer;
    let or_none = |text: &str| some(text).unwrap_or_else(|| "none is asked for".to_owned());
    let speaks = match (tls, ca_pem.is_empty()) {
        (false, _) => "no",
        (true, false) => "yes, signed by the cluster's own authority",
        (true, true) => "yes, with your own certificates",
    };
    let mut text = format!("user      {}\npassword  {}\ntls       {speaks}\n", or_none(user), or_none(password));
    if *overlap {
        text += &format!("older secrets are still accepted, until: muster credentials finish {cluster}\n");
    }
    let (host, port) =
        seed.map_or(("HOST".to_owned(), "PORT".to_owned()), |(host, port)| (host.into(), port.to_string()));
    let mut line = format!("redis-cli -c -h {host} -p {port}");
    if !user.is_empty() {
        let of = if user == "default" { String::new() } else { format!(" --user {user}") };
        line = format!("REDISCLI_AUTH=$(muster credentials {cluster}{of} --only password) {line} --user {user}");
    }
    match (tls, ca_pem.is_empty()) {
        (false, _) => {}
        (true, false) => {
            text += &format!("\nmuster credentials {cluster} --only ca > {cluster}-ca.pem");
            line += &format!(" --tls --cacert {cluster}-ca.pem");
        }
        (true, true) => line += " --tls --cacert YOUR-CA.pem",
    }
    text + "\n" + &line + "\n"
}

/// A rotation that now waits for the clients.
pub fn rotated(cluster: &str, certificates: bool) -> String {
    let (what, only) = if certificates { ("authorities", "ca") } else { ("passwords", "password") };
    format!(
        "Old and new {what} of {cluster} are accepted. Move the clients to what this shows now:\n  \
         muster credentials {cluster} --only {only}\nand when the last one has moved:\n  \
         muster credentials finish {cluster}\n"
    )
}

/// A rotation that is over.
pub fn finished(cluster: &str) -> String {
    format!("The old secrets of {cluster} are no longer accepted.\n")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::render::document;
    use expect_test::expect;

    pub(crate) fn answer() -> GetCredentialsResponse {
        GetCredentialsResponse {
            user: "default".into(),
            password: "hunter2".into(),
            tls: true,
            ca_pem: "-----BEGIN CERTIFICATE-----\n".into(),
            overlap: false,
        }
    }

    #[test]
    fn credentials_come_with_a_line_to_copy_that_holds_no_password() {
        expect![[r#"
            user      default
            password  hunter2
            tls       yes, signed by the cluster's own authority

            muster credentials orders --only ca > orders-ca.pem
            REDISCLI_AUTH=$(muster credentials orders --only password) redis-cli -c -h 10.0.0.1 -p 7000 --user default --tls --cacert orders-ca.pem
        "#]]
        .assert_eq(&text("orders", &answer(), Some(("10.0.0.1", 7000))));
        let plain = GetCredentialsResponse { tls: false, overlap: true, user: "app".into(), ..answer() };
        expect![[r#"
            user      app
            password  hunter2
            tls       no
            older secrets are still accepted, until: muster credentials finish orders

            REDISCLI_AUTH=$(muster credentials orders --user app --only password) redis-cli -c -h HOST -p PORT --user app
        "#]]
        .assert_eq(&text("orders", &plain, None));
        let open = GetCredentialsResponse { tls: true, ..GetCredentialsResponse::default() };
        expect![[r#"
            user      none is asked for
            password  none is asked for
            tls       yes, with your own certificates

            redis-cli -c -h HOST -p PORT --tls --cacert YOUR-CA.pem
        "#]]
        .assert_eq(&text("orders", &open, None));
    }

    #[test]
    fn credentials_are_a_document_and_no_debug() {
        let json = CredentialsJson::new("orders", &answer());
        expect![[r#"
            {
              "cluster": "orders",
              "user": "default",
              "password": "hunter2",
              "tls": true,
              "ca_pem": "-----BEGIN CERTIFICATE-----\n",
              "overlap": false
            }
        "#]]
        .assert_eq(&document(&json));
        assert!(!format!("{json:?}").contains("hunter2"));
        let open = document(&CredentialsJson::new("orders", &GetCredentialsResponse::default()));
        assert!(open.contains("\"user\": null,\n  \"password\": null"), "{open}");
    }
}
