//! The step thread's side of the masks: orders to the thread `guide`, and the masks that it made.

mod board;
mod parsers;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use shardrun_wire::RequestId;

use super::{CompiledGuide, GuideError};
use board::{Board, Command};

/// A guided sequence: its request, and which of the request's sequences it is.
pub(super) type GuideKey = (RequestId, u32);

/// How long the step thread waits for one mask. Parsers stop by themselves after some 20 ms a
/// mask, so this ends the wait for a queue of hundreds of the worst, or for a defect.
const MASK_DEADLINE: Duration = Duration::from_secs(10);

/// Computes the masks of guided sequences on a thread of its own, `guide`, in the order in which
/// they are asked for.
///
/// The thread shares a lock with the caller's thread and nobody else; it holds it while it takes an
/// order or hands over a mask, never while it computes. After a sequence's first mask, nothing here
/// allocates on the caller's thread.
pub(crate) struct MaskWorker {
    board: Arc<Board>,
    thread: Option<JoinHandle<()>>,
    places: HashMap<GuideKey, usize>,
    held: Vec<Held>,
    /// Places of sequences that ended.
    free: Vec<usize>,
    waited: Duration,
}

/// What the caller's side knows of a sequence.
#[derive(Default)]
struct Held {
    mask: Vec<u32>,
    state: State,
}

#[derive(Default)]
enum State {
    /// The thread has not been asked yet for the mask of the next token.
    #[default]
    Behind,
    /// The mask is that of the next token.
    Current,
    /// There are no more masks.
    Failed(GuideError),
}

impl MaskWorker {
    /// Starts the thread, which does `first` before anything else. `vocab_size` is the number of logits;
    /// masks have `vocab_size.div_ceil(32)` words, and bits beyond the tokenizer's tokens are 0.
    ///
    /// # Errors
    /// If the thread can't be started.
    pub(crate) fn new(
        vocab_size: usize,
        first: impl FnOnce() + Send + 'static,
    ) -> Result<Self, GuideError> {
        const NAME: &str = "guide";
        let board = Arc::new(Board::default());
        let theirs = board.clone();
        let thread = thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || {
                first();
                parsers::run(&theirs, vocab_size);
            })
            .map_err(|source| GuideError::Thread { name: NAME, source: Arc::new(source) })?;
        Ok(Self {
            board,
            thread: Some(thread),
            places: HashMap::new(),
            held: Vec::new(),
            free: Vec::new(),
            waited: Duration::ZERO,
        })
    }

    /// A new sequence; one that had the same key is forgotten. `tokens` is what it has generated
    /// already, in an earlier engine or before it was paused.
    pub(crate) fn start(&mut self, key: GuideKey, guide: &CompiledGuide, tokens: &[u32]) {
        let place = self.place(key);
        let start = Command::Start { guide: guide.clone(), tokens: tokens.to_vec() };
        self.board.post(place, start);
    }

    /// A new sequence `to` that goes on where `from` is now.
    pub(crate) fn fork(&mut self, from: GuideKey, to: GuideKey) {
        let Some(&source) = self.places.get(&from).filter(|_| from != to) else {
            return;
        };
        let place = self.place(to);
        self.board.post(place, Command::Fork { from: source });
    }

    /// `token` was sampled: the thread goes on to the next mask. Nothing happens for a sequence
    /// that is not guided.
    pub(crate) fn accept(&mut self, key: GuideKey, token: u32) {
        if let Some(&place) = self.places.get(&key) {
            if matches!(self.held[place].state, State::Current) {
                self.held[place].state = State::Behind;
            }
            self.board.post(place, Command::Accept { token });
        }
    }

    /// The tokens that may come next: bit t%32 of word t/32. The end is among them where the text
    /// may end, and alone where it must. Waits until the mask is there; normally it is.
    ///
    /// # Errors
    /// If this sequence can't be guided any further, now or since an earlier call; others go on.
    pub(crate) fn mask(&mut self, key: GuideKey) -> Result<&[u32], GuideError> {
        let (request, sequence) = key;
        let not_started = GuideError::NotStarted { request, sequence };
        let &place = self.places.get(&key).ok_or(not_started)?;
        let held = &mut self.held[place];
        if matches!(held.state, State::Behind) {
            let since = Instant::now();
            held.state = match self.board.take(place, &mut held.mask, since + MASK_DEADLINE) {
                Ok(()) => State::Current,
                Err(error) => State::Failed(error),
            };
            self.waited += since.elapsed();
        }
        match &held.state {
            State::Failed(error) => Err(error.clone()),
            State::Behind | State::Current => Ok(&held.mask),
        }
    }

    /// Forgets a sequence.
    pub(crate) fn end(&mut self, key: GuideKey) {
        if let Some(place) = self.places.remove(&key) {
            self.board.post(place, Command::End);
            self.free.push(place);
        }
    }

    /// How long [`Self::mask`] has waited since this was last asked.
    pub(crate) fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    /// A place for a sequence that begins.
    fn place(&mut self, key: GuideKey) -> usize {
        self.end(key);
        let place = self.free.pop().unwrap_or_else(|| {
            self.held.push(Held::default());
            self.held.len() - 1
        });
        self.held[place].state = State::Behind;
        self.places.insert(key, place);
        place
    }
}

impl Drop for MaskWorker {
    fn drop(&mut self) {
        self.board.close();
        if let Some(thread) = self.thread.take() {
            // It ends by itself; its panic, if any, was told by `mask`.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for MaskWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskWorker").field("sequences", &self.places.len()).finish_non_exhaustive()
    }
}
