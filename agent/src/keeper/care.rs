//! What the loop does to the instances that it looks after.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    evidence, execute,
    inventory::Instance,
    process,
    reconcile::{Answer, Step},
    restart::{self, Ending, Exit, Past},
};

impl Instance {
    /// A server of it was started.
    pub(super) fn began(&mut self, process: process::Process) {
        self.clues = evidence::born(process.pid());
        (self.process, self.met) = (Some(process), Instant::now());
        self.answer = Answer::Silent("it has just been started".into());
        self.view = None;
        (self.past.stillborn, self.past.urged) = (None, false);
        self.overruled = false;
        self.starts += 1;
        self.unwatch();
    }

    /// Its server has ended, `now`; what there is to say about that. None where that is another's end.
    pub(super) fn ended(&mut self, pid: i32, now: Duration, short_of_memory: bool) -> Option<String> {
        let mut process = self.process.take_if(|process| process.pid() == pid)?;
        let status = process.reap();
        let answered = self.view.is_some() || matches!(self.answer, Answer::Loading);
        self.answer = Answer::Silent("it has ended".into());
        self.unwatch();
        self.forget_look();
        let ending = ending(status, short_of_memory);
        if process.stopping.is_some() {
            // Nothing to be careful about at the next start: this one was wanted, and is no sign of trouble.
            self.past = Past::default();
            let how = if ending == Ending::Signal(9) { "; it had not stopped by itself, and was killed" } else { "" };
            return Some(format!("pid {pid}, as asked{how}"));
        }
        let words = execute::last_words(&self.dir);
        let exit = Exit { at: now, ending, jitter: Uuid::new_v4().as_bytes()[0] };
        self.past.ended(exit, (!answered || restart::is_conf_error(&words)).then(|| words.clone()));
        Some(format!("pid {pid}, {ending}; its last words: {words}"))
    }

    /// What watches its server ends.
    pub(super) fn unwatch(&mut self) {
        self.watchers.drain(..).for_each(|watcher| watcher.abort());
    }

    /// Signals its server, where the step says so.
    pub(super) fn signal(&mut self, step: &Step) -> io::Result<()> {
        match (step, self.process.as_mut()) {
            (Step::Stop, Some(process)) => {
                process.stopping = Some(Instant::now());
                process.terminate()
            }
            (Step::Kill, Some(process)) => process.kill(),
            _ => Ok(()),
        }
    }
}

fn ending(status: Option<ExitStatus>, short_of_memory: bool) -> Ending {
    match status {
        Some(status) if status.signal() == Some(9) && short_of_memory => Ending::OutOfMemory,
        Some(status) => status.signal().map_or(Ending::Code(status.code().unwrap_or(0)), Ending::Signal),
        None if short_of_memory => Ending::OutOfMemory,
        None => Ending::Unseen,
    }
}
