//! A model's vocabulary as guides see it: a trie over the bytes of its tokens.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
};

use llguidance::{
    ParserFactory,
    api::ParserLimits,
    panic_utils::catch_unwind,
    toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie},
};

use super::{GuideError, error::reason};

/// A byte that no UTF-8 text has. llguidance marks tokens by it that are not text, so no token of
/// the model may contain it.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// Lexer states of a sequence at most, of up to 2 KiB each. JSON schemas need some thousands; what
/// needs more is a regular expression whose states multiply with each token.
const MAX_LEXER_STATES: usize = 25_000;

/// What guides are compiled for: the tokens of one model.
///
/// Cheap to clone. The trie is made when the first guide is compiled, on that client's thread.
#[derive(Clone)]
pub struct GuideVocabulary {
    end: Option<u32>,
    prepared: Arc<LazyLock<Preparation, Prepare>>,
}

type Preparation = Result<Prepared, GuideError>;
type Prepare = Box<dyn FnOnce() -> Preparation + Send>;

/// The vocabulary with its trie.
pub(super) struct Prepared {
    pub(super) factory: ParserFactory,
    /// Tokens that a guide may allow, bit t%32 of word t/32: those that are text, and the end.
    pub(super) allowed: Arc<[u32]>,
}

impl GuideVocabulary {
    /// `tokens` gives the bytes of every token in the order of their ids, and none for those that
    /// are not text (control tokens): these are never allowed. It is called once, when the first
    /// guide is compiled. `end_id` is the token that ends a text, whatever its bytes.
    #[must_use]
    pub fn new(
        end_id: Option<u32>,
        tokens: impl FnOnce() -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let prepare = move || {
            let end = end_id.ok_or(GuideError::NoEnd)?;
            catch_unwind(AssertUnwindSafe(|| Ok(Prepared::new(tokens(), end))))
                .unwrap_or_else(|panic| Err(panic.to_string()))
                .map_err(|problem| GuideError::Vocabulary { reason: reason(&problem) })
        };
        Self { end: end_id, prepared: Arc::new(LazyLock::new(Box::new(prepare))) }
    }

    /// The token that ends guided text. It counts as the end of a guided request, whatever the
    /// request itself names.
    #[must_use]
    pub fn end_id(&self) -> Option<u32> {
        self.end
    }

    /// The vocabulary with its trie, which the first call makes.
    pub(super) fn prepared(&self) -> Result<&Prepared, GuideError> {
        self.prepared.as_ref().as_ref().map_err(Clone::clone)
    }
}

impl fmt::Debug for GuideVocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuideVocabulary").field("end", &self.end).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Panics of the trie's builder, on tokens of more than 1,024 bytes for one, are the caller's.
    fn new(mut tokens: Vec<Vec<u8>>, end: u32) -> Result<Self, String> {
        let size = tokens.len();
        let Some(end_bytes) = tokens.get_mut(end as usize) else {
            return Err(format!("its end is token {end}, and it has {size} tokens"));
        };
        end_bytes.clear();
        let mut allowed = vec![0_u32; size.div_ceil(32)];
        for (id, bytes) in tokens.iter_mut().enumerate() {
            if bytes.contains(&MARKER) {
                bytes.clear();
            }
            if !bytes.is_empty() || id == end as usize {
                allowed[id / 32] |= 1 << (id % 32);
            }
        }

        let info = TokRxInfo::new(size as u32, end);
        let trie = TokTrie::from(&info, &tokens);
        // Not canonical: the model chooses how text that the guide forces is cut into tokens.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_lexer_states: MAX_LEXER_STATES,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        Ok(Self { factory, allowed: allowed.into() })
    }
}
