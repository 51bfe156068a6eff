//! ListEvents: the agents' diaries, side by side, as one.

use std::sync::Arc;

use muster_proto::{HostName, failure::Failure, wire};

use crate::{keeper::Shared, safeguard::unknown_host};

/// Entries in an answer, unless the caller says.
const MOST: u32 = 50;
const MOST_MOST: u32 = 10_000;

/// Asks every host that is meant.
pub async fn list(
    shared: &Arc<Shared>,
    request: &wire::ListEventsRequest,
) -> Result<wire::ListEventsResponse, Failure> {
    let most = match request.most {
        0 => MOST,
        most if most <= MOST_MOST => most,
        most => return Err(Failure::invalid(format!("most: {most} is not within 1-{MOST_MOST}"))),
    };
    let mut hosts: Vec<HostName> = match request.cluster.as_str() {
        "" => shared.inventory().hosts().keys().cloned().collect(),
        name => shared.cluster(name)?.blueprint.hosts().into_iter().collect(),
    };
    if !request.host.is_empty() {
        hosts.retain(|host| host.as_str() == request.host);
        if hosts.is_empty() {
            return Err(unknown_host(&request.host));
        }
    }
    let task = wire::Events { cluster: request.cluster.clone(), most };
    let (mut events, mut silent) = (Vec::new(), Vec::new());
    for (host, said) in shared.events(hosts, &task).await {
        let host = host.to_string();
        match said {
            Ok(said) => {
                events.extend(said.into_iter().map(|event| wire::HostEvent { host: host.clone(), event: Some(event) }));
            }
            Err(why) => silent.push(wire::SilentHost { host, why }),
        }
    }
    events.sort_by_key(|event| event.event.as_ref().map_or(0, |event| event.unix_ms));
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    events.drain(..events.len().saturating_sub(most));
    Ok(wire::ListEventsResponse { events, silent })
}
