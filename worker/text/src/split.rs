//! Cutting a text into words, within which BPE merges.

use std::borrow::Cow;

use regex::Regex;
use tokenizers::NormalizedString;

/// GPT-2's pattern (Radford et al., 2019) less its `\s+(?!\S)`, which [`Splitter::words`] stands in
/// for: with no look-ahead the expression runs in linear time and constant stack.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";

/// The pattern of Qwen2 and Qwen2.5 in their tokenizer.json, less the same.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";

/// Cuts texts as the model's training did.
#[derive(Debug)]
pub(crate) struct Splitter {
    words: Regex,
    digits_apart: bool,
    /// White space at the end of a match that may belong to the word after it.
    spare: fn(char) -> bool,
    composed: bool,
}

impl Splitter {
    /// The values of `tokenizer.ggml.pre` that [`Self::named`] knows.
    pub(crate) const SUPPORTED: &str = "gpt-2, qwen2, smollm";

    /// What `tokenizer.ggml.pre` calls `name`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let pattern = |words| Regex::new(words).expect("a valid expression");
        let gpt2 = |digits_apart| Self {
            words: pattern(GPT2),
            digits_apart,
            spare: char::is_whitespace,
            composed: false,
        };
        Some(match name {
            "gpt-2" => gpt2(false),
            "smollm" => gpt2(true),
            "qwen2" => Self {
                words: pattern(QWEN2),
                digits_apart: false,
                spare: |letter| letter.is_whitespace() && !matches!(letter, '\r' | '\n'),
                composed: true,
            },
            _ => return None,
        })
    }

    /// The text that is cut: in some models with letters and their marks composed (Unicode's form C).
    pub(crate) fn normalised<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.composed || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let mut normalised = NormalizedString::from(text);
        normalised.nfc();
        Cow::Owned(normalised.get().to_owned())
    }

    /// Calls `piece` with each word, in order; together they are the text.
    pub(crate) fn split<'t, E>(
        &self,
        text: &'t str,
        mut piece: impl FnMut(&'t str) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.digits_apart {
            return self.words(text, &mut piece);
        }
        // Each digit is a word, and ends the text as far as the words before it are concerned.
        for run in text.split_inclusive(char::is_numeric) {
            let before = run.trim_end_matches(char::is_numeric);
            self.words(before, &mut piece)?;
            if before.len() < run.len() {
                piece(&run[before.len()..])?;
            }
        }
        Ok(())
    }

    fn words<'t, E>(
        &self,
        text: &'t str,
        piece: &mut impl FnMut(&'t str) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = 0;
        while let Some(found) = self.words.find_at(text, at) {
            let word = found.as_str();
            let mut len = word.len();
            // White space before a word leaves its last character to that word, or to itself.
            if found.end() < text.len() && word.ends_with(self.spare) {
                let (last, _) = word.char_indices().next_back().expect("a match is not empty");
                len = if last > 0 { last } else { len };
            }
            at = found.start() + len;
            piece(&text[found.start()..at])?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use tokenizers::{
        OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
        normalizer::SplitDelimiterBehavior::Isolated,
        pre_tokenizers::{
            byte_level::ByteLevel,
            digits::Digits,
            sequence::Sequence,
            split::{Split, SplitPattern},
        },
    };

    use super::*;

    fn pieces<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let mut pieces = Vec::new();
        let Ok(()) = Splitter::named(name).unwrap().split(text, |piece| {
            pieces.push(piece);
            Ok::<(), Infallible>(())
        });
        pieces
    }

    /// The same by Hugging Face's tokenizers, whose expression does look ahead.
    fn reference<'t>(name: &str, text: &'t str) -> Vec<&'t str> {
        let words = ByteLevel::new(false, false, true);
        let mut string = PreTokenizedString::from(text);
        match name {
            "gpt-2" => words.pre_tokenize(&mut string),
            "qwen2" => {
                let pattern = QWEN2.replace(r"|\s+", r"|\s+(?!\S)|\s+");
                let pattern = SplitPattern::Regex(pattern);
                Split::new(pattern, Isolated, false).unwrap().pre_tokenize(&mut string)
            }
            _ => Sequence::new(vec![Digits::new(true).into(), words.into()])
                .pre_tokenize(&mut string),
        }
        .unwrap();
        string
            .get_splits(OffsetReferential::Original, OffsetType::Byte)
            .into_iter()
            .map(|(_, (start, end), _)| &text[start..end])
            .collect()
    }

    #[test]
    fn words_are_those_of_gpt2() {
        assert_eq!(pieces("gpt-2", "I'll  pay 12€!"), ["I", "'ll", " ", " pay", " 12", "€!"]);
        assert_eq!(pieces("gpt-2", "a \n b\n"), ["a", " \n", " b", "\n"]);
        assert_eq!(pieces("gpt-2", "a\nb"), ["a", "\n", "b"]);
        assert!(pieces("gpt-2", "").is_empty());
    }

    #[test]
    fn smollm_takes_digits_one_by_one() {
        assert_eq!(pieces("smollm", "pay  12€"), ["pay", "  ", "1", "2", "€"]);
        assert_eq!(pieces("smollm", "7"), ["7"]);
        assert_eq!(pieces("smollm", "x²½ 1"), ["x", "²", "½", " ", "1"]);
    }

    #[test]
    fn qwen2_takes_marks_with_words_and_keeps_line_ends_together() {
        let qwen2 = |text| pieces("qwen2", text);
        assert_eq!(qwen2("I'LL  pay 12€!\n"), ["I", "'LL", " ", " pay", " ", "1", "2", "€!\n"]);
        assert_eq!(qwen2("a \n\n  b\t!"), ["a", " \n\n", " ", " b", "\t", "!"]);
        assert_eq!(qwen2("(x)\r\n\ty "), ["(x", ")\r\n", "\ty", " "]);
    }

    #[test]
    fn qwen2_composes_letters_and_marks() {
        let normalised =
            |name| Splitter::named(name).unwrap().normalised("e\u{301} a").into_owned();
        assert_eq!(normalised("qwen2"), "\u{e9} a");
        assert_eq!(normalised("smollm"), "e\u{301} a");
    }

    #[test]
    fn other_names_are_not_guessed() {
        assert!(Splitter::named("llama-bpe").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_cut_as_the_reference_cuts_it(
            text in prop_oneof![
                any::<String>(),
                // What the expression tells apart, in close company.
                r"(['a-eé0-2²Ⅷ \r\n\t\u{a0}\u{85}\u{301}!€-]|'ll|'RE|中|😀){0,24}",
            ],
        ) {
            for name in ["gpt-2", "smollm", "qwen2"] {
                let ours = pieces(name, &text);
                prop_assert_eq!(ours.concat(), &*text);
                prop_assert_eq!(ours, reference(name, &text));
            }
        }
    }
}
