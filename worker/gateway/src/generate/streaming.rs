//! A response of events.

use std::convert::Infallible;

use axum::body::{Body as HttpBody, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};

use super::parameters::Delivery;
use super::reply::{Answer, Body, Form, error};
use crate::completion::{Completion, Generated};
use crate::error::ApiError;

/// One event.
pub(super) fn one(reply: Body) -> Response {
    events(reply.into_event().into_stream())
}

/// An event for each piece of a sequence, as it comes; ends without a last marker, as in the
/// reference.
///
/// # Errors
/// If something is wrong before the first.
pub(super) async fn pieces(
    form: Form,
    completion: Completion,
    delivery: Delivery,
) -> Result<Response, ApiError> {
    let sequences = completion.sequences();
    let so_far = vec![SoFar::default(); sequences];
    let mut pieces = Pieces { form, completion, delivery, so_far };
    let first = pieces.next().await?;
    let rest = stream::unfold(pieces, |mut pieces| async {
        let reply = match pieces.next().await {
            Ok(reply) => reply?,
            Err(failed) => error(&failed),
        };
        Some((reply, pieces))
    });
    let replies = stream::iter(first).chain(rest);
    Ok(events(replies.flat_map(|reply| reply.into_event().into_stream())))
}

fn events<S>(bytes: S) -> Response
where
    S: Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
{
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, HttpBody::from_stream(bytes)).into_response()
}

/// The pieces of a request on their way out.
struct Pieces {
    form: Form,
    completion: Completion,
    delivery: Delivery,
    /// Per sequence.
    so_far: Vec<SoFar>,
}

/// What a sequence has had.
#[derive(Clone, Default)]
struct SoFar {
    cum_log_prob: f32,
    /// If each event has all of it.
    whole: Generated,
}

impl Pieces {
    /// The next response; `None` after the last.
    async fn next(&mut self) -> Result<Option<Body>, ApiError> {
        let Some((sequence, mut piece)) = self.completion.next().await? else { return Ok(None) };
        self.completion.responded();
        let several = self.so_far.len() > 1;
        let so_far = &mut self.so_far[sequence as usize];
        so_far.cum_log_prob = piece.cum_log_prob(so_far.cum_log_prob);
        let cum_log_probs = vec![so_far.cum_log_prob];
        if self.delivery.all_so_far {
            // Logits come once: all of them each time would be too much.
            let logits = std::mem::take(&mut piece.logits);
            so_far.whole.append(piece);
            piece = Generated { logits, ..so_far.whole.clone() };
        }
        Ok(Some(self.form.reply(Answer {
            sequences: vec![piece],
            cum_log_probs,
            context_logits: self.completion.context_logits(),
            sequence_index: several.then_some(sequence),
            account: self.completion.account(),
        })))
    }
}
