//! Crash points: named places in the daemons at which a test has them die, and the order to do every step twice.
//!
//! A point costs one look at a flag where nobody asks, and nothing in builds without debug assertions, where it does
//! not exist. What a debug build reads from its environment, once:
//!
//! | variable | meaning |
//! |---|---|
//! | `MUSTER_CRASH_POINT=NAME[:N]` | at the N-th passing of that point (the first, unless said) the process dies |
//! | `MUSTER_CRASH_TOLD=FILE` | the name is written there first, so that the test knows |
//! | `MUSTER_CRASH_SPARE=1` | it does not die: it goes on as soon as that file is removed |
//! | `MUSTER_CRASH_WHEN=FILE` | what is passed before that file is there does not count |
//! | `MUSTER_CRASH_FILE=FILE` | every point passed is appended there, once: how a test finds them |
//! | `MUSTER_CRASH_TWICE=1` | every step is taken twice in a row |
//!
//! Between a point and the death the thread that came by waits, while the others go on for a moment ([`LINGER`]). A
//! death at once would be kind: whatever was handed to a socket too early, before the commit that it speaks of, would
//! die unsent with its process, and the bug with it.
//!
//! Names are stable words, `agent.start.forked`. The coordinator's store has one place where all writes are made; what
//! such a write is about is noted by those who make it ([`doing`]), and stands at the end of the name
//! ([`point_of`]), so that every step has points of its own.

use std::fmt::Display;
#[cfg(debug_assertions)]
use std::time::Duration;

#[cfg(debug_assertions)]
mod armed;

/// How long all other threads go on.
#[cfg(debug_assertions)]
pub const LINGER: Duration = Duration::from_millis(30);

/// A point is passed.
#[inline]
pub fn point(name: impl Display) {
    #[cfg(debug_assertions)]
    armed::passed(&name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// A point is passed, of what this thread is [`doing`].
#[inline]
pub fn point_of(name: &str) {
    #[cfg(debug_assertions)]
    armed::passed_doing(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// This thread begins something new.
#[inline]
pub fn anew() {
    #[cfg(debug_assertions)]
    armed::anew();
}

/// What this thread is doing; with what was said before since [`anew`], each word once.
#[inline]
pub fn doing(word: impl Display) {
    #[cfg(debug_assertions)]
    armed::doing(&word);
    #[cfg(not(debug_assertions))]
    let _ = word;
}

/// Whether a step that has been taken is to be taken again, at once. The second time must succeed, or fail without
/// harm; whoever asks goes on with what came of the first.
#[inline]
pub fn twice() -> bool {
    #[cfg(debug_assertions)]
    return armed::twice();
    #[cfg(not(debug_assertions))]
    false
}

/// Whether anything of this is asked for.
#[inline]
pub fn armed() -> bool {
    #[cfg(debug_assertions)]
    return armed::armed();
    #[cfg(not(debug_assertions))]
    false
}
