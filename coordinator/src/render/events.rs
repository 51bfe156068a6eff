//! `muster events`: one line an event, oldest first, and the hosts that were not heard.

use muster_proto::wire::{HostEvent, ListEventsResponse};
use serde::Serialize;

use super::{moment, some, table};

/// For scripts.
#[derive(Debug, Clone, Serialize)]
pub struct EventsJson {
    events: Vec<EventJson>,
    silent: Vec<SilentJson>,
}

#[derive(Debug, Clone, Serialize)]
struct EventJson {
    host: String,
    unix_ms: u64,
    what: String,
    port: Option<u32>,
    cluster: Option<String>,
    text: String,
    condition: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct SilentJson {
    host: String,
    why: String,
}

impl From<&ListEventsResponse> for EventsJson {
    fn from(answer: &ListEventsResponse) -> Self {
        let one = |event: &HostEvent| {
            let said = event.event.clone().unwrap_or_default();
            EventJson {
                host: event.host.clone(),
                unix_ms: said.unix_ms,
                port: Some(said.port).filter(|port| *port > 0),
                cluster: some(&said.cluster),
                condition: some(&said.condition),
                what: said.what,
                text: said.text,
            }
        };
        let silent = answer.silent.iter().map(|host| SilentJson { host: host.host.clone(), why: host.why.clone() });
        Self { events: answer.events.iter().map(one).collect(), silent: silent.collect() }
    }
}

/// For people.
pub fn text(answer: &ListEventsResponse) -> String {
    let row = |event: &HostEvent| {
        let said = event.event.clone().unwrap_or_default();
        let place = if said.port > 0 { format!("{}:{}", event.host, said.port) } else { event.host.clone() };
        let code = some(&said.condition).map(|code| format!(" [{code}]")).unwrap_or_default();
        [moment(said.unix_ms), place, said.what, said.text + &code]
    };
    let silent = answer.silent.iter().map(|host| format!("{} was not heard: {}\n", host.host, host.why));
    let silent: String = silent.collect();
    if answer.events.is_empty() {
        return format!("Nothing has happened.\n{silent}");
    }
    table(["WHEN", "WHERE", "WHAT", "HOW"], answer.events.iter().map(row).collect()) + &silent
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use muster_proto::wire::{AgentEvent, SilentHost};

    use super::*;

    #[test]
    fn events_are_a_table_and_who_was_not_heard_is_named() {
        let event = |port, what: &str, text: &str, condition: &str| HostEvent {
            host: "server1".into(),
            event: Some(AgentEvent {
                unix_ms: 1_795_384_802_345,
                what: what.into(),
                port,
                cluster: if port > 0 { "orders".into() } else { String::new() },
                text: text.into(),
                condition: condition.into(),
            }),
        };
        let answer = ListEventsResponse {
            events: vec![
                event(0, "agent", "muster-agent 0.1.0 begins", ""),
                event(7000, "state", "down: it has ended 2 times in 300 s", "BACKOFF"),
            ],
            silent: vec![SilentHost { host: "server2".into(), why: "it is not connected".into() }],
        };
        expect![[r#"
            WHEN                  WHERE         WHAT   HOW
            2026-11-22T22:00:02Z  server1       agent  muster-agent 0.1.0 begins
            2026-11-22T22:00:02Z  server1:7000  state  down: it has ended 2 times in 300 s [BACKOFF]
            server2 was not heard: it is not connected
        "#]]
        .assert_eq(&text(&answer));
        assert_eq!(text(&ListEventsResponse::default()), "Nothing has happened.\n");
        let json = super::super::line(&EventsJson::from(&answer));
        assert!(json.contains(r#""what":"agent","port":null,"cluster":null"#), "{json}");
        assert!(json.contains(r#""silent":[{"host":"server2","why":"it is not connected"}]"#), "{json}");
    }
}
