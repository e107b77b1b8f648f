//! Pace: how fast requests to one registry may begin.
//!
//! Registries count requests in a second (ECR: 10 of some kinds), and a build with many layers asks
//! for as much at once. A 429 therefore makes all requests to that registry begin one after another, at
//! an interval that doubles with the next 429 and shrinks with each answer that is none.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// The interval after the first 429; ECR's lowest quotas are 10 a second.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(4);
/// A shorter interval is none.
const SHORTEST: Duration = Duration::from_millis(5);
/// The longest wait that a registry may ask for.
const AFTER_MAX: Duration = Duration::from_secs(60);

/// The pace of one registry.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    interval: Duration,
    /// When the next request may begin.
    next: Option<Instant>,
    /// When the interval was doubled last.
    slowed: Option<Instant>,
}

impl Pace {
    /// Waits until a request may begin; gives the time when it does.
    pub(super) async fn turn(&self) -> Instant {
        let now = Instant::now();
        let turn = self.state().turn(now);
        if turn > now {
            sleep_until(turn).await;
        }
        turn
    }

    /// A request that began at `began` was one too many; the registry may have said how long to wait.
    pub(super) fn slow_down(&self, began: Instant, after: Option<Duration>) {
        self.state().slow_down(Instant::now(), began, after);
    }

    /// A request was not one too many.
    pub(super) fn speed_up(&self) {
        self.state().speed_up();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn turn(&mut self, now: Instant) -> Instant {
        let turn = self.next.map_or(now, |next| next.max(now));
        self.next = Some(turn + self.interval);
        turn
    }

    fn slow_down(&mut self, now: Instant, began: Instant, after: Option<Duration>) {
        // Requests that began before the interval grew say nothing about the new one.
        if self.slowed.is_none_or(|slowed| began >= slowed) {
            self.interval = (self.interval * 2).clamp(FIRST, LONGEST);
            self.slowed = Some(now);
        }
        let rest = now + after.unwrap_or(self.interval).min(AFTER_MAX);
        self.next = Some(self.next.map_or(rest, |next| next.max(rest)));
    }

    fn speed_up(&mut self) {
        self.interval = self.interval * 9 / 10;
        if self.interval < SHORTEST {
            self.interval = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interval_grows_once_for_all_that_began_before() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut state = State::default();
        assert_eq!([state.turn(at(0)), state.turn(at(0))], [at(0), at(0)], "no limit was met yet");
        state.slow_down(at(10), at(0), None);
        state.slow_down(at(11), at(0), None);
        assert_eq!(state.interval, FIRST);
        assert_eq!([state.turn(at(12)), state.turn(at(12))], [at(111), at(211)]);
        state.slow_down(at(120), at(111), Some(Duration::from_secs(1)));
        assert_eq!(state.interval, FIRST * 2);
        assert_eq!([state.turn(at(130)), state.turn(at(130))], [at(1120), at(1320)]);
        for _ in 0..40 {
            state.speed_up();
        }
        assert_eq!(state.interval, Duration::ZERO);
    }

    #[test]
    fn waits_have_an_end() {
        let now = Instant::now();
        let mut state = State::default();
        for step in 0..20 {
            let later = now + Duration::from_secs(step);
            state.slow_down(later, later, Some(Duration::from_secs(86_400)));
        }
        assert_eq!(state.interval, LONGEST);
        assert_eq!(state.turn(now), now + Duration::from_secs(19) + AFTER_MAX);
    }
}
