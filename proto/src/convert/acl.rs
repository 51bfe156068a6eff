//! Users and TLS: the spec's part, and what hosts are told.

use super::{Result, each, sha256, word, wrong};
use crate::{
    Auth, InstanceTls, Secret, Tls, Users,
    acl::{Acl, AclUser, Login, RedisUser, TlsFiles},
    wire,
};

impl From<&Auth> for wire::Auth {
    fn from(auth: &Auth) -> Self {
        let Auth::Passwords(acl) = auth else { return Self { none: true, ..Self::default() } };
        let user = |user: &AclUser| wire::AclUser {
            name: user.name.to_string(),
            rules: user.rules.to_string(),
            password_sha256: user.passwords.iter().map(ToString::to_string).collect(),
        };
        Self {
            none: false,
            default_rules: acl.default_rules.as_ref().map(ToString::to_string).unwrap_or_default(),
            users: acl.users.iter().map(user).collect(),
        }
    }
}

impl TryFrom<wire::Auth> for Auth {
    type Error = super::FieldError;
    fn try_from(auth: wire::Auth) -> Result<Self> {
        if auth.none {
            let silent = auth.users.is_empty() && auth.default_rules.is_empty();
            return if silent {
                Ok(Self::None)
            } else {
                Err(wrong("none", "users need passwords: leave one of them out"))
            };
        }
        let user = |user: wire::AclUser| {
            let hash = |text: &String| word("password_sha256", text);
            Ok(AclUser {
                name: word("name", &user.name)?,
                rules: word("rules", &user.rules)?,
                passwords: user.password_sha256.iter().map(hash).collect::<Result<_>>()?,
            })
        };
        let rules = Some(auth.default_rules).filter(|rules| !rules.is_empty());
        Ok(Self::Passwords(Acl {
            default_rules: rules.map(|rules| word("default_rules", &rules)).transpose()?,
            users: each("users", auth.users, user)?,
        }))
    }
}

impl From<&Tls> for wire::Tls {
    fn from(tls: &Tls) -> Self {
        let plain = Self { on: !matches!(tls, Tls::Off), ..Self::default() };
        let Tls::Files(files) = tls else { return plain };
        let text = |path: &std::path::Path| path.display().to_string();
        Self { cert_file: text(&files.cert), key_file: text(&files.key), ca_file: text(&files.ca), ..plain }
    }
}

impl From<wire::Tls> for Tls {
    fn from(tls: wire::Tls) -> Self {
        match (tls.on, tls.cert_file.is_empty() && tls.key_file.is_empty() && tls.ca_file.is_empty()) {
            (false, _) => Self::Off,
            (true, true) => Self::Issued,
            (true, false) => Self::Files(files(tls.cert_file, tls.key_file, tls.ca_file)),
        }
    }
}

fn files(cert: String, key: String, ca: String) -> TlsFiles {
    TlsFiles { cert: cert.into(), key: key.into(), ca: ca.into() }
}

impl From<&Login> for wire::Login {
    fn from(login: &Login) -> Self {
        Self { user: login.user.clone(), password: login.password.expose().to_owned() }
    }
}

impl From<wire::Login> for Login {
    fn from(login: wire::Login) -> Self {
        Self { user: login.user, password: Secret::new(login.password) }
    }
}

impl From<&Users> for wire::Users {
    fn from(users: &Users) -> Self {
        let user = |user: &RedisUser| wire::RedisUser {
            name: user.name.clone(),
            rules: user.rules.to_string(),
            password_sha256: user.passwords.iter().map(|hash| hash.0.to_vec()).collect(),
        };
        Self {
            users: users.users.iter().map(user).collect(),
            admin: users.admin.iter().map(wire::Login::from).collect(),
            replica: Some((&users.replica).into()),
        }
    }
}

impl TryFrom<wire::Users> for Users {
    type Error = super::FieldError;
    fn try_from(users: wire::Users) -> Result<Self> {
        let user = |user: wire::RedisUser| {
            if user.name.is_empty() || user.name.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return Err(wrong("name", format!("{:?} is no user name", user.name)));
            }
            let hash = |bytes: &Vec<u8>| sha256("password_sha256", bytes);
            Ok(RedisUser {
                rules: word("rules", &user.rules)?,
                passwords: user.password_sha256.iter().map(hash).collect::<Result<_>>()?,
                name: user.name,
            })
        };
        let admin: Vec<Login> = users.admin.into_iter().map(Login::from).collect();
        if admin.is_empty() {
            return Err(wrong("admin", "is missing: the agent could not log in"));
        }
        let replica = users.replica.ok_or_else(|| wrong("replica", "is missing: replicas could not log in"))?;
        Ok(Self { users: each("users", users.users, user)?, admin, replica: replica.into() })
    }
}

impl From<&InstanceTls> for wire::InstanceTls {
    fn from(tls: &InstanceTls) -> Self {
        match tls {
            InstanceTls::Issued { ca_pem, issuer } => {
                Self { ca_pem: ca_pem.clone(), issuer_sha256: issuer.0.to_vec(), ..Self::default() }
            }
            InstanceTls::Files(files) => {
                let tls = wire::Tls::from(&Tls::Files(files.clone()));
                Self { cert_file: tls.cert_file, key_file: tls.key_file, ca_file: tls.ca_file, ..Self::default() }
            }
        }
    }
}

impl TryFrom<wire::InstanceTls> for InstanceTls {
    type Error = super::FieldError;
    fn try_from(tls: wire::InstanceTls) -> Result<Self> {
        if tls.issuer_sha256.is_empty() {
            let paths = [("cert_file", &tls.cert_file), ("key_file", &tls.key_file), ("ca_file", &tls.ca_file)];
            if let Some((field, path)) = paths.into_iter().find(|(_, path)| !path.starts_with('/')) {
                return Err(wrong(field, format!("{path:?} is not an absolute path")));
            }
            return Ok(Self::Files(files(tls.cert_file, tls.key_file, tls.ca_file)));
        }
        let issuer = sha256("issuer_sha256", &tls.issuer_sha256)?;
        crate::pki::from_pem(&tls.ca_pem).map_err(|error| wrong("ca_pem", error))?;
        Ok(Self::Issued { ca_pem: tls.ca_pem, issuer })
    }
}
