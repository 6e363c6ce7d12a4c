//! Vocabularies, and sequences that are sampled at random, for tests.

use std::{path::Path, sync::Arc};

use shardrun_files::Gguf;
use shardrun_text::Tokenizer;
use shardrun_wire::{Guide, RequestId};

use super::worker::GuideKey;
use super::{CompiledGuide, GuideVocabulary, MaskWorker};

/// Every byte is the token of its value; pieces of JSON follow, then control tokens.
const PIECES: [&str; 16] = [
    "{\"", "\":", "\": ", "\", \"", "\"}", "},", "]}", "[[", "ab", "abc", "the ", "10", "123",
    "true", "é", "  ",
];
pub(super) const BEGIN: u32 = 256 + PIECES.len() as u32;
pub(super) const END: u32 = BEGIN + 1;
/// Logits, of which the last belong to no token.
pub(super) const LOGITS: usize = 320;

pub(super) fn tokens() -> Vec<Vec<u8>> {
    let bytes = (0..=255_u8).map(|byte| vec![byte]);
    let pieces = PIECES.iter().map(|piece| piece.as_bytes().to_vec());
    // The end has bytes here, which count for nothing.
    bytes.chain(pieces).chain([vec![], b"<end>".to_vec()]).collect()
}

/// A model as guides see it.
pub(super) struct Model {
    pub(super) vocabulary: GuideVocabulary,
    pub(super) tokens: Vec<Vec<u8>>,
    pub(super) end: u32,
    pub(super) logits: usize,
}

impl Model {
    pub(super) fn bytes() -> Self {
        let vocabulary = GuideVocabulary::new(Some(END), tokens);
        Self { vocabulary, tokens: tokens(), end: END, logits: LOGITS }
    }

    /// The real one, or `None`, said aloud, where it is not at hand.
    pub(super) fn real() -> Option<Self> {
        let Some(path) = std::env::var_os("SHARDRUN_TEST_MODEL") else {
            eprintln!("skipped: SHARDRUN_TEST_MODEL names no model file");
            return None;
        };
        let file = Gguf::open(Path::new(&path)).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_gguf(&file).unwrap());
        let end = tokenizer.end_id().unwrap();
        let texts = move || {
            (0..tokenizer.vocab_size()).map(|id| tokenizer.bytes(id, true).to_vec()).collect()
        };
        let tokens: Vec<Vec<u8>> = texts();
        let logits = tokens.len();
        Some(Self { vocabulary: GuideVocabulary::new(Some(end), texts), tokens, end, logits })
    }

    pub(super) fn compile(&self, guide: &Guide) -> CompiledGuide {
        self.vocabulary.compile(guide).unwrap()
    }

    pub(super) fn worker(&self) -> MaskWorker {
        MaskWorker::new(self.logits, || ()).unwrap()
    }

    pub(super) fn text(&self, tokens: &[u32]) -> String {
        let bytes = tokens.iter().flat_map(|&id| &self.tokens[id as usize]).copied().collect();
        String::from_utf8(bytes).unwrap()
    }

    /// A token of each byte of `text`.
    pub(super) fn spelled(&self, text: &str) -> Vec<u32> {
        let token = |byte| self.tokens.iter().position(|token| token == &[byte]).unwrap() as u32;
        text.bytes().map(token).collect()
    }
}

pub(super) fn key(sequence: u32) -> GuideKey {
    (RequestId(7), sequence)
}

pub(super) fn ids(mask: &[u32]) -> Vec<u32> {
    (0..mask.len() as u32 * 32).filter(|&id| mask[id as usize / 32] >> (id % 32) & 1 == 1).collect()
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// Tokens before a walk heads for its end.
const LOITERED: usize = 60;

/// A text of tokens that are chosen evenly among those allowed, up to the end. After a while the
/// end is taken where it is allowed, and what may close strings and brackets, or else single bytes,
/// are preferred to the rest, since values that are open may be so for ever.
pub(super) fn walk(
    model: &Model,
    worker: &mut MaskWorker,
    guide: &CompiledGuide,
    dice: &mut Dice,
) -> Vec<u32> {
    worker.start(key(0), guide, &[]);
    let mut walked = vec![];
    loop {
        let mut allowed = ids(worker.mask(key(0)).unwrap());
        assert!(allowed.iter().all(|&id| id == model.end || !model.tokens[id as usize].is_empty()));
        if walked.len() >= LOITERED {
            if allowed.contains(&model.end) {
                allowed = vec![model.end];
            }
            let byte = |id: u32| match *model.tokens[id as usize] {
                [byte] => Some(byte),
                _ => None,
            };
            let closes = |&id: &u32| byte(id).is_some_and(|byte| b"\"}]),:0".contains(&byte));
            if allowed.iter().any(closes) {
                allowed.retain(closes);
            } else if allowed.iter().any(|&id| byte(id).is_some()) {
                allowed.retain(|&id| byte(id).is_some());
            }
        }
        let token = allowed[dice.below(allowed.len())];
        if token == model.end {
            worker.end(key(0));
            return walked;
        }
        walked.push(token);
        assert!(walked.len() < 5_000, "{:?}", model.text(&walked[..200]));
        worker.accept(key(0), token);
    }
}
