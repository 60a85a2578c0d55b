//! When a failed delivery is tried again: the ten steps of Standard Webhooks, over about three days.

use std::time::Duration;

use countersign_chassis::ticker::jittered;

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

/// The pause after so many attempts, with jitter; `None` when there is no further attempt. A receiver's wish for a longer
/// pause is granted within bounds, one for a shorter is not.
#[must_use]
pub fn pause(attempts: u32, wished: Option<Duration>) -> Option<Duration> {
    let index = usize::try_from(attempts).ok()?.checked_sub(1)?;
    let planned = jittered(*PAUSES.get(index)?);
    Some(wished.map_or(planned, |wished| wished.min(RETRY_AFTER_MAX).max(planned)))
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
}
