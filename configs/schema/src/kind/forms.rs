//! Texts that must have a certain form.

use super::{Refusal, Value};

/// Characters of a text of one line.
pub(super) const LONGEST_TEXT: usize = 4096;

/// Whether `text` is one line that fits into a directive or an argument.
pub(super) fn is_line(text: &str) -> bool {
    text.len() <= LONGEST_TEXT && !text.chars().any(|c| c.is_control() && c != '\t')
}

/// Lines as a value; at least one and at most `most`.
pub(super) fn texts(lines: &[&str], most: usize) -> Result<Value, Refusal> {
    let refused = |why: String| Err(Refusal::NotAllowed(Some(why)));
    if !(1..=most).contains(&lines.len()) {
        return refused(format!("these are {}", lines.len()));
    }
    if let Some(place) = lines.iter().position(|line| !is_line(line)) {
        return refused(format!("number {} is longer or not of one line", place + 1));
    }
    Ok(Value::Texts(lines.iter().map(|&line| line.to_owned()).collect()))
}

/// Whether `text` is a time limit as sbatch takes it: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`,
/// `UNLIMITED` or `INFINITE`.
pub(super) fn is_slurm_time(text: &str) -> bool {
    if matches!(text, "UNLIMITED" | "INFINITE") {
        return true;
    }
    let number = |part: &str| {
        (1..=9).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit())
    };
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(days), clock),
        None => (None, text),
    };
    let parts: Vec<_> = clock.split(':').collect();
    days.is_none_or(number) && parts.len() <= 3 && parts.into_iter().all(number)
}

/// Whether `text` is sets of ids, as in `0,1;2,3`.
pub(super) fn is_id_sets(text: &str) -> bool {
    id_sets(text).is_some()
}

/// The ids of each set.
pub(crate) fn id_sets(text: &str) -> Option<Vec<Vec<u32>>> {
    let set = |set: &str| set.split(',').map(|id| id.trim().parse().ok()).collect();
    text.split(';').map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_sbatch() {
        for good in ["30", "30:00", "4:00:00", "1-0", "1-00:30", "2-00:00:00", "UNLIMITED"] {
            assert!(is_slurm_time(good), "{good}");
        }
        for bad in ["", "1h", "1:2:3:4", "-1", "1-", ":30", "30:", "1--2", "１"] {
            assert!(!is_slurm_time(bad), "{bad}");
        }
    }

    #[test]
    fn id_sets_are_parted_by_semicolons() {
        assert_eq!(id_sets("0,1;2,3"), Some(vec![vec![0, 1], vec![2, 3]]));
        assert_eq!(id_sets("7"), Some(vec![vec![7]]));
        for bad in ["", ";", "0,", "0;;1", "a", "-1"] {
            assert_eq!(id_sets(bad), None, "{bad}");
        }
    }

    #[test]
    fn texts_are_counted_and_of_one_line() {
        assert_eq!(texts(&["a", "b"], 2), Ok(Value::Texts(vec!["a".into(), "b".into()])));
        let why = |why: &str| Err(Refusal::NotAllowed(Some(why.to_owned())));
        assert_eq!(texts(&[], 2), why("these are 0"));
        assert_eq!(texts(&["a"; 3], 2), why("these are 3"));
        assert_eq!(texts(&["a", "b\nc"], 2), why("number 2 is longer or not of one line"));
    }
}
