//! Names of runs: when, and four random digits.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::str::FromStr;
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

/// A text that is no run's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run's id has the form yyyymmdd-hhmmss-xxxx")]
pub struct RunIdError;

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, RunIdError> {
        let digits = |part: &str, len: usize| {
            let fits = part.len() == len && part.bytes().all(|b| b.is_ascii_digit());
            if fits { part.parse::<u64>().ok() } else { None }
        };
        let read = || {
            let mut parts = text.splitn(3, '-');
            let (date, time, salt) = (parts.next()?, parts.next()?, parts.next()?);
            let (date, time) = (digits(date, 8)?, digits(time, 6)?);
            let salt = u16::from_str_radix(salt, 16).ok().filter(|_| salt.len() == 4)?;
            let days = days_since_1970(date / 10_000, date / 100 % 100, date % 100)?;
            let seconds = time / 10_000 * 3600 + time / 100 % 100 * 60 + time % 100;
            Some(Self { seconds: days * 86_400 + seconds, salt })
        };
        // Dates that the calendar doesn't have read as others, and so don't read back to themselves.
        read().filter(|id| id.to_string() == text).ok_or(RunIdError)
    }
}

/// The inverse of [`civil_date`], from the same source: `days_from_civil`. `None` before 1970.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
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
            let id = RunId { seconds, salt: 0xff };
            assert_eq!((id.to_string(), text.parse()), (text.to_owned(), Ok(id)));
        }
    }

    #[test]
    fn texts_that_are_no_ids_are_refused() {
        for text in [
            "",
            "20250101-000000",
            "20250101-000000-00F",
            "20250101-000000-00FF",
            "20250230-000000-00ff",
            "20250101-246060-00ff",
            "2025010１-000000-00ff",
            "00000000-000000-0000",
            "99999999-999999-ffff",
        ] {
            assert_eq!(text.parse::<RunId>(), Err(RunIdError), "{text}");
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
