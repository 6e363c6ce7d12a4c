//! Times for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The time since a moment; none, if that is still to come.
pub(crate) fn since(unix_s: u64) -> String {
    span(now_unix_s().saturating_sub(unix_s))
}

/// `12 s`, `3 min`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn span(seconds: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let parts = |whole: u64, unit: &str, rest: u64, lesser: &str| match rest {
        0 => format!("{whole} {unit}"),
        _ => format!("{whole} {unit} {rest} {lesser}"),
    };
    match seconds {
        ..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => parts(seconds / HOUR, "h", seconds % HOUR / MINUTE, "min"),
        DAY.. => parts(seconds / DAY, "d", seconds % DAY / HOUR, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (7530, "2 h 5 min"),
            (86_400, "1 d"),
            (273_000, "3 d 3 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
