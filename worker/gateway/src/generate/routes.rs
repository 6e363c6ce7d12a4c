//! The handlers: from a body to a completion, and from its pieces to a response.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use shardrun_wire::{Request as EngineRequest, Search};

use super::fields::Fields;
use super::inputs::Key;
use super::parameters::{Content, Parameters};
use super::reply::{self, Answer, Body, Form};
use super::streaming;
use crate::GatewayState;
use crate::account::Account;
use crate::body::read_text;
use crate::completion::{Completion, Generated, Reader, TextReader};
use crate::encode::encode;
use crate::error::ApiError;
use crate::routes::of_model;
use crate::served::Served;
use crate::state::Ready;

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

/// One response with everything.
async fn generate(
    State(state): State<GatewayState>,
    served: Served,
    request: Request,
) -> Result<Response, ApiError> {
    let body = match Command::read(&state, served, request).await? {
        Command::Stop(id) => stop(&state, served, &id)?,
        Command::Generate(asked) if asked.parameters.delivery.stream => {
            return Err(ApiError::StreamElsewhere { field: asked.stream_field });
        }
        Command::Generate(asked) => asked.whole(&state).await?,
    };
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into_http())
        .into_response())
}

/// An event for what each iteration brought; one event with everything for a request that does not
/// ask for more, and for one that is searched by beams, since the search decides at its end.
///
/// The status is that of the first response, which is waited for.
async fn generate_stream(
    State(state): State<GatewayState>,
    served: Served,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = match Command::read(&state, served, request).await? {
        Command::Stop(id) => return Ok(streaming::one(stop(&state, served, &id)?)),
        Command::Generate(asked) => asked,
    };
    let beams = matches!(asked.parameters.search, Search::Beam(_));
    if beams || !asked.parameters.delivery.stream {
        return Ok(streaming::one(asked.whole(&state).await?));
    }
    let delivery = asked.parameters.delivery;
    let (form, completion) = asked.start(&state).await?;
    streaming::pieces(form, completion, delivery).await
}

/// Cancels the running request with this id, if there is one.
fn stop(state: &GatewayState, served: Served, id: &str) -> Result<Body, ApiError> {
    if id.is_empty() {
        return Err(ApiError::StopWithoutId);
    }
    if let Some(running) = state.named().get(id) {
        state.engine().cancel(running);
    }
    Ok(reply::empty(served, id))
}

/// What a body asks for.
enum Command {
    Generate(Box<Asked>),
    /// To end the running request with this id.
    Stop(String),
}

/// A request that was read and found good.
struct Asked {
    served: Served,
    parameters: Parameters,
    /// The model's name for the input that asks for a stream.
    stream_field: &'static str,
    ready: Ready,
    account: Account,
}

impl Command {
    async fn read(
        state: &GatewayState,
        served: Served,
        request: Request,
    ) -> Result<Self, ApiError> {
        let account = Account::open(state.page().clone(), served.model());
        let body = read_text(request, state.max_body_bytes()).await?;
        let fields = Fields::read(served, &body)?;
        if served == Served::Llm && fields.field(Key::Stop).flag()? {
            return Ok(Self::Stop(fields.id));
        }
        let ready = state.ready()?;
        let parameters = Parameters::read(&fields, &ready)?;
        let stream_field = fields.field(Key::Stream).name;
        Ok(Self::Generate(Box::new(Asked { served, parameters, stream_field, ready, account })))
    }
}

impl Asked {
    /// Hands it to the engine.
    async fn start(self, state: &GatewayState) -> Result<(Form, Completion), ApiError> {
        let Self { served, parameters, ready, account, .. } = self;
        let Parameters { id: name, max_tokens, search, delivery, scheduling, .. } = parameters;
        let (tokens, text) = match parameters.content {
            Content::Tokens(tokens) => (tokens, None),
            Content::Text { text, stop_words } => {
                let tokens = encode(state, &ready, text).await?;
                (tokens, Some(TextReader { model: ready.text, stop_words }))
            }
        };
        delivery.check_rows(tokens.prompt.len(), max_tokens, &search, &ready.limits)?;
        let id = state.next_id();
        let request = EngineRequest {
            id,
            prompt: tokens.prompt,
            resume: Vec::new(),
            max_tokens,
            end_id: parameters.end_id,
            stop_words: tokens.stop_words,
            bad_words: tokens.bad_words,
            embedding_bias: tokens.embedding_bias,
            search,
            sampling: parameters.sampling,
            guide: parameters.guide,
            wanted: delivery.wanted,
            priority: scheduling.priority,
            timeout: scheduling.timeout,
            retention: parameters.retention,
            cache_salt: scheduling.cache_salt,
        };
        let reader = Reader {
            text,
            vocab_size: ready.limits.vocab_size,
            wants_account: delivery.perf_metrics,
            account,
            named: state.named().enter(&name, id),
        };
        let completion = Completion::start(state.engine(), request, reader).await?;
        Ok((Form::new(served, name, &delivery), completion))
    }

    /// Generates to the end; with the prompt before it, unless the request excluded that or reads a
    /// stream.
    async fn whole(self, state: &GatewayState) -> Result<Body, ApiError> {
        let delivery = self.parameters.delivery;
        let prompt = match &self.parameters.content {
            _ if delivery.stream || !delivery.include_prompt => Generated::default(),
            Content::Text { text, .. } => {
                Generated { text: text.prompt.clone(), ..Generated::default() }
            }
            Content::Tokens(tokens) => {
                Generated { tokens: tokens.prompt.clone(), ..Generated::default() }
            }
        };
        let (form, mut completion) = self.start(state).await?;
        let mut sequences = vec![prompt; completion.sequences()];
        while let Some((sequence, piece)) = completion.next().await? {
            sequences[sequence as usize].append(piece);
        }
        completion.responded();
        Ok(form.reply(Answer {
            cum_log_probs: sequences.iter().map(|one| one.cum_log_prob(0.0)).collect(),
            context_logits: completion.context_logits(),
            sequence_index: None,
            account: completion.account(),
            sequences,
        }))
    }
}
