//! The handlers: from a body to a completion, and from its text to a response.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::stream;
use shardrun_wire::Request as EngineRequest;

use super::parameters::Parameters;
use super::reply::{Reply, error_event, events};
use crate::GatewayState;
use crate::account::Account;
use crate::body::read_text;
use crate::completion::Completion;
use crate::encode::encode;
use crate::error::ApiError;
use crate::routes::of_model;
use crate::served::Served;
use crate::state::Ready;
use crate::stop::StopWords;

pub(crate) fn router() -> Router<GatewayState> {
    let mut router = Router::new();
    for path in of_model("/generate") {
        router = router.route(&path, post(generate));
    }
    for path in of_model("/generate_stream") {
        router = router.route(&path, post(generate_stream));
    }
    router
}

/// One response with the whole text.
async fn generate(
    State(state): State<GatewayState>,
    served: Served,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Asked::read(&state, served, request).await?;
    if asked.parameters.stream {
        return Err(ApiError::StreamElsewhere);
    }
    let id = asked.parameters.id.clone();
    let text = asked.whole_text(&state).await?;
    Ok(Json(Reply::new(served, &id, &text)).into_response())
}

/// One event per iteration with the text that is new in it; one event with the whole text for a
/// request that does not say `"stream": true`.
///
/// The status is that of the first response, which is waited for.
async fn generate_stream(
    State(state): State<GatewayState>,
    served: Served,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = Asked::read(&state, served, request).await?;
    let id = asked.parameters.id.clone();
    if !asked.parameters.stream {
        let text = asked.whole_text(&state).await?;
        let event = Reply::new(served, &id, &text).event();
        return Ok(events(stream::iter([Ok(event)])));
    }
    let mut completion = asked.start(&state).await?;
    let first = completion.next().await?;
    completion.responded();
    let pieces = stream::unfold((first, completion), move |(first, mut completion)| {
        let id = id.clone();
        async move {
            let piece = match first {
                Some(text) => Ok(Some(text)),
                None => completion.next().await,
            };
            let event = match piece {
                Ok(text) => Reply::new(served, &id, &text?).event(),
                Err(error) => error_event(&error),
            };
            Some((Ok(event), (None, completion)))
        }
    });
    Ok(events(pieces))
}

/// A request that was read and found good.
struct Asked {
    parameters: Parameters,
    ready: Ready,
    account: Account,
}

impl Asked {
    async fn read(
        state: &GatewayState,
        served: Served,
        request: Request,
    ) -> Result<Self, ApiError> {
        let account = Account::open(state.page().clone(), served.model());
        let body = read_text(request, state.max_body_bytes()).await?;
        let ready = state.ready()?;
        let parameters = Parameters::read(served, &body, &ready)?;
        Ok(Self { parameters, ready, account })
    }

    /// Hands it to the engine.
    async fn start(self, state: &GatewayState) -> Result<Completion, ApiError> {
        let Self { parameters, ready, account } = self;
        let prompt = encode(state, &ready, &parameters.prompt).await?;
        let request = EngineRequest {
            id: state.next_id(),
            prompt,
            max_tokens: parameters.max_tokens,
            end_id: parameters.end_id,
            sampling: parameters.sampling,
        };
        let stop = StopWords::new(parameters.stop_words);
        Completion::start(state.engine(), request, ready.text.detokenizer(), stop, account)
    }

    /// Generates to the end; with the prompt before it, unless the request excluded that.
    async fn whole_text(self, state: &GatewayState) -> Result<String, ApiError> {
        let mut text = match self.parameters.include_prompt {
            true => self.parameters.prompt.to_string(),
            false => String::new(),
        };
        let mut completion = self.start(state).await?;
        while let Some(piece) = completion.next().await? {
            text += &piece;
        }
        completion.responded();
        Ok(text)
    }
}
