//! Patience with a coordinator that is gone for a while: the wait doubles, and the whole has an end.

use std::time::Duration;

use tokio::time::Instant;

use super::error::CliError;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// How long a lost coordinator is waited for. A restart takes seconds; an upgrade of its host some minutes.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Tries to deliver a request whose answer was lost.
const TRIES: u32 = 8;

/// Sends a request that has an id until it is answered: the same id again is the same request. A refusal is an answer.
pub async fn deliver<T, A>(patience: Duration, mut send: impl FnMut() -> A) -> Result<T, CliError>
where
    A: Future<Output = Result<T, CliError>>,
{
    let (mut retry, mut tries) = (Retry::new(patience), TRIES);
    loop {
        match send().await {
            Err(error) if error.passes() && tries > 1 => {
                retry.again().await?;
                tries -= 1;
            }
            answer => return answer,
        }
    }
}

/// How often something was tried in vain, and since when.
#[derive(Debug)]
pub struct Retry {
    patience: Duration,
    since: Option<Instant>,
    wait: Option<Duration>,
}

impl Retry {
    /// Nothing was tried yet.
    pub fn new(patience: Duration) -> Self {
        Self { patience, since: None, wait: None }
    }

    /// It worked: the next failure is a first one again.
    pub fn worked(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Whether nothing has failed since it last worked.
    pub fn is_fresh(&self) -> bool {
        self.since.is_none()
    }

    /// Waits before the next try; an error when patience is at its end.
    pub async fn again(&mut self) -> Result<(), CliError> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let wait = self.wait.map_or(FIRST, |wait| (wait * 2).min(LONGEST));
        self.wait = Some(wait);
        if since.elapsed() + wait > self.patience {
            return Err(CliError::Gone { patience: self.patience });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
