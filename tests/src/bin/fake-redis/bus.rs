//! Peers: who answers, and what a master tells its replicas.
//!
//! Whoever dials says who he is and whom he means, `HELLO from to`; only that one answers, and only somebody he knows.
//! So nodes of two lives never take each other for peers. A replica says `SYNC from to`, is sent everything, then every
//! write, and says how far it is.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    nodes::Node,
    resp,
    server::{Replica, Server},
};

/// Between two tries to reach a peer.
const AGAIN: Duration = Duration::from_millis(10);

/// Listens, and dials everybody.
pub fn start(server: &Arc<Server>, listener: TcpListener) -> Result<(), String> {
    let ours = server.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = ours.clone();
            thread::spawn(move || drop(answer(&server, stream)));
        }
    });
    for node in server.nodes.all.iter().filter(|node| node.id != server.nodes.me).cloned() {
        let server = server.clone();
        thread::spawn(move || {
            loop {
                let _ = hold(&server, &node);
                {
                    let mut state = server.state();
                    state.up.remove(&node.id);
                    state.down.entry(node.id.clone()).or_insert_with(Instant::now);
                }
                thread::sleep(AGAIN);
            }
        });
    }
    if let Some(master) = server.master().cloned() {
        let server = server.clone();
        thread::spawn(move || {
            loop {
                let _ = follow(&server, &master);
                server.state().synced = false;
                thread::sleep(AGAIN);
            }
        });
    }
    Ok(())
}

/// Greets a peer; an error unless it is the one that was meant.
fn greet(server: &Server, node: &Node, word: &str) -> io::Result<(TcpStream, BufReader<TcpStream>)> {
    let (address, port) = node.bus().ok_or_else(|| io::Error::other("no address"))?;
    let mut stream = TcpStream::connect((address.as_str(), port))?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("{word} {} {}\n", server.nodes.me, node.id).as_bytes())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.trim_end() != node.id {
        return Err(io::Error::other("somebody else"));
    }
    Ok((stream, reader))
}

/// Holds a connection to a peer for as long as it lasts.
fn hold(server: &Server, node: &Node) -> io::Result<()> {
    let (_stream, mut reader) = greet(server, node, "HELLO")?;
    {
        let mut state = server.state();
        state.up.insert(node.id.clone());
        state.down.remove(&node.id);
    }
    while !reader.fill_buf()?.is_empty() {
        let length = reader.buffer().len();
        reader.consume(length);
    }
    Ok(())
}

fn answer(server: &Server, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [word, from, to] = words.as_slice() else { return Ok(()) };
    if *to != server.nodes.me || server.nodes.get(from).is_none() {
        return stream.write_all(b"no\n");
    }
    stream.write_all(format!("{}\n", server.nodes.me).as_bytes())?;
    let replica = *word == "SYNC";
    if replica {
        let mut state = server.state();
        let all = state.all();
        stream.write_all(format!("{} {}\n", all.len(), state.offset).as_bytes())?;
        for words in all {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            stream.write_all(&resp::command(&words))?;
        }
        state.replicas.insert((*from).to_owned(), Replica { stream: stream.try_clone()?, acknowledged: 0 });
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            break;
        }
        if let (true, Ok(offset)) = (replica, line.trim_end().parse()) {
            if let Some(replica) = server.state().replicas.get_mut(*from) {
                replica.acknowledged = offset;
            }
            server.acknowledged.notify_all();
        }
    }
    if replica {
        server.state().replicas.remove(*from);
    }
    Ok(())
}

/// Takes over what the master has, and follows it.
fn follow(server: &Server, master: &Node) -> io::Result<()> {
    let (mut stream, mut reader) = greet(server, master, "SYNC")?;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [count, offset] = numbers[..] else { return Err(io::Error::other("not a data set")) };
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(resp::read(&mut reader)?.ok_or(io::ErrorKind::UnexpectedEof)?);
    }
    {
        let mut state = server.state();
        state.write(&[b"FLUSHALL".to_vec()]);
        all.iter().for_each(|words| {
            state.write(words);
        });
        (state.offset, state.synced) = (offset, true);
    }
    stream.write_all(format!("{offset}\n").as_bytes())?;
    while let Some(words) = resp::read(&mut reader)? {
        let offset = {
            let mut state = server.state();
            state.write(&words);
            state.offset
        };
        stream.write_all(format!("{offset}\n").as_bytes())?;
    }
    Ok(())
}
