//! Stop words, found in text as it grows.

use std::sync::Arc;

/// Looks for stop words in generated text that comes in pieces.
///
/// Text ends just after the first stop word, which stays in it; the first is the one that ends
/// first. Since the word stays, no text has to be held back while a word may still be coming.
pub(crate) struct StopWords {
    words: Arc<[String]>,
    /// Bytes of the longest word.
    longest: usize,
    /// The end of what came before, long enough for any word to begin in.
    before: String,
}

impl StopWords {
    /// Words to look for, none of them empty.
    pub(crate) fn new(words: Arc<[String]>) -> Self {
        let longest = words.iter().map(String::len).max().unwrap_or(0);
        Self { words, longest, before: String::new() }
    }

    /// Takes the next piece of text. If a word ends in it, cuts the piece there and says so.
    pub(crate) fn cut(&mut self, piece: &mut String) -> bool {
        if self.words.is_empty() {
            return false;
        }
        let known = self.before.len();
        self.before.push_str(piece);
        // A word that ended earlier would have been found earlier, so any match ends in the piece.
        let end =
            self.words.iter().filter_map(|word| Some(self.before.find(word)? + word.len())).min();
        if let Some(end) = end {
            piece.truncate(end - known);
            return true;
        }
        let mut keep = self.before.len().saturating_sub(self.longest - 1);
        while !self.before.is_char_boundary(keep) {
            keep -= 1;
        }
        self.before.drain(..keep);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All text up to the stop, and whether it stopped.
    fn run(words: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut stop = StopWords::new(words.iter().map(|&word| word.to_owned()).collect());
        let mut text = String::new();
        for &piece in pieces {
            let mut piece = piece.to_owned();
            let stopped = stop.cut(&mut piece);
            text += &piece;
            if stopped {
                return (text, true);
            }
        }
        (text, false)
    }

    #[test]
    fn text_ends_just_after_the_first_word() {
        assert_eq!(run(&["stop"], &["go, stop, go, stop"]), ("go, stop".to_owned(), true));
        assert_eq!(run(&["never"], &["go, ", "go"]), ("go, go".to_owned(), false));
    }

    #[test]
    fn a_word_may_be_spread_over_pieces() {
        assert_eq!(
            run(&["\n\nHuman:"], &["Hi\n", "\n", "Hu", "man", ": x"]),
            ("Hi\n\nHuman:".to_owned(), true)
        );
        assert_eq!(run(&["aab"], &["a", "a", "a", "b", "c"]), ("aaab".to_owned(), true));
        assert_eq!(run(&["ü€"], &["xü", "€y"]), ("xü€".to_owned(), true));
    }

    #[test]
    fn every_way_to_cut_the_text_gives_the_same() {
        let text = "abcbcdéabcd";
        for words in [&["bcd"][..], &["dé", "éab"], &["cd", "bcdé"], &["zz", "éabcd"]] {
            let whole = run(words, &[text]);
            for cut in (0..text.len()).filter(|&at| text.is_char_boundary(at)) {
                let (one, two) = text.split_at(cut);
                assert_eq!(run(words, &[one, "", two]), whole, "{words:?} at {cut}");
            }
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(run(words, &letters), whole, "{words:?}");
        }
    }

    #[test]
    fn the_word_that_ends_first_wins() {
        assert_eq!(run(&["bcde", "cd"], &["abcdef"]), ("abcd".to_owned(), true));
    }

    #[test]
    fn only_the_end_of_the_text_is_kept() {
        let mut stop = StopWords::new(Arc::from(["0123456789".to_owned()]));
        for _ in 0..1000 {
            assert!(!stop.cut(&mut "€uro".to_owned()));
        }
        assert!(stop.before.len() < 16, "{}", stop.before.len());
    }
}
