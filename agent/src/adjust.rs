//! Makes a running server be as its files say, and looks whether it is. Everything here can be done again.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use muster_proto::{
    ServerVersion,
    acl::{Login, RedisUser},
    pki,
};
use redis::{Cmd, cmd};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use crate::{
    conf::{Adjustment, Live, setuser},
    layout::InstanceDir,
    talk::{Talk, TalkError},
};

/// For the handshake that proves a certificate.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// Which server, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its process.
    pub pid: i32,
    /// What the agent logs in with: the first that is accepted.
    pub logins: Vec<Login>,
    /// Where it shows its certificate.
    pub address: SocketAddr,
}

/// Why a server is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum AdjustError {
    /// It does not answer, or does not take it.
    #[error("cannot tell the server of its new users or certificates: {0}")]
    Talk(#[from] TalkError),
    /// It does not take the files.
    #[error("the server does not take {0}: {1}")]
    Files(String, TalkError),
    /// It took them, and has others.
    #[error("the server was told of user {0}, and has another one under that name")]
    User(String),
    /// It shows another certificate than it was told to.
    #[error("the server does not show its new certificate: {0}")]
    Certificate(String),
}

/// Tells a server, and proves that it has taken it.
pub async fn adjust(dir: &InstanceDir, live: &Live, target: &Target) -> Result<(), AdjustError> {
    // Whoever changes his own password stays logged in.
    let mut talk = Talk::connect(&dir.socket(), target.pid, &target.logins).await?;
    for adjustment in &live.adjustments {
        match adjustment {
            Adjustment::Users(users) => set_users(&mut talk, users).await?,
            Adjustment::MasterLogin(login) => set_master_login(&mut talk, login, live.version).await?,
            Adjustment::Certificates { cert, key, ca } => {
                load_certificates(&mut talk, [cert, key, ca], live.version).await?;
                prove(cert, ca, target.address).await.map_err(AdjustError::Certificate)?;
            }
        }
    }
    Ok(())
}

async fn set_users(talk: &mut Talk, users: &[RedisUser]) -> Result<(), AdjustError> {
    for user in users {
        talk.tell(cmd("ACL").arg("SETUSER").arg(&user.name).arg(setuser(user))).await?;
    }
    let known: Vec<String> = talk.ask(cmd("ACL").arg("USERS")).await?;
    for name in known {
        if name != "default" && !users.iter().any(|user| user.name == name) {
            talk.tell(cmd("ACL").arg("DELUSER").arg(&name)).await?;
        }
    }
    // What it has is what counts: every hash is there, and no other.
    let list: Vec<String> = talk.ask(cmd("ACL").arg("LIST")).await?;
    for user in users {
        let head = format!("user {} ", user.name);
        let line = list.iter().find(|line| line.starts_with(&head));
        let mut has: Vec<_> =
            line.into_iter().flat_map(|line| line.split(' ')).filter_map(|w| w.strip_prefix('#')).collect();
        let mut wanted: Vec<_> = user.passwords.iter().map(ToString::to_string).collect();
        has.sort_unstable();
        wanted.sort_unstable();
        if has != wanted {
            return Err(AdjustError::User(user.name.clone()));
        }
    }
    Ok(())
}

/// The link that is there stays; the next one logs in like this.
async fn set_master_login(talk: &mut Talk, login: &Login, version: ServerVersion) -> Result<(), AdjustError> {
    let pairs = [("masterauth", login.password.expose()), ("masteruser", login.user.as_str())];
    Ok(set(talk, &pairs, version).await?)
}

async fn load_certificates(
    talk: &mut Talk,
    files: [&std::path::PathBuf; 3],
    version: ServerVersion,
) -> Result<(), AdjustError> {
    let [cert, key, ca] = files.map(|path| path.display().to_string());
    // Believe first: whoever shows a new certificate meanwhile is taken.
    let pairs = [("tls-ca-cert-file", ca.as_str()), ("tls-cert-file", &cert), ("tls-key-file", &key)];
    let files = format!("{cert}, {key} and {ca}");
    set(talk, &pairs, version).await.map_err(|error| AdjustError::Files(files, error))
}

/// In one step where the server can (7.0), else one by one: a key is kept for the life of a directory, so that a
/// certificate alone fits it.
async fn set(talk: &mut Talk, pairs: &[(&str, &str)], version: ServerVersion) -> Result<(), TalkError> {
    let command = |pairs: &[(&str, &str)]| {
        let mut command = Cmd::new();
        command.arg("CONFIG").arg("SET");
        for (key, value) in pairs {
            command.arg(key).arg(value);
        }
        command
    };
    if version.has_seven() {
        return talk.tell(&command(pairs)).await;
    }
    for pair in pairs {
        talk.tell(&command(std::slice::from_ref(pair))).await?;
    }
    Ok(())
}

/// Shakes hands as a client does, and compares what is shown.
async fn prove(cert: &Path, ca: &Path, address: SocketAddr) -> Result<(), String> {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        pki::from_pem(&text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let (own, authorities) = (read(cert)?, read(ca)?);
    let config = pki::plain_client(&authorities).map_err(|error| error.to_string())?;
    let shake = async {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let name = ServerName::IpAddress(address.ip().into());
        TlsConnector::from(Arc::clone(&config)).connect(name, stream).await.map_err(|error| error.to_string())
    };
    let stream = timeout(HANDSHAKE, shake).await.map_err(|_| format!("no handshake within {HANDSHAKE:?}"))??;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    match (shown, own.first()) {
        (Some(shown), Some(own)) if shown.as_ref() == own.as_slice() => Ok(()),
        _ => Err("it shows another one".into()),
    }
}

#[cfg(test)]
mod tests;
