//! What is printed when something has failed.

use std::error::Error;

/// The error with its causes, those left out that it names itself.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{says}")]
    struct Outer {
        says: &'static str,
        source: io::Error,
    }

    fn told(says: &'static str) -> String {
        with_causes(&Outer { says, source: io::Error::other("disk full") })
    }

    #[test]
    fn causes_are_told_once() {
        assert_eq!(told("cannot write x: disk full"), "cannot write x: disk full");
        assert_eq!(told("cannot write x"), "cannot write x: disk full");
    }
}
