//! What only the server itself can say: whether it takes the spec's settings and users, and speaks its TLS.

use std::{fs, process::Stdio, time::Duration};

use muster_proto::{Auth, Setting, Tls, acl::RedisUser, pki, report::Server, wire};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};
use uuid::Uuid;

use super::plain;
use crate::{conf, durable, layout::Layout};

/// For an answer that takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the server can have the spec's users and speak its TLS: it is asked itself.
pub(super) async fn access_errors(server: &Server, layout: &Layout, task: &wire::Survey) -> (String, String) {
    let auth = Auth::try_from(task.auth.clone().unwrap_or_default());
    let auth_error = match auth {
        Err(error) => error.to_string(),
        Ok(Auth::None) => String::new(),
        Ok(Auth::Passwords(_)) if server.version.major < 6 => {
            format!("{} knows no users; they came with Redis 6.0", server.version)
        }
        Ok(Auth::Passwords(acl)) => {
            let settings: Vec<Setting> = task.settings.iter().cloned().map(Setting::from).collect();
            let users = conf::probed_users(server.version, &acl);
            try_users(&server.path, layout, &settings, &users).await.err().unwrap_or_default()
        }
    };
    let tls_error = match Tls::from(task.tls.clone().unwrap_or_default()) {
        Tls::Off => String::new(),
        Tls::Issued => speaks_tls(&server.path).await,
        Tls::Files(files) => {
            let unreadable = [&files.cert, &files.key, &files.ca].into_iter().find_map(|path| {
                let read = fs::read_to_string(path).map_err(|error| plain(&error));
                let pem = |text: String| match text.contains("-----BEGIN ") {
                    true if text.contains("BEGIN CERTIFICATE") => pki::usable(&text),
                    true => Ok(()),
                    false => Err("not PEM".to_owned()),
                };
                read.and_then(pem).err().map(|why| format!("{}: {why}", path.display()))
            });
            match unreadable {
                Some(why) => why,
                None => speaks_tls(&server.path).await,
            }
        }
    };
    (auth_error, tls_error)
}

/// A server that was built without TLS knows none of its settings.
async fn speaks_tls(server: &str) -> String {
    let line = Setting { key: "tls-replication".into(), value: "no".into() };
    try_settings(server, &[line]).await.err().map(|why| format!("it was built without TLS ({why})")).unwrap_or_default()
}

/// Lets the server itself read the operator's settings, on its standard input, followed by a line that it must refuse:
/// it judges everything, opens nothing and exits.
pub(super) async fn try_settings(server: &str, settings: &[Setting]) -> Result<(), String> {
    let said = feed(server, &conf::settings_probe(settings)).await?;
    conf::settings_verdict(&said)
}

/// Lets the server itself read the operator's users, from an ACL file in a directory of its own that is gone after it.
async fn try_users(server: &str, layout: &Layout, settings: &[Setting], users: &[RedisUser]) -> Result<(), String> {
    let dir = layout.staging(&format!("acl-{}", Uuid::new_v4()));
    let written = fs::create_dir(&dir)
        .and_then(|()| durable::write_plain(&dir.join("users.acl"), conf::acl_probe_file(users).as_bytes(), 0o600));
    let said = match written {
        Ok(()) => feed(server, &conf::acl_probe(settings, &dir)).await,
        Err(error) => Err(format!("{}: {}", dir.display(), plain(&error))),
    };
    // What stays is cleared away when the agent starts next.
    let _ = fs::remove_dir_all(&dir);
    conf::acl_verdict(&said?, users)
}

/// A server with a conf on its standard input that stops it; everything that it says.
async fn feed(server: &str, conf: &str) -> Result<String, String> {
    let mut command = Command::new(server);
    command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child =
        command.current_dir("/").spawn().map_err(|error| format!("cannot run {server}: {}", plain(&error)))?;
    if let Some(mut stdin) = child.stdin.take() {
        let written = stdin.write_all(conf.as_bytes()).await;
        written.map_err(|error| format!("cannot speak to {server}: {error}"))?;
    }
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.map_err(|_| format!("{server} did not judge within {PATIENCE:?}"))?;
    let output = output.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}
