//! A connection to one server, with a patience for everything: one that is frozen takes connections, and says nothing.
//! RESP2 as far as the soak's commands need it.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status or a string.
    Text(String),
    /// A number.
    Number(i64),
    /// No such key.
    Nil,
    /// It refuses: `MOVED 7 127.0.0.1:7001`.
    Error(String),
}

/// The connection. After an error it is good for nothing.
#[derive(Debug)]
pub struct Talk(BufReader<TcpStream>);

impl Talk {
    /// To that endpoint, with so much patience for every answer.
    pub fn to(endpoint: &str, patience: Duration) -> io::Result<Self> {
        let address = endpoint.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Says one command.
    pub fn ask(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut replies = self.ask_all(&[words])?;
        replies.pop().ok_or_else(|| io::Error::other("no reply"))
    }

    /// The same, where the answer must be a text.
    pub fn text(&mut self, words: &[&str]) -> io::Result<String> {
        match self.ask(words)? {
            Reply::Text(text) => Ok(text),
            other => Err(io::Error::other(format!("{words:?}: {other:?}"))),
        }
    }

    /// Says many at once, and takes their answers in order.
    pub fn ask_all<Words: AsRef<[Word]>, Word: AsRef<str>>(&mut self, commands: &[Words]) -> io::Result<Vec<Reply>> {
        let mut text = String::new();
        for words in commands.iter().map(AsRef::as_ref) {
            let _ = write!(text, "*{}\r\n", words.len());
            for word in words.iter().map(AsRef::as_ref) {
                let _ = write!(text, "${}\r\n{word}\r\n", word.len());
            }
        }
        self.0.get_mut().write_all(text.as_bytes())?;
        commands.iter().map(|_| self.reply()).collect()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| io::Error::other("an empty line"))?;
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => Ok(Reply::Number(number()?)),
            "$" => match usize::try_from(number()?) {
                Err(_) => Ok(Reply::Nil),
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.0.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
                }
            },
            _ => Err(io::Error::other(format!("not expected: {line}"))),
        }
    }
}
