//! Names of runs: when, and four random digits.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::ShmPrefix;

/// What tells one run of a deployment from the others.
///
/// Displays as `yyyymmdd-hhmmss-xxxx` (UTC, then four random hexadecimal digits), which sorts by
/// time and serves as a file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId {
    /// Seconds since 1970, UTC.
    seconds: u64,
    salt: u16,
}

impl RunId {
    /// The id of a run that begins now.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The standard library's hashers are seeded by the system's random numbers.
        let random = std::hash::RandomState::new().build_hasher().finish();
        Self { seconds: since.as_secs(), salt: (random & 0xffff) as u16 }
    }

    /// The id in 12 hexadecimal digits (until the year 2106), for names of a limited length.
    #[must_use]
    pub fn compact(&self) -> String {
        format!("{:08x}{:04x}", self.seconds, self.salt)
    }

    /// The prefix of shared-memory names that this run of the user `uid` has to itself.
    #[must_use]
    pub fn shm_prefix(&self, uid: u32) -> ShmPrefix {
        ShmPrefix::parse(&format!("shardrun_{uid}_{}_", self.compact()))
            .expect("9 letters, 10 digits, 16 digits at most, and 3 _ are allowed and under 64")
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_date(self.seconds / 86_400);
        let second = self.seconds % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}-{:04x}", self.salt)
    }
}

/// Year, month and day of a count of days since 1970-01-01, Gregorian: `civil_from_days` of
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", for days from 1970 on.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let leap_days = day_of_era / 1460;
    let year_of_era = (day_of_era - leap_days + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ids_show_utc() {
        for (seconds, text) in [
            (0, "19700101-000000-00ff"),
            (951_782_399, "20000228-235959-00ff"),
            (951_782_400, "20000229-000000-00ff"),
            (1_709_251_199, "20240229-235959-00ff"),
            (1_735_689_600, "20250101-000000-00ff"),
            (4_107_542_400, "21000301-000000-00ff"),
        ] {
            assert_eq!(RunId { seconds, salt: 0xff }.to_string(), text);
        }
    }

    #[test]
    fn ids_are_short_and_differ() {
        let id = RunId::now();
        assert_eq!((id.to_string().len(), id.compact().len()), (20, 12));
        let salts: std::collections::HashSet<_> = (0..64).map(|_| RunId::now().salt).collect();
        assert!(salts.len() > 32, "{salts:?}");
    }

    #[test]
    fn the_longest_prefix_fits() {
        let id = RunId { seconds: u64::MAX, salt: u16::MAX };
        assert_eq!(id.shm_prefix(u32::MAX).as_str(), "shardrun_4294967295_ffffffffffffffffffff_");
        let id = RunId { seconds: 0x6921_b2c8, salt: 0xa3f9 };
        assert_eq!(id.shm_prefix(1000).of_rank(2), "shardrun_1000_6921b2c8a3f9_2_");
    }
}
