//! The thread `guide`: a parser for each guided sequence.

use std::{panic::AssertUnwindSafe, sync::Arc};

use llguidance::{Matcher, panic_utils::catch_unwind};

use super::board::{Board, Command, Posted};
use crate::guide::{
    CompiledGuide, GuideError,
    error::{NOTHING_FOLLOWS, reason},
};

/// Follows commands until the board is closed.
pub(super) fn run(board: &Board, vocab_size: usize) {
    let _closing = Closing(board);
    let mut parsers: Vec<Option<Result<Parser, GuideError>>> = Vec::new();
    while let Some(Posted { place, command, ticket }) = board.next() {
        if parsers.len() <= place {
            parsers.resize_with(place + 1, || None);
        }
        match command {
            Command::Start { guide, tokens } => {
                parsers[place] = Some(Parser::start(&guide, &tokens));
            }
            Command::Fork { from } => {
                parsers[place] = match &parsers[from] {
                    Some(Ok(parser)) => Some(parser.fork()),
                    Some(Err(error)) => Some(Err(error.clone())),
                    None => None,
                };
            }
            Command::Accept { token } => advance(&mut parsers[place], |p| p.accept(token)),
            Command::End => parsers[place] = None,
        }
        if parsers[place].is_none() {
            continue;
        }
        let Some(mut mask) = board.buffer(place, ticket) else {
            continue;
        };
        mask.resize(vocab_size.div_ceil(32), 0);
        advance(&mut parsers[place], |parser| parser.mask(&mut mask, vocab_size));
        let failed = parsers[place].as_ref().and_then(|parser| parser.as_ref().err());
        board.publish(place, ticket, failed.cloned().map_or(Ok(mask), Err));
    }
}

/// Closes the board when the thread ends, in whatever way.
struct Closing<'a>(&'a Board);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Does something to a parser that is there and has not failed; what fails stays failed.
fn advance(
    parser: &mut Option<Result<Parser, GuideError>>,
    step: impl FnOnce(&mut Parser) -> Result<(), GuideError>,
) {
    if let Some(Ok(sound)) = parser
        && let Err(error) = step(sound)
    {
        *parser = Some(Err(error));
    }
}

/// One sequence's state. It shares nothing that changes with any other's: where one panics or
/// becomes too complex, the others go on.
struct Parser {
    matcher: Matcher,
    allowed: Arc<[u32]>,
}

impl Parser {
    fn start(guide: &CompiledGuide, tokens: &[u32]) -> Result<Self, GuideError> {
        let matcher = copy(|| guide.matcher())?;
        let mut parser = Self { matcher, allowed: guide.allowed() };
        tokens.iter().try_for_each(|&token| parser.accept(token))?;
        Ok(parser)
    }

    fn fork(&self) -> Result<Self, GuideError> {
        Ok(Self { matcher: copy(|| self.matcher.deep_clone())?, allowed: self.allowed.clone() })
    }

    fn accept(&mut self, token: u32) -> Result<(), GuideError> {
        let allows = |words: &[u32]| {
            words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
        };
        if !allows(&self.allowed) {
            let reason = "it is not text".to_owned();
            return Err(GuideError::Token { token, reason });
        }
        self.matcher
            .consume_token(token)
            .map_err(|error| GuideError::Token { token, reason: reason(&error.to_string()) })
    }

    /// Writes which tokens may come next, of `vocab_size` at most.
    fn mask(&mut self, mask: &mut [u32], vocab_size: usize) -> Result<(), GuideError> {
        let no_mask = |reason| GuideError::Mask { reason };
        let made = self
            .matcher
            .compute_mask_or_eos()
            .map_err(|error| no_mask(reason(&error.to_string())))?;
        mask.fill(0);
        for ((word, made), allowed) in mask.iter_mut().zip(made.as_slice()).zip(&*self.allowed) {
            *word = made & allowed;
        }
        if let Some(last) = mask.last_mut()
            && !vocab_size.is_multiple_of(32)
        {
            *last &= (1 << (vocab_size % 32)) - 1;
        }
        if mask.iter().all(|&word| word == 0) {
            return Err(no_mask(NOTHING_FOLLOWS.to_owned()));
        }
        Ok(())
    }
}

/// A copy of a parser, which llguidance makes without a net.
fn copy(matcher: impl FnOnce() -> Matcher) -> Result<Matcher, GuideError> {
    catch_unwind(AssertUnwindSafe(|| Ok(matcher())))
        .map_err(|error| GuideError::Mask { reason: reason(&error.to_string()) })
}
