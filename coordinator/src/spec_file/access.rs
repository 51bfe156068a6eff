//! The spec's `auth`, `[acl]` and `tls`, from written to believed.

use std::{fmt, ops::Range};

use muster_proto::{
    Auth, Tls,
    acl::{Acl, AclUser, TlsFiles},
    spec::SpecError,
};

use super::{
    Wrong, line_of,
    written::{Written, WrittenTls, WrittenUser},
};

/// How clients prove who they are.
pub(super) fn auth(written: &Written, text: &str) -> Result<Auth, Wrong> {
    let word = written.auth.as_ref();
    let wrong = |span: Range<usize>, what: String, cure: &str| {
        let cure = Some(cure.to_owned()).filter(|cure| !cure.is_empty());
        Wrong { line: line_of(text, &span), what, cure }
    };
    match (word.map(|word| word.as_ref().as_str()), &written.acl) {
        (Some("none"), Some(acl)) => {
            let what = "acl: stands beside auth = \"none\", with which nobody logs in and everybody may everything";
            let cure = "delete [acl] with its users, or delete auth = \"none\"";
            Err(wrong(acl.span(), what.to_owned(), cure))
        }
        (Some("none"), None) => Ok(Auth::None),
        (Some("password") | None, None) => Ok(Auth::default()),
        (Some("password") | None, Some(acl)) => {
            let acl = acl.get_ref();
            let at =
                |span: Range<usize>, key: &str, error: &dyn fmt::Display| wrong(span, format!("{key}: {error}"), "");
            let rules = acl
                .default
                .as_ref()
                .map(|rules| rules.as_ref().parse().map_err(|error| at(rules.span(), "acl.default", &error)));
            let user = |(nth, user): (usize, &WrittenUser)| {
                let key = |key: &str| format!("acl.users[{nth}].{key}");
                let (name, rules) = (&user.name, &user.rules);
                let hash = |hash: &toml::Spanned<String>| {
                    hash.as_ref().parse().map_err(|error| {
                        let cure =
                            "printf %s \"$PASSWORD\" | sha256sum prints it; or leave it out, and Muster draws one";
                        wrong(hash.span(), format!("{}: {error}", key("password_sha256")), cure)
                    })
                };
                Ok(AclUser {
                    name: name.as_ref().parse().map_err(|error| at(name.span(), &key("name"), &error))?,
                    rules: rules.as_ref().parse().map_err(|error| at(rules.span(), &key("rules"), &error))?,
                    passwords: user.password_sha256.iter().map(hash).collect::<Result<_, _>>()?,
                })
            };
            Ok(Auth::Passwords(Acl {
                default_rules: rules.transpose()?,
                users: acl.users.iter().enumerate().map(user).collect::<Result<_, Wrong>>()?,
            }))
        }
        (Some(other), _) => {
            let what = format!("auth: {other:?} is neither \"password\" nor \"none\"");
            Err(wrong(word.map_or(0..0, toml::Spanned::span), what, "delete the line; passwords are the default"))
        }
    }
}

/// What is spoken.
pub(super) fn tls(written: &Written) -> Tls {
    match &written.tls {
        None | Some(WrittenTls::Switch(false)) => Tls::Off,
        Some(WrittenTls::Switch(true)) => Tls::Issued,
        Some(WrittenTls::Files(files)) => Tls::Files(TlsFiles {
            cert: files.cert_file.as_ref().clone(),
            key: files.key_file.as_ref().clone(),
            ca: files.ca_file.as_ref().clone(),
        }),
    }
}

/// Where in the text an error of the whole belongs.
pub(super) fn place(written: &Written, error: &SpecError) -> Option<Range<usize>> {
    match (error, &written.tls) {
        (SpecError::UserTwice { at, .. }, _) => Some(written.acl.as_ref()?.get_ref().users.get(*at)?.name.span()),
        (SpecError::TlsPath { key, .. }, Some(WrittenTls::Files(files))) => {
            let paths = [("cert_file", &files.cert_file), ("key_file", &files.key_file), ("ca_file", &files.ca_file)];
            paths.into_iter().find(|(known, _)| known == key).map(|(_, path)| path.span())
        }
        _ => None,
    }
}
