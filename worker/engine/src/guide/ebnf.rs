//! Grammars in EBNF as llama.cpp (GBNF) and XGrammar spell it, read into a tree.
//!
//! ```text
//! root  ::= "yes" | "no" [.!]{0,3} | list    # from # to the end of the line is a comment
//! list  ::= "[" item ("," item)* "]"
//! ```
//!
//! A rule goes on over lines until the next `name ::=`. The text begins with the rule `root`.

mod lark;
mod reader;

use super::GuideError;

/// Groups inside of groups. Lark, which it becomes, takes 28.
const MAX_NESTING: usize = 24;

/// The largest number in a repetition.
const MAX_REPEATS: u32 = 100_000;

/// A grammar whose rules all exist.
#[derive(Debug)]
struct Ebnf {
    rules: Vec<Expression>,
    /// Where the text begins.
    root: usize,
}

/// A part of a rule.
#[derive(Debug, PartialEq, Eq)]
enum Expression {
    Literal(String),
    /// One character of these ranges, or one that is in none of them.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Any character.
    Any,
    /// Another rule.
    Rule(usize),
    /// One after the other; nothing, if there are none.
    Sequence(Vec<Expression>),
    /// One of them.
    Choice(Vec<Expression>),
    /// So many times, at least and at most.
    Repeat(Box<Expression>, u32, Option<u32>),
}

/// The same language in Lark, as llguidance takes it.
///
/// # Errors
/// If the grammar is not valid, with the line.
pub(super) fn to_lark(text: &str) -> Result<String, GuideError> {
    Ok(lark::write(&reader::read(text)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
