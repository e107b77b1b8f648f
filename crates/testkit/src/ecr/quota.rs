//! Quotas per second.

use std::{collections::BTreeMap, time::Instant};

use super::AwsAction;

/// One token bucket for each action: as many at once as a second allows, refilled evenly
/// (ECR User Guide, "Service quotas": throttling by rate).
#[derive(Debug, Default)]
pub(super) struct Quotas {
    limits: BTreeMap<AwsAction, u32>,
    /// What is left, and when that was so.
    buckets: BTreeMap<AwsAction, (f64, Instant)>,
}

impl Quotas {
    pub(super) fn new(limits: BTreeMap<AwsAction, u32>) -> Self {
        Self { limits, buckets: BTreeMap::new() }
    }

    /// Whether one more request is within its quota; if so, it counts.
    pub(super) fn take(&mut self, action: AwsAction, now: Instant) -> bool {
        let Some(limit) = self.limits.get(&action).map(|limit| f64::from(*limit)) else { return true };
        let (left, since) = self.buckets.entry(action).or_insert((limit, now));
        *left = (*left + now.duration_since(*since).as_secs_f64() * limit).min(limit);
        *since = now;
        let is_within = *left >= 1.0;
        *left -= if is_within { 1.0 } else { 0.0 };
        is_within
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_gives_so_many() {
        let mut quotas = Quotas::new(BTreeMap::from([(AwsAction::PutImage, 2)]));
        let start = Instant::now();
        for (milliseconds, expected) in [
            (0, true),
            (1, true),
            (2, false),
            (510, true),
            (511, false),
            (5000, true),
            (5000, true),
            (5000, false),
        ] {
            let now = start + Duration::from_millis(milliseconds);
            assert_eq!(quotas.take(AwsAction::PutImage, now), expected, "{milliseconds}");
            assert!(quotas.take(AwsAction::BatchGetImage, now));
        }
    }
}
