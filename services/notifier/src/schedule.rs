//! When a failed delivery is tried again: the ten steps of Standard Webhooks, over about three days.

use std::time::Duration;

use countersign_chassis::ticker::jittered;

use crate::store::BREAKER;

/// Pause before each attempt after the first.
pub const PAUSES: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];
/// The longest pause that a receiver may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// How long an endpoint that has too much to do is left alone without saying for how long.
const THROTTLE_MAX: Duration = Duration::from_secs(60);
/// The longest rest of an endpoint that fails.
const BREAKER_REST_MAX: Duration = Duration::from_secs(3600);

/// The pause after so many attempts, with jitter; `None` when there is no further attempt. A receiver's wish for a longer
/// pause is granted within bounds, one for a shorter is not.
#[must_use]
pub fn pause(attempts: u32, wished: Option<Duration>) -> Option<Duration> {
    let index = usize::try_from(attempts).ok()?.checked_sub(1)?;
    let planned = jittered(*PAUSES.get(index)?);
    Some(wished.map_or(planned, |wished| wished.min(RETRY_AFTER_MAX).max(planned)))
}

/// How long the whole endpoint is left alone after an answer that says that it has too much to do.
#[must_use]
pub fn throttle(status: u16, wished: Option<Duration>, pause: Option<Duration>) -> Option<Duration> {
    if !matches!(status, 429 | 503) {
        return None;
    }
    let planned = pause.map_or(THROTTLE_MAX, |pause| pause.min(THROTTLE_MAX));
    Some(wished.map_or(planned, |wished| wished.min(RETRY_AFTER_MAX).max(planned)))
}

/// How long an endpoint is left alone after so many failures in a row: by the schedule's steps, but not for longer than an
/// hour, so that one that has recovered is soon noticed.
#[must_use]
pub fn breaker(failures: i32) -> Option<Duration> {
    let step = usize::try_from(failures - BREAKER).ok()?;
    let planned = PAUSES.get(step).copied().unwrap_or(BREAKER_REST_MAX);
    Some(jittered(planned.min(BREAKER_REST_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t29_ten_attempts_over_about_three_days() {
        let total: Duration = PAUSES.iter().sum();
        assert_eq!(total, Duration::from_secs(75 * 3600 + 35 * 60 + 5));
        for attempts in 1..=9 {
            let planned = PAUSES[attempts as usize - 1];
            for _ in 0..100 {
                let pause = pause(attempts, None).unwrap();
                assert!(pause >= planned.mul_f64(0.8) && pause <= planned.mul_f64(1.2));
            }
        }
        assert_eq!((pause(0, None), pause(10, None), pause(11, None)), (None, None, None));
    }

    #[test]
    fn t35_a_receivers_wish_is_granted_within_bounds() {
        assert_eq!(pause(1, Some(Duration::from_secs(60))), Some(Duration::from_secs(60)));
        assert!(pause(2, Some(Duration::from_secs(1))).unwrap() >= Duration::from_secs(240));
        assert_eq!(pause(1, Some(Duration::from_secs(999_999))), Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn t35_who_has_too_much_to_do_is_left_alone_as_a_whole() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(throttle(503, None, seconds(5)), seconds(5));
        assert_eq!(throttle(429, None, seconds(7_200)), seconds(60));
        assert_eq!(throttle(429, seconds(600), seconds(5)), seconds(600));
        assert_eq!(throttle(503, seconds(1), None), seconds(60));
        assert_eq!(throttle(503, seconds(999_999), seconds(5)), Some(RETRY_AFTER_MAX));
        assert_eq!(throttle(500, seconds(600), seconds(5)), None);
    }

    #[test]
    fn t30_who_fails_ten_times_is_probed_by_the_schedules_steps_and_at_least_every_hour_or_so() {
        assert_eq!(breaker(9), None);
        assert!(breaker(10).unwrap() <= Duration::from_secs(6));
        assert!(breaker(11).unwrap() >= Duration::from_secs(240));
        for failures in 13..40 {
            assert!((2_880..=4_320).contains(&breaker(failures).unwrap().as_secs()), "{failures}");
        }
    }
}
