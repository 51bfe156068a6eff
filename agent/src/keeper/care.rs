//! What the loop does to the instances that it looks after.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    time::{Duration, Instant},
};

use muster_proto::{HostAssignment, Memory, Port};
use uuid::Uuid;

use super::Keeper;
use crate::{
    enscope, evidence, execute,
    inventory::Instance,
    process,
    reconcile::{Answer, Step},
    restart::{self, Ending, Exit, Past},
    scope::{self, Manager, Wish},
    watch::{self as watching, Expected},
};

impl Keeper {
    pub(super) fn exited(&mut self, port: Port, pid: i32) {
        self.shortage.look(process::oom_kills());
        let now = self.inventory.now();
        let instance = self.inventory.instance(port);
        let short = self.shortage.since(instance.heard());
        let Some(text) = instance.ended(pid, now, short) else { return };
        tracing::warn!(%port, "the server has ended: {text}");
        self.note("ended", port, text, None);
    }

    /// Whoever is not watched yet is, and has a scope asked for.
    pub(super) fn watch_servers(&mut self, assignment: &HostAssignment) {
        for (port, (cluster, _)) in assignment.by_port() {
            let instance = self.inventory.instance(port);
            let Some(process) = instance.process.as_ref().filter(|_| instance.watchers.is_empty()) else { continue };
            let mut watchers =
                match watching::watch(port, process, instance.dir.socket(), Expected::of(cluster), &self.bell) {
                    Ok(watchers) => watchers,
                    Err(error) => {
                        tracing::error!(%port, %error, "cannot watch the server");
                        continue;
                    }
                };
            if let Manager::Systemd(agent) = &self.manager {
                let wish = Wish {
                    name: scope::name(&self.config.base_dir, port),
                    agent: agent.clone(),
                    pid: process.pid(),
                    description: format!("redis-server {port} of {}, supervised by Muster", cluster.cluster),
                    dir: instance.dir.path(),
                    patience: self.config.stop_patience,
                    limits: cluster.limits,
                };
                instance.limit = cluster.limits.memory;
                watchers.push(tokio::spawn(enscope::ensure(port, wish, self.bell.clone())).abort_handle());
            } else {
                instance.outside = (!cluster.limits.is_none()).then(|| scope::UNENFORCED.to_owned());
            }
            instance.watchers = watchers;
        }
    }
}

impl Instance {
    /// A server of it was started.
    pub(super) fn began(&mut self, process: process::Process) {
        self.clues = evidence::born(process.pid());
        (self.process, self.met, self.lived) = (Some(process), Instant::now(), true);
        self.answer = Answer::Silent("it has just been started".into());
        self.view = None;
        (self.past.stillborn, self.past.urged) = (None, false);
        (self.overruled, self.saved, self.unwilling) = (false, None, None);
        (self.outside, self.gauge) = (None, None);
        self.starts += 1;
        self.unwatch();
    }

    /// Its server has ended, `now`; what there is to say about that. None where that is another's end.
    pub(super) fn ended(&mut self, pid: i32, now: Duration, short_of_memory: bool) -> Option<String> {
        let mut process = self.process.take_if(|process| process.pid() == pid)?;
        let status = process.reap();
        self.unwilling = None;
        let answered = self.view.is_some() || matches!(self.answer, Answer::Loading);
        self.answer = Answer::Silent("it has ended".into());
        self.unwatch();
        self.forget_look();
        // The kernel counts for the whole machine. Where the scope's own count is still there, it has to agree.
        let scope = self.gauge.take().and_then(|gauge| gauge.has_risen());
        let ending = ending(status, (short_of_memory && scope != Some(false)).then_some(self.limit));
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

    /// Signals its server, where the step says so.
    pub(super) fn signal(&mut self, step: &Step) -> io::Result<()> {
        match (step, self.process.as_mut()) {
            (Step::Stop, Some(process)) => {
                process.stopping.get_or_insert_with(Instant::now);
                if let Some((_, asked)) = &mut self.unwilling {
                    *asked = Instant::now();
                }
                process.terminate()
            }
            (Step::Kill, Some(process)) => process.kill(),
            _ => Ok(()),
        }
    }
}

/// `limit` is there where the kernel was short of memory, and is that of the scope.
fn ending(status: Option<ExitStatus>, limit: Option<Option<Memory>>) -> Ending {
    match (status, limit) {
        (Some(status), Some(limit)) if status.signal() == Some(9) => Ending::OutOfMemory(limit),
        (Some(status), _) => status.signal().map_or(Ending::Code(status.code().unwrap_or(0)), Ending::Signal),
        (None, Some(limit)) => Ending::OutOfMemory(limit),
        (None, None) => Ending::Unseen,
    }
}
