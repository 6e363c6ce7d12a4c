//! An engine that does what a test says, and a tokenizer whose tokens are bytes.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex};

use shardrun_gateway::{Detokenize, TextModel};
use shardrun_wire::{
    EngineClient, EngineLimits, EngineState, FinishReason, Output, OutputStream, Refused, Request,
    RequestId,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(crate) const MAX_SEQ_LEN: u32 = 1000;
pub(crate) const END_ID: u32 = 0;

/// What the engine was asked to do.
#[derive(Debug)]
pub(crate) enum Call {
    Submit(Request),
    Cancel(RequestId),
}

/// How the engine meets one request.
pub(crate) enum Answer {
    Refuse(Refused),
    /// Sends one output per text and ends with the reason.
    Says(Vec<Vec<u8>>, FinishReason),
    /// Leaves it to the test, which holds the other end.
    Held(UnboundedReceiver<Output>),
}

pub(crate) struct FakeEngine {
    pub(crate) state: Mutex<EngineState>,
    answers: Mutex<VecDeque<Answer>>,
    calls: UnboundedSender<Call>,
}

impl FakeEngine {
    pub(crate) fn new() -> (Arc<Self>, UnboundedReceiver<Call>) {
        let (calls, called) = unbounded_channel();
        let state = Mutex::new(EngineState::Ready);
        (Arc::new(Self { state, answers: Mutex::default(), calls }), called)
    }

    /// The answer to the next request that has none yet.
    pub(crate) fn answer(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    pub(crate) fn says(&self, pieces: &[&str]) {
        let pieces = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        self.answer(Answer::Says(pieces, FinishReason::Length));
    }

    /// The next request's outputs are what the test sends.
    pub(crate) fn held(&self) -> UnboundedSender<Output> {
        let (outputs, stream) = unbounded_channel();
        self.answer(Answer::Held(stream));
        outputs
    }
}

impl EngineClient for FakeEngine {
    fn submit(&self, request: Request) -> Result<OutputStream, Refused> {
        let id = request.id;
        self.calls.send(Call::Submit(request)).ok();
        match self.answers.lock().unwrap().pop_front().expect("a request that the test expects") {
            Answer::Refuse(refused) => Err(refused),
            Answer::Held(stream) => Ok(stream),
            Answer::Says(pieces, finish) => {
                let (outputs, stream) = unbounded_channel();
                let mut index = 0;
                let last = pieces.len() - 1;
                for (n, piece) in pieces.iter().enumerate() {
                    let tokens = tokens(piece);
                    let finish = (n == last).then(|| finish.clone());
                    let count = tokens.len() as u32;
                    outputs.send(Output { id, index, tokens, finish }).unwrap();
                    index += count;
                }
                Ok(stream)
            }
        }
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
            vocab_size: 256,
        })
    }
}

pub(crate) fn tokens(text: &[u8]) -> Vec<u32> {
    text.iter().map(|&byte| byte.into()).collect()
}

/// One token a byte; the token 0 ends an answer.
pub(crate) struct Bytes;

impl TextModel for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>, Box<dyn Error + Send + Sync>> {
        if text.contains("untokenisable") {
            return Err("no token for it".into());
        }
        Ok(tokens(text.replace("<nothing>", "").as_bytes()))
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
