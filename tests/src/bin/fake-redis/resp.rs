//! The protocol: commands in, answers out.

use std::io::{self, BufRead, Read as _};

/// A command's words.
pub type Command = Vec<Vec<u8>>;

/// Reads one; none at the end of the stream.
pub fn read(from: &mut impl BufRead) -> io::Result<Option<Command>> {
    let mut head = String::new();
    if from.read_line(&mut head)? == 0 {
        return Ok(None);
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not a command");
    let Some(count) = head.trim_end().strip_prefix('*') else {
        // As people type it into a socket.
        return Ok(Some(head.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()));
    };
    let mut words = Vec::new();
    for _ in 0..count.parse::<usize>().map_err(|_| wrong())? {
        let mut length = String::new();
        from.read_line(&mut length)?;
        let length: u64 = length.trim_end().strip_prefix('$').and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
        let mut word = Vec::new();
        from.by_ref().take(length + 2).read_to_end(&mut word)?;
        word.truncate(word.len().saturating_sub(2));
        words.push(word);
    }
    Ok(Some(words))
}

/// A command as the protocol, and the append-only file, have it.
pub fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// A string of any bytes.
pub fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Several strings.
pub fn array(items: &[String]) -> Vec<u8> {
    let bulks = items.iter().flat_map(|item| bulk(item.as_bytes()));
    format!("*{}\r\n", items.len()).into_bytes().into_iter().chain(bulks).collect()
}

/// Nothing.
pub const NIL: &[u8] = b"$-1\r\n";
/// Done.
pub const OK: &[u8] = b"+OK\r\n";
