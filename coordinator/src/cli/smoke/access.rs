//! How the client of a smoke test logs in, and what it speaks: as the cluster's credentials say.
//!
//! A password goes into the client's settings, never into a URL, which errors might print.

use muster_proto::{Secret, wire::GetCredentialsResponse};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult, TlsCertificates,
    cluster::ClusterClientBuilder,
};

/// What the cluster wants.
#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    /// User and password; nothing when the cluster is open.
    login: Option<(String, Secret)>,
    /// TLS is spoken.
    tls: bool,
    /// Whom to believe, PEM; nothing means those that this host believes.
    ca_pem: Option<String>,
}

impl From<GetCredentialsResponse> for Access {
    fn from(answer: GetCredentialsResponse) -> Self {
        let GetCredentialsResponse { user, password, tls, ca_pem, .. } = answer;
        let login = Some((user, Secret::new(password))).filter(|(user, _)| !user.is_empty());
        Self { login, tls, ca_pem: Some(ca_pem).filter(|pem| !pem.is_empty()) }
    }
}

impl Access {
    /// Believing that authority, where one is named.
    pub(super) fn believing(self, ca_pem: Option<String>) -> Self {
        Self { ca_pem: ca_pem.or(self.ca_pem), ..self }
    }

    /// A client of one node.
    pub(super) fn node(&self, address: &str, port: u16) -> RedisResult<Client> {
        let info = self.info(address, port)?;
        match self.certificates() {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        }
    }

    /// A client of the whole cluster.
    pub(super) fn cluster(&self, seeds: &[(String, u16)]) -> RedisResult<ClusterClientBuilder> {
        let seeds = seeds.iter().map(|(address, port)| self.info(address, *port));
        let builder = ClusterClientBuilder::new(seeds.collect::<RedisResult<Vec<_>>>()?);
        Ok(match self.certificates() {
            Some(certificates) => builder.certs(certificates),
            None => builder,
        })
    }

    fn info(&self, address: &str, port: u16) -> RedisResult<ConnectionInfo> {
        let mut settings = RedisConnectionInfo::default();
        if let Some((user, password)) = &self.login {
            settings = settings.set_username(user).set_password(password.expose());
        }
        let info = (address, port).into_connection_info()?.set_redis_settings(settings);
        Ok(match self.tls {
            true => {
                let host = address.to_owned();
                info.set_addr(ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None })
            }
            false => info,
        })
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = self.ca_pem.as_ref().map(|pem| pem.clone().into_bytes());
        self.tls.then_some(TlsCertificates { client_tls: None, root_cert })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_logs_in_as_the_credentials_say_and_shows_no_password() {
        let open = Access::default().info("10.0.0.1", 7000).unwrap();
        assert_eq!((open.redis_settings().username(), open.redis_settings().password()), (None, None));
        let answer = GetCredentialsResponse {
            user: "default".into(),
            password: "hunter2".into(),
            tls: true,
            ..GetCredentialsResponse::default()
        };
        let access = Access::from(answer);
        let info = access.info("10.0.0.1", 7000).unwrap();
        assert_eq!(info.redis_settings().password(), Some("hunter2"));
        assert_eq!(info.addr().to_string(), "10.0.0.1:7000");
        assert!(matches!(info.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
        let shown = format!("{access:?} {info:?} {:?}", access.cluster(&[("10.0.0.1".into(), 7000)]).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
