//! The client against listeners that speak just enough RESP: they redirect, answer, refuse or say nothing.

use std::collections::HashMap;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

const RANGES: [(u16, u16); 3] = [(0, 5460), (5461, 10_922), (10_923, 16_383)];

async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut line = String::new();
    let number = |line: &str| line.trim()[1..].parse::<usize>().ok();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut words = Vec::new();
    for _ in 0..number(&line)? {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let mut word = vec![0; number(&line)? + 2];
        stream.read_exact(&mut word).await.ok()?;
        words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
    }
    Some(words)
}

/// A node of a cluster of three, as far as a client can tell.
async fn serve(listener: TcpListener, me: usize, ports: [u16; 3], mute: bool) {
    let slots: String = (0..3)
        .map(|nth| {
            let (first, last) = RANGES[nth];
            format!("*3\r\n:{first}\r\n:{last}\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}\r\n", ports[nth])
        })
        .collect();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let slots = slots.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut store: HashMap<String, String> = HashMap::new();
            while let Some(words) = command(&mut stream).await {
                let key = words.get(1).cloned().unwrap_or_default();
                let slot = slots::key_slot(key.as_bytes());
                let owner = (0..3).find(|nth| (RANGES[*nth].0..=RANGES[*nth].1).contains(&slot)).unwrap();
                let answer = match words[0].to_uppercase().as_str() {
                    "CLUSTER" => format!("*3\r\n{slots}"),
                    "SET" | "GET" | "DEL" if mute => continue,
                    "SET" | "GET" | "DEL" if owner != me => format!("-MOVED {slot} 127.0.0.1:{}\r\n", ports[owner]),
                    "SET" => {
                        store.insert(key, words[2].clone());
                        "+OK\r\n".to_owned()
                    }
                    "GET" => {
                        store.get(&key).map_or("$-1\r\n".into(), |value| format!("${}\r\n{value}\r\n", value.len()))
                    }
                    "DEL" => format!(":{}\r\n", u8::from(store.remove(&key).is_some())),
                    _ => "+OK\r\n".to_owned(),
                };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn cluster(mute: Option<usize>) -> Vec<Master> {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let ports = [0, 1, 2].map(|nth: usize| listeners[nth].local_addr().unwrap().port());
    for (nth, listener) in listeners.into_iter().enumerate() {
        tokio::spawn(serve(listener, nth, ports, mute == Some(nth)));
    }
    let master = |nth: usize| {
        let slots = vec![muster_proto::SlotRange::new(RANGES[nth].0, RANGES[nth].1).unwrap()];
        Master { address: "127.0.0.1".into(), port: ports[nth], slots }
    };
    (0..3).map(master).collect()
}

#[tokio::test]
async fn every_master_is_written_through_after_a_redirect() {
    let masters = cluster(None).await;
    let steps = visit(&masters, &Access::default()).await;
    assert_eq!(steps.len(), 3);
    for (nth, step) in steps.iter().enumerate() {
        assert_eq!(step.error, "", "{step:?}");
        assert_eq!((&step.asked, &step.answered), (&name(&masters[(nth + 1) % 3]), &name(&masters[nth])));
        assert!(step.micros > 0);
    }
}

#[tokio::test]
async fn a_master_that_says_nothing_is_named_and_the_others_are_not_blamed() {
    let masters = cluster(Some(1)).await;
    let steps = visit(&masters, &Access::default()).await;
    let culprit = name(&masters[1]);
    // Asked for a redirect, it said nothing to the first either: the sentence names it both times.
    assert!(steps[0].error.starts_with(&culprit), "{}", steps[0].error);
    assert!(steps[1].error.starts_with(&culprit), "{}", steps[1].error);
    assert_eq!(steps[2].error, "");
}

#[tokio::test]
async fn a_master_that_is_not_there_is_named() {
    let mut masters = cluster(None).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    masters[2].port = gone;
    let steps = visit(&masters, &Access::default()).await;
    // Nobody redirects there, so a client is well served; the redirect shows who answers for it.
    assert_eq!(steps[0].error, "");
    assert_ne!(steps[2].answered, name(&masters[2]));
}
