//! Values as Triton's backend reads them.

/// What the text of a number comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// All of the text is the number.
    Whole(i64),
    /// The text begins with it; Triton reads no further.
    Begins(i64),
}

impl Number {
    pub(crate) fn value(self) -> i64 {
        match self {
            Number::Whole(value) | Number::Begins(value) => value,
        }
    }

    /// Reads an integer as C does: blanks, a sign, digits, and whatever follows.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text.trim_start();
        let signed = usize::from(text.starts_with(['-', '+']));
        let digits = text[signed..].find(|c: char| !c.is_ascii_digit());
        let end = digits.map_or(text.len(), |digits| signed + digits);
        let value = text[..end].parse().ok()?;
        Some(match text[end..].trim_end().is_empty() {
            true => Number::Whole(value),
            false => Number::Begins(value),
        })
    }
}

/// Reads a truth value in one of the ways that the backend knows.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.trim() {
        "True" | "true" | "TRUE" | "1" => Some(true),
        "False" | "false" | "FALSE" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_digits_end() {
        for (text, expected) in [
            ("32", Some(Number::Whole(32))),
            (" -1 ", Some(Number::Whole(-1))),
            ("+7", Some(Number::Whole(7))),
            ("32abc", Some(Number::Begins(32))),
            ("0.9", Some(Number::Begins(0))),
            ("abc", None),
            ("-", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Number::read(text), expected, "{text}");
        }
    }

    #[test]
    fn truth_has_four_words_each() {
        assert_eq!(truth("TRUE"), Some(true));
        assert_eq!(truth("0"), Some(false));
        assert_eq!(truth("yes"), None);
    }
}
