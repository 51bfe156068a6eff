//! Those who have not proved anything yet: so many, and no more. Who comes when it is full takes the place of the
//! oldest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// A crowd with a limit.
#[derive(Debug, Clone)]
pub struct Crowd {
    most: usize,
    members: Arc<Mutex<Members>>,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// A place in it, until it is dropped.
#[derive(Debug)]
pub struct Place {
    crowd: Crowd,
    nth: u64,
}

impl Crowd {
    /// For so many at once, at least one.
    pub fn of(most: usize) -> Self {
        Self { most: most.max(1), members: Arc::default() }
    }

    /// Takes a place; when there is none, the oldest is sent away through its token.
    pub fn enter(&self, kick: CancellationToken) -> Place {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        while members.by_age.len() >= self.most
            && let Some((_, oldest)) = members.by_age.pop_first()
        {
            oldest.cancel();
        }
        let nth = members.next;
        members.next += 1;
        members.by_age.insert(nth, kick);
        Place { crowd: self.clone(), nth }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.members.lock().unwrap_or_else(PoisonError::into_inner).by_age.remove(&self.nth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_who_has_left_takes_no_place() {
        let crowd = Crowd::of(2);
        let kicks: Vec<_> = (0..4).map(|_| CancellationToken::new()).collect();
        let gone = || kicks.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>();
        let _first = crowd.enter(kicks[0].clone());
        let second = crowd.enter(kicks[1].clone());
        assert_eq!(gone(), [false; 4]);
        let _third = crowd.enter(kicks[2].clone());
        assert_eq!(gone(), [true, false, false, false]);
        drop(second);
        let _fourth = crowd.enter(kicks[3].clone());
        assert_eq!(gone(), [true, false, false, false]);
    }
}
