//! What is to leave: a server that is stopped, a bootstrap that is called off, the former life of a rebuilt cluster;
//! and what comes back.

use std::time::Duration;

use muster_proto::{Condition, InstanceState, Want};

use super::{Answer, Case, LOOK_AGAIN, ProcessSeen, Step, Unwilling, Verdict, stamp_of, unreadable};
use crate::{
    layout::{Directory, Stamp},
    permits::Leaving,
};

/// A master that is to leave waits for replicas that lag, and answers meanwhile (`shutdown-timeout`, 10 s by default,
/// 7.0); it saves after that.
const REPLICAS: Duration = Duration::from_secs(12);
/// A server that does not stop is asked again so often: what hindered it may be gone.
const AGAIN: Duration = Duration::from_secs(60);
/// One that writes its first log stops when that is done, and has forgotten that it was asked ("Writing initial AOF,
/// can't exit", `prepareForShutdown` in db.c before 7.0, `finishShutdown` in server.c from then on).
const AFTER_FIRST_LOG: Duration = Duration::from_secs(2);

impl Unwilling {
    /// Whether it says that it writes its first append-only file, before which it does not stop.
    pub fn writes_first_log(words: &str) -> bool {
        words.to_lowercase().contains("initial aof")
    }

    /// Whether other words than those of its first append-only file say that it does not stop.
    pub fn has_another_reason(words: &str) -> bool {
        words.to_lowercase().contains("can't exit") && !Self::writes_first_log(words)
    }
}

impl Case<'_> {
    /// The former life in whose directory we look; none where the assigned one is there, or something else.
    pub(super) fn leaving(&self) -> Option<Leaving> {
        let Directory::Stamped(stamp) = &self.seen.directory else { return None };
        if stamp.cluster_id != self.cluster.cluster_id || stamp.port != self.instance.port {
            return None;
        }
        // What is retired has no life of its own: it is named by a former.
        if self.instance.want != Want::Retired && stamp.same_life(&stamp_of(self.cluster, self.instance)) {
            return None;
        }
        let ended = self.instance.formers.iter().find(|former| {
            (former.incarnation, former.life, former.node_id) == (stamp.incarnation, stamp.life, stamp.node_id)
        })?;
        Some(Leaving { stamp: stamp.clone(), operation: ended.operation, new_life: self.instance.life })
    }

    /// A former life never goes on, whatever is wanted. That it makes room takes a permit, and that nothing of it runs.
    pub(super) fn leave(&self, leaving: Leaving) -> Verdict {
        match (&self.seen.process, self.instance.want) {
            (ProcessSeen::Unknown(why), _) => self.unrecognised(why),
            (ProcessSeen::Ours { stopping, .. }, _) => self.stop(*stopping),
            (ProcessSeen::None | ProcessSeen::Foreign(_), Want::Stopped) => Verdict::fine(InstanceState::Stopped),
            (ProcessSeen::Foreign(who), _) => self.foreign(who),
            (ProcessSeen::None, _) => self.set_former_aside(leaving),
        }
    }

    fn set_former_aside(&self, leaving: Leaving) -> Verdict {
        let why = format!("waits for a permit to set life {} aside", leaving.stamp.life);
        let why = match &self.seen.failed {
            Some((words, _)) => format!("{why}; what failed here last: {words}"),
            None => why,
        };
        let waits = Verdict::wait(InstanceState::Stopped, why);
        match &self.seen.failed {
            Some((_, due)) if *due > self.now => waits.at(*due),
            _ if self.seen.granted.as_ref() == Some(&leaving) => {
                Verdict { step: Some(Step::Wipe { leaving }), ..waits }
            }
            _ => Verdict { asks: Some(leaving), ..waits },
        }
    }

    /// Nothing of the cluster is here any more, and nothing of a former life is in place.
    pub(super) fn retired(&self) -> Verdict {
        match (&self.seen.directory, &self.seen.process) {
            (Directory::Stamped(stamp), _) if stamp.cluster_id == self.cluster.cluster_id => self.untouched(stamp),
            (Directory::Unreadable(why), _) => unreadable(why),
            (Directory::Free | Directory::Foreign(_), ProcessSeen::Ours { pid, .. }) => self.bereft(*pid),
            (Directory::Stamped(_) | Directory::Free | Directory::Foreign(_), _) => {
                Verdict::fine(InstanceState::Absent)
            }
        }
    }

    /// Its directory is put back, and never made: it would lack what it is put back for.
    pub(super) fn restore(&self, stamp: Stamp) -> Verdict {
        match (&self.seen.process, &self.seen.trashed) {
            (ProcessSeen::Ours { pid, .. }, _) => self.bereft(*pid),
            (_, Ok(())) => Verdict::act(InstanceState::Absent, "putting its directory back", Step::Restore { stamp }),
            (_, Err(missing)) => {
                Verdict::blocked(format!("its directory of life {} cannot be put back: {missing}", stamp.life))
            }
        }
    }

    pub(super) fn set_aside(&self) -> Verdict {
        let wanted = stamp_of(self.cluster, self.instance);
        match (&self.seen.directory, &self.seen.process) {
            (Directory::Stamped(stamp), _) if !stamp.same_life(&wanted) => Verdict::fine(InstanceState::Absent),
            (Directory::Stamped(stamp), _) if stamp.formed || self.cluster.formed => Verdict::blocked(format!(
                "{} belongs to the formed cluster {} and is not set aside by calling off a bootstrap",
                self.seen.path.display(),
                stamp.cluster
            )),
            (Directory::Stamped(_), ProcessSeen::Ours { stopping, .. }) => self.stop(*stopping),
            (Directory::Stamped(stamp), _) => Verdict::act(
                InstanceState::Stopping,
                "setting its directory aside",
                Step::SetAside { stamp: stamp.clone() },
            ),
            (Directory::Free | Directory::Foreign(_) | Directory::Unreadable(_), ProcessSeen::Ours { pid, .. }) => {
                self.bereft(*pid)
            }
            (Directory::Free | Directory::Foreign(_) | Directory::Unreadable(_), _) => {
                Verdict::fine(InstanceState::Absent)
            }
        }
    }

    /// A server of ours whose directory somebody has taken away, or its stamp: whose data it holds is not known any
    /// more.
    pub(super) fn bereft(&self, pid: i32) -> Verdict {
        Verdict::blocked(format!(
            "pid {pid} runs here, and {} is not the directory that it was started in; stop it by hand: kill {pid}",
            self.seen.path.display()
        ))
    }

    /// It is ours, and is to stop; but it is asked, and never killed: a last save that fails for want of its directory
    /// leaves what it holds in memory alone.
    pub(super) fn stop_bereft(&self, pid: i32, stopping: Option<Duration>) -> Verdict {
        match stopping {
            Some(since) if since >= self.rules.stop_patience => self.bereft(pid),
            stopping => self.stop(stopping),
        }
    }

    pub(super) fn stop(&self, stopping: Option<Duration>) -> Verdict {
        match stopping {
            None => Verdict::act(InstanceState::Stopping, "asking it to stop", Step::Stop),
            // Killed now, it would lose what it is about to keep.
            Some(since) if since >= self.rules.stop_patience && self.seen.saving => {
                let why = "its patience is over, and it still saves its data set: waiting for that";
                Verdict::wait(InstanceState::Stopping, why).called(Condition::Saving).at(self.now + LOOK_AGAIN)
            }
            Some(since) if since >= self.rules.stop_patience && since < REPLICAS && self.answers() => {
                let why = "its patience is over, and it waits for its replicas to have everything: waiting for that";
                Verdict::wait(InstanceState::Stopping, why).at(self.now + LOOK_AGAIN)
            }
            Some(since) if since >= self.rules.stop_patience && self.is_spared() => self.unwilling(),
            Some(since) if since >= self.rules.stop_patience => Verdict::act(
                InstanceState::Stopping,
                format!("it did not stop within {} s; killing it", since.as_secs()),
                Step::Kill,
            ),
            Some(since) => Verdict::wait(InstanceState::Stopping, "waiting for its process to end")
                .at(self.now + self.rules.stop_patience - since),
        }
    }

    /// Redis gives up stopping when its last save fails ("can't exit"; `finishShutdown` in server.c, before 7.0
    /// `prepareForShutdown` in db.c), and serves on: killed then, it would take with it what was written since its
    /// last good save. What does not answer any more keeps nothing by waiting. Who was asked because nothing is to run
    /// is not killed either when that is called off.
    fn is_spared(&self) -> bool {
        let wanted = match self.instance.want {
            Want::Stopped => true,
            Want::Prepared | Want::Running => self.seen.unwilling.is_some(),
            Want::SetAside | Want::Retired => false,
        };
        let answers = match self.seen.answer {
            Answer::View(_) => true,
            Answer::Silent(_) | Answer::Hung(_) => self.seen.silent < self.rules.stop_patience,
            Answer::Loading | Answer::Frozen(_) => false,
        };
        wanted && answers
    }

    fn unwilling(&self) -> Verdict {
        let (ProcessSeen::Ours { pid, .. }, Some(Unwilling { words, asked })) =
            (&self.seen.process, &self.seen.unwilling)
        else {
            return Verdict::blocked("it does not stop").at(self.now + LOOK_AGAIN);
        };
        let (verdict, pause) = if Unwilling::writes_first_log(words) {
            let why = format!("pid {pid} writes its first append-only file, and stops after that");
            (Verdict::wait(InstanceState::Stopping, why).called(Condition::Saving), AFTER_FIRST_LOG)
        } else {
            let why = format!(
                "pid {pid} does not stop: {words}; free its disk, it is asked again every {} s; or, if what it holds \
                 in memory may be lost: redis-cli -s {} shutdown nosave",
                AGAIN.as_secs(),
                self.seen.socket.display()
            );
            (Verdict::blocked(why), AGAIN)
        };
        match pause.checked_sub(*asked).filter(|left| !left.is_zero()) {
            Some(left) => verdict.at(self.now + left),
            None => Verdict { step: Some(Step::Stop), ..verdict },
        }
    }

    fn answers(&self) -> bool {
        matches!(self.seen.answer, Answer::View(_))
    }
}

#[cfg(test)]
mod tests;
