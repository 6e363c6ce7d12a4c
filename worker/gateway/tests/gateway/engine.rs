//! An engine that does what a test says, and a tokenizer whose tokens are bytes.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use shardrun_gateway::{Detokenize, TextModel};
use shardrun_wire::{
    EngineClient, EngineLimits, EngineState, FinishReason, Finished, IterationStats, KvEvent,
    OutputSink, OutputStream, Refused, Request, RequestAccount, RequestId, output_stream,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

pub(crate) const MAX_SEQ_LEN: u32 = 1000;
pub(crate) const MAX_LOGITS_ROWS: u32 = 20;
pub(crate) const VOCAB_SIZE: u32 = 256;
pub(crate) const END_ID: u32 = 0;

/// What the engine was asked to do.
#[derive(Debug)]
pub(crate) enum Call {
    Submit(Box<Request>),
    Cancel(RequestId),
}

/// How the engine meets one request.
enum Answer {
    Refuse(Refused),
    /// Writes all at once.
    Writes(Box<dyn FnOnce(&Sink) + Send>),
    /// Leaves it to the test.
    Held(oneshot::Sender<Sink>),
    /// Makes the request out to have begun elsewhere.
    Resumes(shardrun_wire::Resumed),
    /// Does not come back from `submit`.
    Hangs,
}

/// The writing end of a request's outputs; each call is an iteration of its own.
pub(crate) struct Sink(OutputSink);

impl Sink {
    /// A token a byte, each of log probability -0.5.
    pub(crate) fn say(&self, sequence: u32, text: impl AsRef<[u8]>) {
        for token in tokens(text.as_ref()) {
            self.0.push(sequence, token, -0.5);
        }
        self.0.publish();
    }

    pub(crate) fn push(&self, sequence: u32, token: u32, log_prob: f32) {
        self.0.push(sequence, token, log_prob);
        self.0.publish();
    }

    /// Goes with the token that comes next.
    pub(crate) fn logits(&self, logits: shardrun_wire::Logits) {
        self.0.logits(logits);
    }

    pub(crate) fn end(&self, sequence: u32, reason: FinishReason) {
        self.finish(sequence, reason, None);
    }

    pub(crate) fn finish(
        &self,
        sequence: u32,
        reason: FinishReason,
        account: Option<RequestAccount>,
    ) {
        self.0.finish(Finished { sequence, reason, score: None, account });
        self.0.publish();
    }

    /// Tokens and an end in one iteration.
    pub(crate) fn say_and_end(&self, sequence: u32, text: &str, reason: FinishReason) {
        for token in tokens(text.as_bytes()) {
            self.0.push(sequence, token, -0.5);
        }
        self.end(sequence, reason);
    }
}

pub(crate) struct FakeEngine {
    pub(crate) state: Mutex<EngineState>,
    pub(crate) iterations: Mutex<Vec<IterationStats>>,
    pub(crate) kv_events: Mutex<Vec<KvEvent>>,
    answers: Mutex<VecDeque<Answer>>,
    calls: UnboundedSender<Call>,
}

impl FakeEngine {
    pub(crate) fn new() -> (Arc<Self>, UnboundedReceiver<Call>) {
        let (calls, called) = unbounded_channel();
        let engine = Self {
            state: Mutex::new(EngineState::Ready),
            iterations: Mutex::default(),
            kv_events: Mutex::default(),
            answers: Mutex::default(),
            calls,
        };
        (Arc::new(engine), called)
    }

    /// The answer to the next request that has none yet.
    fn answer(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    pub(crate) fn refuses(&self, refused: Refused) {
        self.answer(Answer::Refuse(refused));
    }

    /// The next request's outputs, all there at once.
    pub(crate) fn writes(&self, write: impl FnOnce(&Sink) + Send + 'static) {
        self.answer(Answer::Writes(Box::new(write)));
    }

    /// The next request generates this text as its only sequence.
    pub(crate) fn says(&self, text: &str) {
        self.ends(text, FinishReason::Length);
    }

    pub(crate) fn ends(&self, text: impl AsRef<[u8]>, reason: FinishReason) {
        let text = text.as_ref().to_vec();
        self.writes(move |sink| {
            sink.say(0, text);
            sink.end(0, reason);
        });
    }

    /// The next request's outputs are what the test writes.
    pub(crate) fn held(&self) -> oneshot::Receiver<Sink> {
        let (sender, sink) = oneshot::channel();
        self.answer(Answer::Held(sender));
        sink
    }

    pub(crate) fn resumes(&self, resumed: shardrun_wire::Resumed) {
        self.answer(Answer::Resumes(resumed));
    }

    pub(crate) fn hangs(&self) {
        self.answer(Answer::Hangs);
    }
}

impl EngineClient for FakeEngine {
    fn submit(&self, request: Request) -> BoxFuture<'_, Result<OutputStream, Refused>> {
        let (sink, outputs) = output_stream(&request);
        let resumable = request.clone();
        self.calls.send(Call::Submit(Box::new(request))).ok();
        match self.answers.lock().unwrap().pop_front().expect("a request that the test expects") {
            Answer::Refuse(refused) => return ready(Err(refused)).boxed(),
            Answer::Hangs => return std::future::pending().boxed(),
            Answer::Held(test) => {
                test.send(Sink(sink)).ok();
            }
            Answer::Writes(write) => write(&Sink(sink)),
            Answer::Resumes(resumed) => {
                let request = Request { resume: vec![resumed], ..resumable };
                let (sink, outputs) = output_stream(&request);
                Sink(sink).say(0, "more");
                return ready(Ok(outputs)).boxed();
            }
        }
        ready(Ok(outputs)).boxed()
    }

    fn cancel(&self, id: RequestId) {
        self.calls.send(Call::Cancel(id)).ok();
    }

    fn state(&self) -> EngineState {
        *self.state.lock().unwrap()
    }

    fn limits(&self) -> Option<EngineLimits> {
        Some(EngineLimits {
            max_seq_len: MAX_SEQ_LEN,
            kv_cache_tokens: 4000,
            max_queue_size: 8,
            vocab_size: VOCAB_SIZE,
            max_batch_size: 8,
            max_beam_width: 4,
            max_logits_rows: MAX_LOGITS_ROWS,
        })
    }

    fn take_iterations(&self) -> BoxFuture<'_, Vec<IterationStats>> {
        ready(std::mem::take(&mut *self.iterations.lock().unwrap())).boxed()
    }

    fn take_kv_events(&self) -> BoxFuture<'_, Vec<KvEvent>> {
        ready(std::mem::take(&mut *self.kv_events.lock().unwrap())).boxed()
    }
}

pub(crate) fn tokens(text: &[u8]) -> Vec<u32> {
    text.iter().map(|&byte| byte.into()).collect()
}

/// One token a byte; the token 0 ends an answer, and one of 1 goes before a prompt that asks for it.
pub(crate) struct Bytes;

impl TextModel for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>, Box<dyn Error + Send + Sync>> {
        if text.contains("untokenisable") {
            return Err("no token for it".into());
        }
        let begin = text.strip_prefix("<begin>");
        let words = tokens(begin.unwrap_or(text).replace("<nothing>", "").as_bytes());
        Ok(begin.map(|_| 1).into_iter().chain(words).collect())
    }

    fn encode_word(&self, word: &str) -> Result<Vec<u32>, Box<dyn Error + Send + Sync>> {
        self.encode(&word.replace("<begin>", ""))
    }

    fn end_id(&self) -> Option<u32> {
        Some(END_ID)
    }

    fn detokenizer(self: Arc<Self>) -> Box<dyn Detokenize> {
        Box::new(Pending(Vec::new()))
    }
}

struct Pending(Vec<u8>);

impl Detokenize for Pending {
    fn push(&mut self, token: u32) -> String {
        self.0.push(token.try_into().unwrap());
        match std::str::from_utf8(&self.0) {
            Ok(text) => {
                let text = text.to_owned();
                self.0.clear();
                text
            }
            Err(_) => String::new(),
        }
    }

    fn finish(self: Box<Self>) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}
