//! When a mailing list may send next.
//!
//! Pure: whoever asks brings the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// A part of every day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first minute, from midnight.
    pub start_minute: u32,
    /// The minute after its last; before the first is of the next day.
    pub end_minute: u32,
    /// What its clock is ahead of UTC, in minutes.
    pub utc_offset_minutes: i32,
}

impl Window {
    /// How long it is until it is open; zero if it is.
    pub fn opens_in(&self, now: SystemTime) -> Duration {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let offset = i64::from(self.utc_offset_minutes) * MINUTE as i64;
        let local = (since.as_secs() as i64 + offset).rem_euclid(DAY as i64) as u64;
        let start = u64::from(self.start_minute) * MINUTE;
        let end = u64::from(self.end_minute) * MINUTE;
        let is_open = if start < end {
            (start..end).contains(&local)
        } else {
            local >= start || local < end
        };
        if is_open {
            return Duration::ZERO;
        }
        let seconds = (start + DAY - local) % DAY;
        Duration::from_secs(seconds)
            .saturating_sub(Duration::from_nanos(since.subsec_nanos().into()))
    }
}

/// The pause between two messages of a list that sends so many in a minute; none for 0.
pub fn interval(messages_per_minute: u32) -> Duration {
    match messages_per_minute {
        0 => Duration::ZERO,
        some => Duration::from_secs(MINUTE) / some,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: u64, minute: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(40 * DAY + hour * 3_600 + minute * MINUTE)
    }

    #[test]
    fn a_window_opens_every_day() {
        let day = Window {
            start_minute: 9 * 60,
            end_minute: 17 * 60,
            utc_offset_minutes: 0,
        };
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        assert_eq!(day.opens_in(at(8, 0)), hours(1));
        assert_eq!(day.opens_in(at(9, 0)), Duration::ZERO);
        assert_eq!(day.opens_in(at(16, 59)), Duration::ZERO);
        assert_eq!(day.opens_in(at(17, 0)), hours(16));
        let half = at(8, 59) + Duration::from_millis(59_500);
        assert_eq!(day.opens_in(half), Duration::from_millis(500));

        let night = Window {
            start_minute: 22 * 60,
            end_minute: 6 * 60,
            ..day
        };
        assert_eq!(night.opens_in(at(23, 0)), Duration::ZERO);
        assert_eq!(night.opens_in(at(5, 59)), Duration::ZERO);
        assert_eq!(night.opens_in(at(6, 0)), hours(16));

        // Nine in the morning there is noon in Greenwich.
        let west = Window {
            utc_offset_minutes: -3 * 60,
            ..day
        };
        assert_eq!(west.opens_in(at(11, 0)), hours(1));
        assert_eq!(west.opens_in(at(12, 0)), Duration::ZERO);
        assert_eq!(west.opens_in(at(1, 0)), hours(11));
        let whole = Window {
            start_minute: 0,
            end_minute: 1_440,
            ..west
        };
        assert_eq!(whole.opens_in(at(3, 1)), Duration::ZERO);
    }

    #[test]
    fn a_rate_is_a_pause() {
        assert_eq!(interval(0), Duration::ZERO);
        assert_eq!(interval(20), Duration::from_secs(3));
    }
}
