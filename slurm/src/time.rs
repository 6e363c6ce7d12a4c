//! Slurm's durations, `2-12:30:00`, and its points in time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use time::PrimitiveDateTime;
use time::macros::format_description;

use crate::SlurmError;

const ALLOWED: &str =
    "MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS or UNLIMITED, up to 100 years";
const MAX_SECONDS: u64 = 100 * 366 * 86_400;

/// How long a job may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimeLimit {
    /// So long; Slurm rounds up to minutes.
    Limited(Duration),
    /// As long as it likes.
    Unlimited,
}

impl TimeLimit {
    /// The limit, if there is one.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::Limited(duration) => Some(duration),
            Self::Unlimited => None,
        }
    }
}

impl FromStr for TimeLimit {
    type Err = SlurmError;

    /// Reads every form that `sbatch --time` takes and that Slurm writes. A single number is minutes.
    fn from_str(text: &str) -> Result<Self, SlurmError> {
        if ["UNLIMITED", "INFINITE", "-1"].iter().any(|word| word.eq_ignore_ascii_case(text)) {
            return Ok(Self::Unlimited);
        }
        let seconds = seconds(text).filter(|&seconds| seconds <= MAX_SECONDS);
        seconds.map(|seconds| Self::Limited(Duration::from_secs(seconds))).ok_or_else(|| {
            SlurmError::BadValue { field: "time".into(), value: text.into(), allowed: ALLOWED }
        })
    }
}

fn seconds(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(number(days)?), clock),
        None => (None, text),
    };
    let parts: Vec<u64> = clock.split(':').map(number).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = match (days.is_some(), parts[..].as_ref()) {
        (true, &[h]) => [h, 0, 0],
        (true, &[h, m]) => [h, m, 0],
        (false, &[m]) => [0, m, 0],
        (false, &[m, s]) => [0, m, s],
        (_, &[h, m, s]) => [h, m, s],
        _ => return None,
    };
    // No overflow: each has at most nine digits.
    Some(days.unwrap_or(0) * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

fn number(digits: &str) -> Option<u64> {
    let plain = (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Limited(duration) = self else { return f.pad("UNLIMITED") };
        // What is less than a second is rounded up: a limit of 0 would mean none.
        let all = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
        let (days, hours, minutes, seconds) =
            (all / 86_400, all / 3600 % 24, all / 60 % 60, all % 60);
        let clock = format!("{hours:02}:{minutes:02}:{seconds:02}");
        match days {
            0 => f.pad(&clock),
            _ => f.pad(&format!("{days}-{clock}")),
        }
    }
}

impl Serialize for TimeLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Seconds since 1970 that Slurm's programs wrote, as told to by [`ENVIRONMENT`]; `None` where they
/// wrote that nobody knows. A program that took no notice wrote UTC.
pub(crate) fn unix_seconds(text: &str) -> Option<u64> {
    let iso = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    match text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse().ok().filter(|&seconds| seconds > 0),
        false => {
            let moment = PrimitiveDateTime::parse(text, &iso).ok()?;
            u64::try_from(moment.assume_utc().unix_timestamp()).ok()
        }
    }
}

/// What makes Slurm's programs write times that mean the same everywhere.
pub(crate) const ENVIRONMENT: [(&str, &str); 2] = [("SLURM_TIME_FORMAT", "%s"), ("TZ", "UTC")];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> u64 {
        text.parse::<TimeLimit>().unwrap().duration().unwrap().as_secs()
    }

    #[test]
    fn all_of_slurms_forms_are_read() {
        assert_eq!(read("90"), 90 * 60);
        assert_eq!(read("5:30"), 330);
        assert_eq!(read("02:00:01"), 7201);
        assert_eq!(read("1-6"), 30 * 3600);
        assert_eq!(read("1-6:30"), 30 * 3600 + 1800);
        assert_eq!(read("2-00:00:09"), 172_809);
        for text in ["UNLIMITED", "infinite", "INFINITE", "-1"] {
            assert_eq!(text.parse::<TimeLimit>().unwrap(), TimeLimit::Unlimited);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_forms() {
        for text in ["", "x", "1-", "1:2:3:4", "1-2-3", "1.5", " 5", "+5", "1-1:1:1:1", "99999-0"] {
            let error = text.parse::<TimeLimit>().unwrap_err().to_string();
            assert!(error.starts_with("time is") && error.contains("D-HH:MM"), "{error}");
        }
        assert!("1234567890".parse::<TimeLimit>().is_err());
    }

    #[test]
    fn they_are_written_as_slurm_writes_them() {
        let written = |seconds| TimeLimit::Limited(Duration::from_secs(seconds)).to_string();
        assert_eq!(written(59), "00:00:59");
        assert_eq!(written(86_399), "23:59:59");
        assert_eq!(written(86_400), "1-00:00:00");
        assert_eq!(TimeLimit::Unlimited.to_string(), "UNLIMITED");
        assert_eq!(TimeLimit::Limited(Duration::from_millis(1)).to_string(), "00:00:01");
    }

    #[test]
    fn points_in_time_are_read_in_both_forms() {
        assert_eq!(unix_seconds("1795374677"), Some(1_795_374_677));
        assert_eq!(unix_seconds("2026-11-22T19:11:17"), Some(1_795_374_677));
        for nothing in ["Unknown", "N/A", "None", "0", "", "(null)", "2026-11-22"] {
            assert_eq!(unix_seconds(nothing), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn written_and_read_they_are_the_same(seconds in 0..MAX_SECONDS) {
            let limit = TimeLimit::Limited(Duration::from_secs(seconds));
            prop_assert_eq!(limit.to_string().parse::<TimeLimit>().unwrap(), limit);
        }
    }
}
