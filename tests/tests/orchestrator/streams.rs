//! Streams that threads read, with the times at which their texts came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use shardrun_tests::{Client, until};

use super::endless;

/// Streams at a time.
pub(super) const STREAMS: usize = 32;
/// Tokens of each.
pub(super) const TOKENS: usize = 48;

/// How long a stream may take to its end.
const WHOLE: Duration = Duration::from_secs(55);

/// A request and the model that it is for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) model: &'static str,
    pub(super) request: Value,
}

/// Greedy requests and seeded ones, three of four to `alpha`, with prompts of different lengths.
pub(super) fn asked() -> Vec<Asked> {
    asked_for(TOKENS)
}

/// The same, for more tokens or fewer.
pub(super) fn asked_for(tokens: usize) -> Vec<Asked> {
    let one = |number: usize| {
        let topic = ["the sea", "a clockmaker and his two sons", "winter", "bread"][number % 4];
        let more = "They walked on, and nobody spoke. ".repeat(number % 5);
        let text = format!("Story number {number}, about {topic}. {more}Once upon a time");
        let mut request = endless(&text, tokens);
        if number / 4 % 2 == 1 {
            request["temperature"] = json!(0.9);
            request["top_k"] = json!(40);
            request["top_p"] = json!(0.95);
            request["seed"] = json!(1000 + number);
        }
        Asked { model: if number % 4 == 3 { "beta" } else { "alpha" }, request }
    };
    (0..STREAMS).map(one).collect()
}

/// A stream that has come to its end.
#[derive(Clone, Debug)]
pub(super) struct Played {
    pub(super) model: &'static str,
    pub(super) text: String,
    /// When each piece came, after the moment at which it was asked for.
    pub(super) came: Vec<Instant>,
}

impl Played {
    /// The longest time without a token that ended after `moment`.
    pub(super) fn longest_pause_after(&self, moment: Instant) -> Duration {
        let gaps = self.came.windows(2).filter(|pair| pair[1] > moment);
        gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// Streams that are being read.
pub(super) struct Playing {
    readers: Vec<JoinHandle<anyhow::Result<Played>>>,
    accepted: Arc<AtomicUsize>,
    /// Pieces that have come, by model.
    pieces: BTreeMap<&'static str, Arc<AtomicUsize>>,
}

impl Playing {
    /// Asks for all at once.
    pub(super) fn begin(client: &Client, asked: &[Asked]) -> Self {
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut pieces: BTreeMap<_, Arc<AtomicUsize>> = BTreeMap::new();
        let reader = |one: &Asked| {
            let (client, one, accepted) = (client.clone(), one.clone(), accepted.clone());
            let pieces = pieces.entry(one.model).or_default().clone();
            std::thread::spawn(move || {
                let mut came = vec![Instant::now()];
                let mut events = client.stream_of(one.model, &one.request)?;
                accepted.fetch_add(1, Ordering::Relaxed);
                let mut text = String::new();
                while let Some(piece) = events.next_text()? {
                    came.push(Instant::now());
                    text.push_str(&piece);
                    pieces.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Played { model: one.model, text, came })
            })
        };
        let readers = asked.iter().map(reader).collect();
        Self { readers, accepted, pieces }
    }

    /// Waits until so many have been accepted, and so many pieces of a model's streams have come.
    pub(super) fn until_come(
        &self,
        accepted: usize,
        model: &str,
        pieces: usize,
    ) -> anyhow::Result<()> {
        let come = self.pieces.get(model).with_context(|| format!("no stream of {model}"))?;
        until("the streams to come so far", WHOLE, || {
            let accepted = self.accepted.load(Ordering::Relaxed) >= accepted;
            Ok(self.is_over() || (accepted && come.load(Ordering::Relaxed) >= pieces))
        })?;
        Ok(())
    }

    /// How many have not come to their ends.
    pub(super) fn running(&self) -> usize {
        self.readers.iter().filter(|reader| !reader.is_finished()).count()
    }

    fn is_over(&self) -> bool {
        self.running() == 0
    }

    /// Each stream's end; an error is the client's, whose stream was cut or ended with one.
    pub(super) fn ends(self) -> anyhow::Result<Vec<anyhow::Result<Played>>> {
        until("all streams to end", WHOLE, || Ok(self.is_over()))?;
        let end = |reader: JoinHandle<_>| reader.join().ok().context("a reader panicked");
        self.readers.into_iter().map(end).collect()
    }

    /// All streams, each whole.
    pub(super) fn finish(self) -> anyhow::Result<Vec<Played>> {
        self.ends()?.into_iter().collect()
    }
}

/// What an undisturbed run gives.
pub(super) fn undisturbed(client: &Client, asked: &[Asked]) -> anyhow::Result<Vec<Played>> {
    let played = Playing::begin(client, asked).finish()?;
    ensure!(played.iter().all(|played| played.came.len() > TOKENS / 2), "streams come in pieces");
    Ok(played)
}

/// Expects the same texts.
pub(super) fn expect_same(played: &[Played], expected: &[Played]) -> anyhow::Result<()> {
    for (number, (played, expected)) in played.iter().zip(expected).enumerate() {
        let (text, expected) = (&played.text, &expected.text);
        ensure!(text == expected, "stream {number} differs:\n{text:?}\n{expected:?}");
    }
    ensure!(played.len() == expected.len());
    Ok(())
}
