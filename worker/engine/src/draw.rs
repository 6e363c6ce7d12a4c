//! From rows of logits to what is drawn from them: on the leader, between a forward pass and the
//! scheduler's taking it in.

use shardrun_wire::{Logits, LogitsOf, RequestId};

use crate::guide::MaskWorker;
use crate::plan::Compute;
use crate::requests::Requests;
use crate::sampling::{Sampled, Sampler, SequenceView};
use crate::scheduler::{Draw, Drawn, Scheduler};

/// Draws from logits; keeps its memory from one iteration to the next.
pub(crate) struct Drawer {
    sampler: Sampler,
    pub(crate) guides: MaskWorker,
    pub(crate) drawn: Drawn,
    /// Requests from which nothing could be drawn, with the reason.
    pub(crate) failed: Vec<(RequestId, String)>,
    vocab_size: usize,
}

impl Drawer {
    pub(crate) fn new(vocab_size: usize, guides: MaskWorker) -> Self {
        let (drawn, failed) = (Drawn::default(), Vec::new());
        Self { sampler: Sampler::new(vocab_size), guides, drawn, failed, vocab_size }
    }

    /// Forgets the last iteration.
    pub(crate) fn clear(&mut self) {
        self.drawn.clear();
        self.failed.clear();
    }

    /// What the last plan must give: the likeliest tokens alone if nobody looks at anything else.
    pub(crate) fn needs(&self, scheduler: &Scheduler, requests: &Requests) -> Compute {
        let takes_best = |draw: &Draw| match *draw {
            Draw::Sample { of, .. } => {
                let view = scheduler.view(of);
                let watched = view.request.wanted.generation_logits;
                !watched && !requests.is_guided(view.request.id) && view.takes_best()
            }
            Draw::Beam { .. } | Draw::Context { .. } => false,
        };
        if scheduler.draws().iter().all(takes_best) { Compute::Best } else { Compute::Logits }
    }

    /// Takes in the likeliest token of each row.
    pub(crate) fn take(&mut self, scheduler: &Scheduler, tokens: &[u32]) {
        for draw in scheduler.draws() {
            if let Draw::Sample { row, .. } = *draw {
                self.drawn.samples.push(Some(Sampled { token: tokens[row], log_prob: 0.0 }));
            }
        }
    }

    /// Draws all that the plan asks for from its logits, `[rows, vocabulary]`, and hands on the
    /// logits that clients want.
    pub(crate) fn draw(&mut self, scheduler: &Scheduler, requests: &Requests, logits: &[f32]) {
        let row = |row: usize| &logits[row * self.vocab_size..][..self.vocab_size];
        for &draw in scheduler.draws() {
            match draw {
                Draw::Context { row: first, rows, position, id } => {
                    let values = &logits[first * self.vocab_size..][..rows * self.vocab_size];
                    let of = LogitsOf::Context { position: position as u32 };
                    if let Some(entry) = requests.get(id) {
                        entry.logits(Logits { of, values: values.to_vec() });
                    }
                }
                Draw::Sample { row: at, of } => {
                    let mut view = scheduler.view(of);
                    if view.request.wanted.generation_logits {
                        hand_on(requests, &view, row(at));
                    }
                    let id = view.request.id;
                    if requests.is_guided(id) {
                        match self.guides.mask((id, view.sequence)) {
                            Ok(mask) => view.mask = Some(mask),
                            Err(error) => {
                                self.failed.push((id, error.to_string()));
                                self.drawn.samples.push(None);
                                continue;
                            }
                        }
                    }
                    self.drawn.samples.push(Some(self.sampler.sample(row(at), &view)));
                }
                Draw::Beam { row: first, beams, of, candidates } => {
                    for beam in 0..beams {
                        let of = of.beam(beam);
                        let view = scheduler.view(of);
                        let into = self.drawn.next_beam();
                        self.sampler.best(row(first + beam), &view, candidates, into);
                    }
                }
            }
        }
    }
}

/// Hands on the logits that a sequence's next token is chosen from.
fn hand_on(requests: &Requests, view: &SequenceView<'_>, logits: &[f32]) {
    let id = view.request.id;
    if let Some(entry) = requests.get(id) {
        let (sequence, index) = (view.sequence, entry.written(view.sequence));
        let of = LogitsOf::Generation { sequence, index };
        entry.logits(Logits { of, values: logits.to_vec() });
    }
}
