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
use crate::completion::{Completion, Generated, Reader, TextReader};
use crate::encode::encode;
use crate::error::ApiError;
use crate::models::Ready;
use crate::routes::of_model;
use crate::served::{Served, Target};

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
    target: Target,
    request: Request,
) -> Result<Response, ApiError> {
    let body = match Command::read(&state, target, request).await? {
        Command::Stop { target, id } => stop(&target, &id)?,
        Command::Generate(asked) if asked.parameters.delivery.stream => {
            return Err(ApiError::StreamElsewhere { field: asked.stream_field });
        }
        Command::Generate(asked) => asked.whole(&state).await?,
    };
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into_http())
        .into_response())
}

/// An event for each token, and for an end that comes without one; one event with everything for a request that does not
/// ask for more, and for one that is searched by beams, since the search decides at its end.
///
/// The status is that of the first response, which is waited for.
async fn generate_stream(
    State(state): State<GatewayState>,
    target: Target,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = match Command::read(&state, target, request).await? {
        Command::Stop { target, id } => return Ok(streaming::one(stop(&target, &id)?)),
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
fn stop(target: &Target, id: &str) -> Result<Body, ApiError> {
    if id.is_empty() {
        return Err(ApiError::StopWithoutId);
    }
    target.model.named().cancel(id);
    Ok(reply::empty(&target.name, id))
}

/// What a body asks for.
enum Command {
    Generate(Box<Asked>),
    /// To end the model's running request with this id.
    Stop {
        target: Target,
        id: String,
    },
}

/// A request that was read and found good.
struct Asked {
    target: Target,
    parameters: Parameters,
    /// The model's name for the input that asks for a stream.
    stream_field: &'static str,
    ready: Ready,
    account: Account,
}

impl Command {
    async fn read(
        state: &GatewayState,
        target: Target,
        request: Request,
    ) -> Result<Self, ApiError> {
        let served = target.served;
        let account = Account::open(target.model.page().clone(), served.counted());
        let body = state.bodies().read(request).await?;
        let fields = Fields::read(served, &body)?;
        if served == Served::Llm && fields.field(Key::Stop).flag()? {
            return Ok(Self::Stop { id: fields.id, target });
        }
        let ready = target.model.ready()?;
        let parameters = Parameters::read(&fields, &ready)?;
        let stream_field = fields.field(Key::Stream).name;
        Ok(Self::Generate(Box::new(Asked { target, parameters, stream_field, ready, account })))
    }
}

impl Asked {
    /// Hands it to the engine.
    async fn start(self, state: &GatewayState) -> Result<(Form, Completion), ApiError> {
        let Self { target, parameters, ready, account, .. } = self;
        let Parameters { id: name, max_tokens, search, delivery, scheduling, .. } = parameters;
        let (tokens, text) = match parameters.content {
            Content::Tokens(tokens) => (tokens, None),
            Content::Text { text, stop_words } => {
                let tokens = encode(state, &ready, text).await?;
                (tokens, Some(TextReader { model: ready.text, stop_words }))
            }
        };
        delivery.check_rows(tokens.prompt.len(), max_tokens, &search, &ready.limits)?;
        let (id, engine) = (state.next_id(), target.model.engine());
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
            model_timeout: target.model.request_timeout(),
            named: target.model.named().enter(&name, id, engine),
        };
        let completion = Completion::start(engine, request, reader).await?;
        Ok((Form::new(target, name, &delivery), completion))
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
