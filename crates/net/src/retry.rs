//! When to try again: a schedule without a clock, and the loop that keeps to it.

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use reqwest::StatusCode;

/// What a failure means for whoever could try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The same request fails the same way.
    Final,
    /// It may go well the next time.
    Again {
        /// What the server asked for in `Retry-After`.
        after: Option<Duration>,
    },
}

impl Verdict {
    /// What an answer with `status` means: 408, 429 and 5xx are worth another attempt but for 501
    /// and 505, which say that the server will never do it (RFC 9110, section 15).
    pub fn of_status(status: StatusCode, after: Option<Duration>) -> Self {
        match status.as_u16() {
            501 | 505 => Self::Final,
            408 | 429 | 500..=599 => Self::Again { after },
            _ => Self::Final,
        }
    }
}

/// An error that knows whether trying again is worth it.
pub trait Retry {
    /// What the failure means.
    fn verdict(&self) -> Verdict;
}

/// How often and how fast to try again: exponential, jittered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// The longest wait before the second attempt; doubled before each further one.
    pub first: Duration,
    /// The longest wait of all, also where a server asks for more.
    pub longest: Duration,
}

impl Default for Backoff {
    /// Six attempts within about eight seconds, or as long as a server asks for, up to a minute each.
    fn default() -> Self {
        Self { attempts: 6, first: Duration::from_millis(250), longest: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// How long to wait after the `failures`th failure, or `None` to give up. `jitter` in `0.0..1.0`
    /// spreads the wait over its upper half, so that clients that failed together come back apart.
    pub fn delay(&self, failures: u32, verdict: Verdict, jitter: f64) -> Option<Duration> {
        let Verdict::Again { after } = verdict else { return None };
        if failures == 0 || failures >= self.attempts {
            return None;
        }
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failures - 1));
        let jittered = doubled.min(self.longest).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        Some(after.map_or(jittered, |after| after.max(jittered)).min(self.longest))
    }

    /// The same with a jitter of its own.
    pub fn jittered_delay(&self, failures: u32, verdict: Verdict) -> Option<Duration> {
        // The standard library's hasher keys are the random numbers at hand without another crate.
        let random = RandomState::new().hash_one(failures);
        let jitter = f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
        self.delay(failures, verdict, jitter)
    }
}

/// Failures in a row, and how long to wait after each.
#[derive(Clone, Copy, Debug)]
pub struct Failures {
    backoff: Backoff,
    count: u32,
}

impl Failures {
    /// None so far.
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, count: 0 }
    }

    /// Something went well: what fails next is the first again.
    pub fn forget(&mut self) {
        self.count = 0;
    }

    /// Waits until `error`'s work may be tried again; gives it back if that is not worth it.
    pub async fn wait<E: Retry>(&mut self, error: E) -> Result<(), E> {
        self.count += 1;
        match self.backoff.jittered_delay(self.count, error.verdict()) {
            Some(delay) => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
            None => Err(error),
        }
    }
}

/// Does `operation` until it goes well, fails for good, or `backoff` gives up; waits in between.
/// Returns the last failure. May be dropped at any time.
pub async fn retry<T, E: Retry, F: Future<Output = Result<T, E>>>(
    backoff: Backoff,
    mut operation: impl FnMut() -> F,
) -> Result<T, E> {
    let mut failures = Failures::new(backoff);
    loop {
        match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => failures.wait(error).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { attempts: 5, first: Duration::from_millis(100), longest: Duration::from_millis(600) };

    #[test]
    fn delays_double_up_to_the_longest() {
        let again = Verdict::Again { after: None };
        for (failures, jitter, expected) in [
            (1, 1.0, Some(100)),
            (1, 0.0, Some(50)),
            (2, 1.0, Some(200)),
            (3, 0.5, Some(300)),
            (4, 1.0, Some(600)),
            (5, 1.0, None),
            (0, 1.0, None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(BACKOFF.delay(failures, again, jitter), expected, "{failures} {jitter}");
        }
    }

    #[test]
    fn a_server_may_ask_for_more_but_not_for_too_much() {
        for (after, expected) in [(10, 100), (300, 300), (86_400_000, 600)] {
            let again = Verdict::Again { after: Some(Duration::from_millis(after)) };
            assert_eq!(BACKOFF.delay(1, again, 1.0), Some(Duration::from_millis(expected)), "{after}");
        }
        assert_eq!(BACKOFF.delay(1, Verdict::Final, 1.0), None);
    }

    #[test]
    fn classes_of_statuses() {
        for (status, expected) in [
            (400, Verdict::Final),
            (401, Verdict::Final),
            (404, Verdict::Final),
            (408, Verdict::Again { after: None }),
            (429, Verdict::Again { after: None }),
            (500, Verdict::Again { after: None }),
            (501, Verdict::Final),
            (503, Verdict::Again { after: None }),
        ] {
            assert_eq!(Verdict::of_status(StatusCode::from_u16(status).unwrap(), None), expected, "{status}");
        }
    }
}
