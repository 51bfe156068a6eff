//! Data to stdout, everything else to stderr, and errors rendered once.
//!
//! A reader who goes away (`muster hosts | head -1`) is no error: what is left is not written, the command goes on, and
//! its exit code is its own. Text that came from hosts is stripped of control characters, so that no process title and
//! no log line can speak to the operator's terminal.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, ErrorKind, IsTerminal as _, Write},
    sync::{Arc, Mutex, PoisonError},
};

use anstyle::{AnsiColor, Style};
use muster_proto::Secret;
use rustix::{
    io::Errno,
    termios::{self, LocalModes, OptionalActions, Termios},
};
use zeroize::Zeroizing;

use super::{
    Stage,
    error::{CliError, WE_FAILED},
};

const RED: Style = AnsiColor::Red.on_default().bold();
const BOLD: Style = Style::new().bold();

/// What a command reads from; shared with the thread that waits for a line.
pub type Input = Arc<Mutex<dyn BufRead + Send>>;

/// Where a command writes and reads, and whether a person is there.
pub struct Console {
    stdin: Input,
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    /// Why stdout takes no more.
    broken: Option<io::Error>,
    /// Somebody can be asked.
    pub asks: bool,
    /// Stdout is a terminal, so that a screen can be drawn anew.
    pub draws: bool,
    /// Stderr is a terminal, so that progress can move.
    pub moves: bool,
}

impl Console {
    /// The process' own; colour goes where it is understood.
    pub fn standard() -> Self {
        Self {
            asks: io::stdin().is_terminal() && io::stderr().is_terminal(),
            draws: io::stdout().is_terminal(),
            moves: io::stderr().is_terminal(),
            ..Self::to(Box::new(io::stdout()), Box::new(anstream::stderr()))
        }
        .reading(Arc::new(Mutex::new(BufReader::new(io::stdin()))))
    }

    /// Two writers with nobody behind them, and nothing to read.
    pub fn to(stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send>) -> Self {
        let stdin = Arc::new(Mutex::new(io::empty()));
        Self { stdin, stdout, stderr, broken: None, asks: false, draws: false, moves: false }
    }

    /// With something to read.
    pub fn reading(self, stdin: Input) -> Self {
        Self { stdin, ..self }
    }

    /// Data.
    pub fn data(&mut self, text: &str) {
        if self.broken.is_none() {
            let written = self.stdout.write_all(clean(text).as_bytes()).and_then(|()| self.stdout.flush());
            self.broken = written.err();
        }
    }

    /// A screen of data in place of the one before.
    pub fn redraw(&mut self, text: &str) {
        if self.broken.is_none() {
            // Home, then each line with its rest erased, then everything below: no flicker.
            let text = clean(text).replace('\n', "\x1b[K\n");
            let written = write!(self.stdout, "\x1b[H{text}\x1b[J").and_then(|()| self.stdout.flush());
            self.broken = written.err();
        }
    }

    /// Whether nobody reads any more, so that a stream had better end.
    pub fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Anything that is not data; a line.
    pub fn note(&mut self, text: &str) {
        // Nobody is left to tell that nobody is there to be told.
        let _ = writeln!(self.stderr, "{}", clean(text));
    }

    /// Asks, and waits for a line; none at the end of the input.
    pub async fn ask(&mut self, question: &str) -> Option<String> {
        let _ = write!(self.stderr, "{question}").and_then(|()| self.stderr.flush());
        self.line().await.map(|line| line.to_string())
    }

    /// Asks for something that is not shown while it is typed. Without a terminal it is the next line of stdin, so that
    /// it can come from another program; never an argument, which everybody on the host can read.
    pub async fn ask_secret(&mut self, question: &str) -> Option<Secret> {
        let _silence = if self.asks {
            let _ = write!(self.stderr, "{question}").and_then(|()| self.stderr.flush());
            Silence::begin().ok()?
        } else {
            None
        };
        let line = self.line().await;
        line.map(|line| Secret::new(line.trim())).filter(|secret| !secret.is_empty())
    }

    async fn line(&self) -> Option<Zeroizing<String>> {
        let stdin = self.stdin.clone();
        let read = move || {
            let mut line = Zeroizing::new(String::new());
            let read = stdin.lock().unwrap_or_else(PoisonError::into_inner).read_line(&mut line);
            read.ok().filter(|read| *read > 0).map(|_| line)
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// An error: what failed, because of what, what to type, and what it means for the work. Returns the exit code.
    pub fn report(&mut self, error: &CliError, stage: &Stage) -> u8 {
        let mut text = format!("{RED}error:{RED:#} {}\n", clean(&error.to_string()));
        for cause in error.causes() {
            text += &format!("  {BOLD}because:{BOLD:#} {}\n", clean(&cause));
        }
        if let Some(hint) = error.hint() {
            text += &format!("     {BOLD}hint:{BOLD:#} {}\n", clean(&hint));
        }
        let _ = self.stderr.write_all((text + &meaning(stage)).as_bytes());
        error.exit_code()
    }

    /// Ctrl-C, and what it means for the work.
    pub fn interrupted(&mut self, stage: &Stage) {
        let _ = self.stderr.write_all(format!("\ninterrupted\n{}", meaning(stage)).as_bytes());
    }

    /// A bug of ours, without a stack trace.
    pub fn report_bug(&mut self, what: &str) {
        let hint = "this is a bug in muster; please report it with what you typed";
        let _ = writeln!(
            self.stderr,
            "{RED}error:{RED:#} muster itself failed\n  because: {}\n     hint: {hint}",
            clean(what)
        );
    }

    /// The exit code in the end: data that could not be written makes it ours, a reader who went away does not.
    pub fn finish(mut self, code: u8) -> u8 {
        match self.broken.take() {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                let _ = writeln!(self.stderr, "{RED}error:{RED:#} cannot write to stdout\n  because: {error}");
                if code == 0 { WE_FAILED } else { code }
            }
            _ => code,
        }
    }
}

/// A terminal without echo, until this is dropped; also when Ctrl-C ends the asking. A reader that turned the echo off
/// by itself would still be waiting then, and leave the operator with a terminal that shows nothing.
struct Silence(Termios);

impl Silence {
    /// None where there is no terminal, and so no echo.
    fn begin() -> io::Result<Option<Self>> {
        let before = match termios::tcgetattr(io::stdin()) {
            Ok(before) => before,
            Err(Errno::NOTTY) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What the end of this command means for the work; empty or a line.
fn meaning(stage: &Stage) -> String {
    match stage {
        Stage::Looking => String::new(),
        Stage::Unchanged => "nothing was changed\n".to_owned(),
        Stage::Asked => "whether the coordinator has acted is not known; look with: muster ops\n".to_owned(),
        Stage::Underway(id) => {
            format!("the operation goes on without this command; watch on with: muster op watch {id}\n")
        }
    }
}

/// Without control characters other than line breaks.
fn clean(text: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\n';
    if text.contains(bad) { text.replace(bad, "?").into() } else { text.into() }
}
