//! An engine whose tokens are a function of the request and their place, and which dies when it is
//! told to.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use shardrun_wire::{
    BeamScore, EngineClient, EngineLimits, EngineState, FinishReason, Finished, IterationStats,
    KvEvent, Logits, LogitsOf, OutputSink, OutputStream, Refused, Request, RequestAccount,
    RequestId, Search, output_stream,
};
use tokio::sync::watch;

pub(crate) const VOCAB_SIZE: u32 = 256;

pub(crate) const LIMITS: EngineLimits = EngineLimits {
    max_seq_len: 1000,
    kv_cache_tokens: 4000,
    max_queue_size: 1000,
    vocab_size: VOCAB_SIZE,
    max_batch_size: 8,
    max_beam_width: 4,
    max_logits_rows: 1000,
};

/// How an engine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// As one whose connection ends: its streams end, and its state is stopped.
    Silent,
    /// As one that lost a rank: all requests fail, and a little later its state is stopped.
    Failing,
    /// As one whose process is stopped: nothing comes any more.
    Frozen,
    /// Its state is stopped, and its streams don't end.
    Hanging,
}

/// What all engines of a test note, by the seeds of the requests.
#[derive(Default)]
pub(crate) struct Log {
    /// Deaths of engines that a request was running in.
    pub(crate) deaths: HashMap<u64, u32>,
    /// Deaths of engines that had not answered it.
    pub(crate) unanswered: HashMap<u64, u32>,
    /// As they were submitted.
    pub(crate) submitted: Vec<Request>,
    pub(crate) cancelled: Vec<RequestId>,
}

pub(crate) struct Scripted {
    parts: Parts,
    inner: Mutex<Inner>,
    dead: watch::Sender<bool>,
}

pub(crate) struct Parts {
    pub(crate) log: Arc<Mutex<Log>>,
    /// Of an iteration.
    pub(crate) step: Duration,
    /// Before a submission is answered.
    pub(crate) answer: Duration,
    /// It dies at its token of this number.
    pub(crate) fuse: u64,
    pub(crate) death: Death,
}

struct Inner {
    state: EngineState,
    limits: EngineLimits,
    refusals: Vec<Refused>,
    /// Tokens until it dies.
    fuse: u64,
    /// It doesn't say that sequences end.
    mute: bool,
    running: BTreeMap<RequestId, Running>,
    iterations: Vec<IterationStats>,
    kv_events: Vec<KvEvent>,
}

struct Running {
    request: Request,
    sink: OutputSink,
    sequences: Vec<Option<Vec<u32>>>,
    context_rows: usize,
}

/// The token of a sequence at a position; never 0.
pub(crate) fn token(seed: u64, sequence: u32, position: usize) -> u32 {
    let mixed = (seed << 20 ^ u64::from(sequence) << 12 ^ position as u64)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
    1 + (mixed >> 40) as u32 % (VOCAB_SIZE - 1)
}

/// Where a sequence would end by itself.
fn end(seed: u64, sequence: u32) -> usize {
    token(seed, sequence, 999) as usize % 80
}

/// The next token of a sequence that has `tokens`, or its end; and whether it ends after that.
fn next(request: &Request, sequence: u32, tokens: &[u32]) -> (Option<u32>, Option<FinishReason>) {
    let seed = request.sampling.seed;
    if tokens.len() == end(seed, sequence) {
        return (None, Some(FinishReason::EndId));
    }
    let token = token(seed, sequence, tokens.len());
    let all = [tokens, &[token]].concat();
    let reason = if request.stop_words.iter().any(|word| all.ends_with(word)) {
        Some(FinishReason::StopWords)
    } else {
        (all.len() == request.max_tokens as usize).then_some(FinishReason::Length)
    };
    (Some(token), reason)
}

/// All tokens of a sequence that nothing disturbs, and how it ends.
pub(crate) fn undisturbed(request: &Request, sequence: u32) -> (Vec<u32>, FinishReason) {
    let mut tokens = Vec::new();
    loop {
        let (token, reason) = next(request, sequence, &tokens);
        tokens.extend(token);
        if let Some(reason) = reason {
            return (tokens, reason);
        }
    }
}

pub(crate) fn log_prob(token: u32) -> f32 {
    -(token as f32) / 8.0
}

/// The row of logits that a token is chosen from, or that follows a prompt's token.
pub(crate) fn row(token: u32, position: usize) -> Vec<f32> {
    let mut row = vec![0.0; VOCAB_SIZE as usize];
    (row[0], row[1]) = (token as f32, position as f32);
    row
}

impl Scripted {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let inner = Inner {
            state: EngineState::Ready,
            limits: LIMITS,
            refusals: Vec::new(),
            fuse: parts.fuse,
            mute: false,
            running: BTreeMap::new(),
            iterations: Vec::new(),
            kv_events: Vec::new(),
        };
        let engine =
            Arc::new(Self { parts, inner: Mutex::new(inner), dead: watch::Sender::new(false) });
        tokio::spawn(run(engine.clone()));
        engine
    }

    /// One that lives until it is killed.
    pub(crate) fn healthy(log: &Arc<Mutex<Log>>) -> Arc<Self> {
        let step = Duration::from_millis(5);
        let (log, answer) = (log.clone(), Duration::from_millis(1));
        Self::new(Parts { log, step, answer, fuse: u64::MAX, death: Death::Silent })
    }

    pub(crate) fn set_state(&self, state: EngineState) {
        self.inner.lock().unwrap().state = state;
    }

    pub(crate) fn set_limits(&self, limits: EngineLimits) {
        self.inner.lock().unwrap().limits = limits;
    }

    /// The next submission is refused.
    pub(crate) fn refuses(&self, refused: Refused) {
        self.inner.lock().unwrap().refusals.push(refused);
    }

    /// From now on it says of no sequence that it ends.
    pub(crate) fn says_no_ends(&self) {
        self.inner.lock().unwrap().mute = true;
    }

    pub(crate) fn tells(&self, iterations: Vec<IterationStats>, kv_events: Vec<KvEvent>) {
        let mut inner = self.inner.lock().unwrap();
        (inner.iterations, inner.kv_events) = (iterations, kv_events);
    }

    pub(crate) fn running(&self) -> usize {
        self.inner.lock().unwrap().running.len()
    }

    /// Ends one request so.
    pub(crate) fn ends(&self, reason: FinishReason) {
        let mut inner = self.inner.lock().unwrap();
        let (_, running) = inner.running.pop_first().unwrap();
        running.end(&reason);
    }

    /// Dies, which counts for what runs.
    pub(crate) fn kill(&self) {
        let mut inner = self.inner.lock().unwrap();
        self.die(&mut inner);
    }

    /// Ends on purpose.
    pub(crate) fn shut_down(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner.state = EngineState::Stopped;
        inner.running.clear();
        drop(inner);
        self.dead.send_replace(true);
    }

    pub(crate) async fn died(&self) {
        self.dead.subscribe().wait_for(|&dead| dead).await.unwrap();
    }

    fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    fn die(&self, inner: &mut Inner) {
        if self.dead.send_replace(true) {
            return;
        }
        let mut log = self.parts.log.lock().unwrap();
        for running in inner.running.values() {
            *log.deaths.entry(running.request.sampling.seed).or_default() += 1;
        }
        drop(log);
        match self.parts.death {
            Death::Silent => {
                inner.state = EngineState::Stopped;
                inner.running.clear();
            }
            Death::Failing => {
                for running in std::mem::take(&mut inner.running).into_values() {
                    running.end(&FinishReason::Failed("rank 1 is lost".to_owned()));
                }
            }
            Death::Frozen => {}
            Death::Hanging => inner.state = EngineState::Stopped,
        }
    }

    /// One iteration; says whether there was anything to do.
    fn iterate(&self) {
        let mut inner = self.inner.lock().unwrap();
        let ids: Vec<RequestId> = inner.running.keys().copied().collect();
        for id in ids {
            if self.advance(&mut inner, id) == Life::Over {
                return self.die(&mut inner);
            }
        }
    }

    /// A request's part of an iteration, token by token.
    fn advance(&self, inner: &mut Inner, id: RequestId) -> Life {
        let Inner { fuse, running, mute, .. } = inner;
        let Some(one) = running.get_mut(&id) else { return Life::GoesOn };
        let Running { request, sink, sequences, context_rows } = one;
        let prompt = request.prompt.len();
        if request.wanted.context_logits && *context_rows < prompt {
            // Not in the same pieces each time.
            let rows = *context_rows..prompt.min(*context_rows + 2 + id.0 as usize % 3);
            let of = LogitsOf::Context { position: rows.start as u32 };
            let values = rows.clone().flat_map(|at| row(request.prompt[at], at)).collect();
            sink.logits(Logits { of, values });
            *context_rows = rows.end;
            if rows.end < prompt {
                sink.publish();
                return Life::GoesOn;
            }
        }
        let beams = matches!(request.search, Search::Beam(_));
        for number in 0..sequences.len() {
            while let Some(tokens) = &mut sequences[number] {
                if *fuse == 0 {
                    return Life::Over;
                }
                *fuse -= 1;
                let sequence = number as u32;
                let (token, reason) = next(request, sequence, tokens);
                if let Some(token) = token {
                    if request.wanted.generation_logits {
                        let index = tokens.len() as u32;
                        let of = LogitsOf::Generation { sequence, index };
                        sink.logits(Logits { of, values: row(token, tokens.len()) });
                    }
                    sink.push(sequence, token, log_prob(token));
                    tokens.push(token);
                }
                if let Some(reason) = reason {
                    if *mute {
                        break;
                    }
                    sequences[number] = None;
                    let last = sequences.iter().all(Option::is_none);
                    let score = beams.then_some(BeamScore { score: 1.5, cum_log_prob: 2.5 });
                    let account = last.then(RequestAccount::default);
                    sink.finish(Finished { sequence, reason, score, account });
                }
                if !beams {
                    break;
                }
                // What a connection has carried when it breaks.
                sink.publish();
            }
        }
        sink.publish();
        if sequences.iter().all(Option::is_none) {
            running.remove(&id);
        }
        Life::GoesOn
    }

    /// Checks that a request is one that this engine can go on with.
    fn check(&self, request: &Request) {
        let seed = request.sampling.seed;
        assert!(request.resume.is_empty() || !matches!(request.search, Search::Beam(_)));
        assert!(request.resume.is_empty() || request.resume.iter().any(|one| !one.finished));
        for (resumed, sequence) in request.resume.iter().zip(0..) {
            let (whole, reason) = undisturbed(request, sequence);
            assert!(whole.starts_with(&resumed.tokens), "{seed}: {resumed:?} of {whole:?}");
            // An end token leaves nothing behind; what else ends a sequence can be seen.
            let open = whole.len() > resumed.tokens.len() || reason == FinishReason::EndId;
            assert!(resumed.finished || open, "{seed}: {resumed:?}");
        }
        self.parts.log.lock().unwrap().submitted.push(request.clone());
    }
}

#[derive(PartialEq, Eq)]
enum Life {
    GoesOn,
    Over,
}

impl Running {
    fn end(self, reason: &FinishReason) {
        let open = self.sequences.iter().enumerate().filter(|(_, tokens)| tokens.is_some());
        for (sequence, _) in open {
            let (sequence, reason) = (sequence as u32, reason.clone());
            self.sink.finish(Finished { sequence, reason, score: None, account: None });
        }
        self.sink.publish();
    }
}

/// The step thread.
async fn run(engine: Arc<Scripted>) {
    while !engine.is_dead() {
        tokio::time::sleep(engine.parts.step).await;
        if !engine.is_dead() {
            engine.iterate();
        }
    }
    if engine.parts.death == Death::Failing {
        // The news comes after the failures.
        tokio::time::sleep(Duration::from_millis(70)).await;
        engine.set_state(EngineState::Stopped);
    }
}

impl EngineClient for Scripted {
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>> {
        async move {
            let seed = request.sampling.seed;
            let unreachable = || Refused::Unreachable { reason: "it is dead".to_owned() };
            let pending = async {
                tokio::time::sleep(self.parts.answer).await;
                if self.is_dead() && self.parts.death == Death::Frozen {
                    std::future::pending::<()>().await;
                }
            };
            // Counted when the caller gives up, too.
            let mut asked = Asked { log: &self.parts.log, seed, answered: false };
            pending.await;
            if self.is_dead() {
                return Err(unreachable());
            }
            asked.answered = true;
            let mut inner = self.inner.lock().unwrap();
            match inner.state {
                EngineState::Ready => {}
                EngineState::Loading => return Err(Refused::Loading),
                EngineState::Draining | EngineState::Stopped => return Err(Refused::Draining),
            }
            if let Some(refused) = inner.refusals.pop() {
                return Err(refused);
            }
            self.check(&request);
            let (sink, stream) = output_stream(&request);
            let sequence = |number: u32| match request.resume.get(number as usize) {
                None => Some(Vec::new()),
                Some(resumed) => (!resumed.finished).then(|| resumed.tokens.clone()),
            };
            let sequences = (0..request.search.sequences()).map(sequence).collect();
            let id = request.id;
            let running = Running { request, sink, sequences, context_rows: 0 };
            assert!(inner.running.insert(id, running).is_none(), "an id that is used again");
            Ok(stream)
        }
        .boxed()
    }

    fn cancel(&self, id: RequestId) {
        self.parts.log.lock().unwrap().cancelled.push(id);
        if self.is_dead() {
            return;
        }
        let running = self.inner.lock().unwrap().running.remove(&id);
        if let Some(running) = running {
            running.end(&FinishReason::Cancelled);
        }
    }

    fn state(&self) -> EngineState {
        self.inner.lock().unwrap().state
    }

    fn limits(&self) -> Option<EngineLimits> {
        Some(self.inner.lock().unwrap().limits)
    }

    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>> {
        if self.is_dead() {
            return std::future::pending().boxed();
        }
        ready(std::mem::take(&mut self.inner.lock().unwrap().iterations)).boxed()
    }

    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>> {
        ready(std::mem::take(&mut self.inner.lock().unwrap().kv_events)).boxed()
    }
}

/// A submission that waits for its answer.
struct Asked<'a> {
    log: &'a Mutex<Log>,
    seed: u64,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered {
            *self.log.lock().unwrap().unanswered.entry(self.seed).or_default() += 1;
        }
    }
}
