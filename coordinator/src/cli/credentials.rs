//! `muster credentials`: what clients of a cluster log in with, and its rotation.

use muster_proto::{
    ClusterName,
    failure::Reason,
    wire::{
        FinishRotationRequest, GetCredentialsRequest, GetCredentialsResponse, GetStatusRequest, InstanceState,
        OperationEvent, RotateCredentialsRequest,
    },
};

use super::{
    Context, Stage, Verdict,
    args::{Credentials, CredentialsCommand, Format, Only},
    connect::{QUICK, Trust, call},
    console::Console,
    error::CliError,
    follow::{self, Watcher},
    progress::Progress,
};
use crate::render::{
    self,
    credentials::{CredentialsJson, text},
    operation::OneJson,
};

pub async fn run(context: &mut Context, credentials: Credentials) -> Result<Verdict, CliError> {
    let usage = || CliError::Usage {
        what: "options of a command stand behind it".into(),
        hint: "muster credentials --help".into(),
    };
    match credentials.meant().ok_or_else(usage)? {
        CredentialsCommand::Show { cluster, user, only } => {
            show(context, &cluster, &user.unwrap_or_default(), only).await
        }
        CredentialsCommand::Rotate { cluster, certificates } => {
            let mut trust = context.trust().await?;
            let request = RotateCredentialsRequest { cluster: cluster.to_string(), certificates };
            let what = if certificates { "certificates" } else { "passwords" };
            let doing = format!("rotating the {what} of {cluster}");
            let id = context.change(&doing, trust.rotate_credentials(request)).await?.operation_id;
            follow(context, &id, true).await?;
            if context.format == Format::Text {
                context.console.data(&render::credentials::rotated(cluster.as_str(), certificates));
            }
            Ok(Verdict::Done)
        }
        CredentialsCommand::Finish { cluster } => {
            let mut trust = context.trust().await?;
            let request = FinishRotationRequest { cluster: cluster.to_string() };
            let doing = format!("finishing the rotation of {cluster}");
            let id = context.change(&doing, trust.finish_rotation(request)).await?.operation_id;
            follow(context, &id, false).await?;
            if context.format == Format::Text {
                context.console.data(&render::credentials::finished(cluster.as_str()));
            }
            Ok(Verdict::Done)
        }
    }
}

/// What the default user logs in with; none when the spec asked for none.
pub(super) async fn get(trust: &mut Trust, cluster: &ClusterName) -> Result<Option<GetCredentialsResponse>, CliError> {
    match ask(trust, cluster, "").await {
        Ok(answer) => Ok(Some(answer)),
        Err(CliError::Refused { source, .. }) if source.is(Reason::NoCredentials) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn ask(trust: &mut Trust, cluster: &ClusterName, user: &str) -> Result<GetCredentialsResponse, CliError> {
    // The default user is the one that is meant by none.
    let user = if user == "default" { String::new() } else { user.to_owned() };
    let request = GetCredentialsRequest { cluster: cluster.to_string(), user };
    call(&format!("asking for the credentials of {cluster}"), QUICK, trust.get_credentials(request)).await
}

async fn show(
    context: &mut Context,
    cluster: &ClusterName,
    user: &str,
    only: Option<Only>,
) -> Result<Verdict, CliError> {
    let link = context.dial().await?;
    let answer = ask(&mut link.trust(), cluster, user).await?;
    let data = match (only, context.format) {
        (Some(only), _) => {
            let (what, value) = match only {
                Only::User => ("user", answer.user + "\n"),
                Only::Password => ("password", answer.password + "\n"),
                Only::Ca => ("authority", answer.ca_pem),
            };
            // A script must not take nothing for something.
            if value.trim().is_empty() {
                return Err(CliError::Absent { cluster: cluster.to_string(), what });
            }
            value
        }
        (None, Format::Json) => render::document(&CredentialsJson::new(cluster.as_str(), &answer)),
        (None, Format::Text) => {
            // Only for the line to copy: credentials are worth showing without it.
            let mut admin = link.admin();
            let request = GetStatusRequest { cluster: cluster.to_string() };
            let status = call("looking for an instance", QUICK, admin.get_status(request)).await.unwrap_or_default();
            let mut statuses = status.instances.iter().filter_map(|instance| instance.status.as_ref());
            let seed = statuses.find(|status| status.state() == InstanceState::Running);
            let seed = seed.map(|status| (status.address.as_str(), status.port));
            text(cluster.as_str(), &answer, seed)
        }
    };
    context.console.data(&data);
    Ok(Verdict::Done)
}

/// The phase of a rotation in which clients move, which takes as long as they like: nobody need watch that.
const OVERLAP: &str = "OVERLAP";

/// Watches a rotation until it is over, or waits for clients to move.
struct UntilOverlap<'a> {
    progress: &'a mut Progress,
    overlaps: bool,
    /// Whether the overlap was seen.
    overlapped: bool,
    /// A rotation that is being finished has its overlap behind it: what came before it was shown then.
    stops: bool,
}

impl Watcher for UntilOverlap<'_> {
    fn event(&mut self, console: &mut Console, event: &OperationEvent) {
        self.overlaps = event.phase == OVERLAP;
        self.overlapped |= self.overlaps;
        if self.stops || (self.overlapped && !self.overlaps) {
            self.progress.event(console, event);
        }
    }

    fn lost(&mut self, console: &mut Console) {
        self.progress.lost(console);
    }

    fn is_over(&self, console: &Console) -> bool {
        (self.stops && self.overlaps) || self.progress.is_over(console)
    }
}

/// Watches an operation as a bootstrap is watched; the operation itself is the document.
async fn follow(context: &mut Context, id: &str, stops: bool) -> Result<(), CliError> {
    let mut admin = context.connect().await?;
    context.stage = Stage::Underway(id.to_owned());
    context.console.note(&format!("operation {id} (Ctrl-C stops watching, not the work)"));
    let mut progress = Progress::new(&context.console);
    let mut watcher = UntilOverlap { progress: &mut progress, overlaps: false, overlapped: false, stops };
    let operation = follow::follow(context, &mut admin, id, &mut watcher).await?;
    drop(progress);
    context.stage = if operation.phase == OVERLAP { Stage::Looking } else { follow::stage(&operation) };
    if context.format == Format::Json {
        context.show(String::new, || OneJson::from(&operation));
    }
    follow::verdict(&operation)
}
