//! From a guide, as a client wrote it, to a parser that sequences are started from.

use std::{fmt, sync::Arc, thread};

use llguidance::{Matcher, api::TopLevelGrammar};
use serde_json::{Deserializer, Value};
use shardrun_wire::Guide;

use super::{GuideError, GuideVocabulary, ebnf, error::reason, schema};

/// The longest guide that is taken, in bytes.
pub(super) const MAX_GUIDE_BYTES: usize = 256 << 10;

/// Rules, terminals and references may each lead to the next, and llguidance follows them by
/// recursion: about 2.5 KiB of stack a step, and no more steps than a guide of
/// [`MAX_GUIDE_BYTES`] has room for. Memory is taken only as far as it is used.
const COMPILE_STACK_BYTES: usize = 512 << 20;

/// A guide that is ready for sequences; cheap to clone, since all share it.
#[derive(Clone)]
pub struct CompiledGuide {
    start: Arc<Matcher>,
    allowed: Arc<[u32]>,
    end_id: u32,
}

impl GuideVocabulary {
    /// Compiles a guide: milliseconds for most, up to some hundred for the most costly that is
    /// taken. Not for the step thread.
    ///
    /// # Errors
    /// If the guide is too long, not valid, not supported or too costly, or allows no text; or if
    /// the vocabulary can't be used.
    pub fn compile(&self, guide: &Guide) -> Result<CompiledGuide, GuideError> {
        let kind = kind(guide);
        let bytes = text(guide).len();
        if bytes > MAX_GUIDE_BYTES {
            return Err(GuideError::TooLong { kind, bytes, limit: MAX_GUIDE_BYTES });
        }
        const NAME: &str = "guide-compile";
        thread::scope(|scope| {
            thread::Builder::new()
                .name(NAME.to_owned())
                .stack_size(COMPILE_STACK_BYTES)
                .spawn_scoped(scope, || self.compile_here(guide))
                .map_err(|source| GuideError::Thread { name: NAME, source: Arc::new(source) })?
                .join()
                .unwrap_or_else(|_| {
                    Err(GuideError::Refused { kind, reason: "compiling it failed".to_owned() })
                })
        })
    }

    fn compile_here(&self, guide: &Guide) -> Result<CompiledGuide, GuideError> {
        let end_id = self.end_id().ok_or(GuideError::NoEnd)?;
        let prepared = self.prepared()?;
        let refused = |reason| GuideError::Refused { kind: kind(guide), reason };
        let grammar = match guide {
            Guide::Json => TopLevelGrammar::from_json_schema(schema::any_object()),
            Guide::JsonSchema(text) => {
                TopLevelGrammar::from_json_schema(schema::read(text).map_err(refused)?)
            }
            Guide::Regex(text) => {
                check_regex(text).map_err(refused)?;
                TopLevelGrammar::from_regex(text)
            }
            Guide::Grammar(text) if is_lark(text) => {
                check_schemas_in_lark(text).map_err(refused)?;
                TopLevelGrammar::from_lark(text.clone())
            }
            Guide::Grammar(text) => TopLevelGrammar::from_lark(ebnf::to_lark(text)?),
        };
        let mut start = Matcher::new(prepared.factory.create_parser(grammar));
        // The first mask shows whether the guide allows anything; it stays with the parser.
        match start.compute_mask_or_eos() {
            Ok(_) => Ok(CompiledGuide {
                start: Arc::new(start),
                allowed: prepared.allowed.clone(),
                end_id,
            }),
            Err(error) => Err(refused(reason(&error.to_string()))),
        }
    }
}

impl CompiledGuide {
    /// The token that ends guided text: the end of a guided request, whatever the request names.
    #[must_use]
    pub fn end_id(&self) -> u32 {
        self.end_id
    }

    /// A parser before the first token that shares nothing which changes with any other.
    pub(super) fn matcher(&self) -> Matcher {
        self.start.deep_clone()
    }

    /// Tokens that any guide may allow, bit t%32 of word t/32.
    pub(super) fn allowed(&self) -> Arc<[u32]> {
        self.allowed.clone()
    }
}

impl fmt::Debug for CompiledGuide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompiledGuide").field("end_id", &self.end_id).finish_non_exhaustive()
    }
}

/// How clients name a guide's type.
fn kind(guide: &Guide) -> &'static str {
    match guide {
        Guide::Json => "json",
        Guide::JsonSchema(_) => "json_schema",
        Guide::Regex(_) => "regex",
        Guide::Grammar(_) => "ebnf_grammar",
    }
}

fn text(guide: &Guide) -> &str {
    match guide {
        Guide::Json => "",
        Guide::JsonSchema(text) | Guide::Regex(text) | Guide::Grammar(text) => text,
    }
}

/// llguidance would leave out a backslash at the end.
fn check_regex(text: &str) -> Result<(), String> {
    let backslashes = text.len() - text.trim_end_matches('\\').len();
    if backslashes % 2 == 1 {
        return Err("it ends in a backslash that nothing follows".to_owned());
    }
    Ok(())
}

/// Lark begins at a rule `start:`, EBNF has rules `name ::=`.
fn is_lark(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start().trim_start_matches(['!', '?']);
        line.strip_prefix("start").is_some_and(|rest| {
            let attributes = rest.trim_start().strip_prefix('[').and_then(|it| it.split_once(']'));
            let rest = attributes.map_or(rest, |(_, rest)| rest).trim_start();
            rest.starts_with(':') && !rest.starts_with("::=")
        })
    })
}

/// Schemas inside of a grammar cost what they would alone.
fn check_schemas_in_lark(text: &str) -> Result<(), String> {
    const KEYWORD: &str = "%json";
    for (at, _) in text.match_indices(KEYWORD) {
        let rest = &text[at + KEYWORD.len()..];
        // What is no JSON stands in a comment or a string, or is refused by the Lark parser.
        if let Some(Ok(schema)) = Deserializer::from_str(rest).into_iter::<Value>().next() {
            schema::check_work(&schema).map_err(|problem| format!("{KEYWORD}: {problem}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lark_is_told_from_ebnf() {
        for lark in ["start: \"a\"", "%ignore \" \"\n  start : a", "?start: a", "start[lazy]: /a/"]
        {
            assert!(is_lark(lark), "{lark}");
        }
        for ebnf in
            ["root ::=\n start [a-z]", "start ::= \"a\"", "start::=\"a\"", "root ::= \"start:\""]
        {
            assert!(!is_lark(ebnf), "{ebnf}");
        }
    }
}
