//! A client of Redis in forty lines: what a judge asks must not depend on a library that Muster uses.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// Most that a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks a server something over a connection of its own; its error as an error.
pub fn ask(endpoint: &str, words: &[&str]) -> Result<String, String> {
    let wrong = |error: std::io::Error| format!("{endpoint} {words:?}: {error}");
    let address = endpoint.parse().map_err(|_| format!("{endpoint} is no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(wrong)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(wrong)?;
    let mut command = format!("*{}\r\n", words.len());
    words.iter().for_each(|word| command.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    stream.write_all(command.as_bytes()).map_err(wrong)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).map_err(wrong)?;
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("+" | ":", text)) => Ok(text.to_owned()),
        Some(("$", "-1")) => Err(format!("{endpoint} {words:?}: nothing is there")),
        Some(("$", length)) => {
            let length = length.parse().map_err(|_| format!("{endpoint} {words:?}: {line}"))?;
            let mut text = vec![0; length];
            reader.read_exact(&mut text).map_err(wrong)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        _ => Err(format!("{endpoint} {words:?}: {line}")),
    }
}

/// A line of INFO or CLUSTER INFO.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}
