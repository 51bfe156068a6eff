//! Waiting on levels: until something is so, with a deadline and the last reason why it was not.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Between two looks. Short against everything that is waited for, long against what a look costs.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the answer is `Ok`, and returns it.
///
/// # Panics
/// When `deadline` has passed; the message says what was waited for and the last `Err`.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let reason = match look() {
            Ok(answer) => return answer,
            Err(reason) => reason,
        };
        assert!(began.elapsed() < deadline, "waited {deadline:?} for this: {what}. Last: {reason}");
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_returns_the_first_good_answer() {
        let mut looks = 0;
        let answer = eventually(Duration::from_secs(5), "the third look", || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
        });
        assert_eq!(answer, 3);
    }

    #[test]
    #[should_panic(expected = "for this: never. Last: still no")]
    fn it_says_the_last_reason() {
        eventually(Duration::from_millis(1), "never", || Err::<(), _>("still no".to_owned()));
    }
}
