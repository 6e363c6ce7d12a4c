//! Amounts of memory as Slurm writes them.

use serde::Serialize;

/// What memory a job asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Memory {
    /// Bytes on every node.
    PerNode(u64),
    /// Bytes for every CPU.
    PerCpu(u64),
    /// Bytes for the whole job, as the accounting sums it up.
    PerJob(u64),
}

/// Bytes of `500M`, `4G`, `321988K`, `1.5G` or, as megabytes, `500`. Slurm's units are powers of 1024.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.find(|c: char| c != '.' && !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "M"),
    };
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        _ => return None,
    };
    match digits.parse::<u64>() {
        Ok(whole) => whole.checked_mul(1 << shift),
        Err(_) => {
            let value = digits.parse::<f64>().ok()? * (1_u64 << shift) as f64;
            (value < u64::MAX as f64).then_some(value as u64)
        }
    }
}

/// Bytes of an amount as `--mem` takes it, `500M`, `4G` or, as megabytes, `500`, in which 0 means that nothing
/// was asked for.
#[must_use]
pub fn parse_request(text: &str) -> Option<u64> {
    parse_bytes(text).filter(|&bytes| bytes > 0)
}

/// `314 MiB`, `1.5 GiB`: for people.
#[must_use]
pub fn human(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in units {
        if bytes >= 1 << shift {
            let value = bytes as f64 / (1_u64 << shift) as f64;
            let digits = usize::from(value < 10.0 && value.fract() >= 0.05);
            return format!("{value:.digits$} {unit}");
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!(parse_bytes("500M"), Some(500 << 20));
        assert_eq!(parse_bytes("500"), Some(500 << 20));
        assert_eq!(parse_bytes("321988K"), Some(321_988 << 10));
        assert_eq!(parse_bytes("1.50G"), Some(3 << 29));
        assert_eq!(parse_request("0"), None);
        for text in ["", "M", "5X", "-5M", "99999999999999999999G", "9999999999999P", "1.1.1G"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn people_read_three_digits() {
        assert_eq!(human(31_457_280), "30 MiB");
        assert_eq!(human(329_715_712), "314 MiB");
        assert_eq!(human(3 << 29), "1.5 GiB");
        assert_eq!(human(4 << 30), "4 GiB");
        assert_eq!(human(12), "12 bytes");
    }
}
