//! What a client is told when something is wrong.

use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{ACCEPT_ENCODING, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shardrun_wire::Refused;
use thiserror::Error;

use crate::RepositoryError;

/// Why a request has no answer.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    #[error("{path} is not a path of this server")]
    UnknownPath { path: String },
    #[error("Method Not Allowed")]
    MethodNotAllowed,
    #[error("Request for unknown model: '{model}' is not found{}", listed(names))]
    UnknownModel { model: String, names: Vec<String> },
    #[error("Request for unknown model: '{model}' version {version} is not found")]
    UnknownVersion { model: String, version: String },
    #[error("the request body has more than {limit} bytes (server.max_body_bytes)")]
    BodyTooLarge { limit: usize },
    #[error(
        "nothing came of the request body for {seconds} seconds, the longest that it may pause"
    )]
    BodyLate { seconds: f64 },
    #[error(
        "the request bodies that are here take {held} bytes, and together they may take {limit}: \
         {bodies} times server.max_body_bytes; please try again later"
    )]
    BodiesTooLarge { held: usize, limit: usize, bodies: usize },
    #[error("Content-Encoding is {encoding}: only identity is supported")]
    BodyEncoded { encoding: String },
    #[error("the request body ended early: {0}")]
    BodyCut(#[source] axum::Error),
    #[error("the request body is not valid UTF-8 after byte {valid_up_to}")]
    BodyNotUtf8 { valid_up_to: usize },
    #[error("the request body is not valid JSON: {0}")]
    BadJson(#[source] serde_json::Error),
    #[error("the request body is {kind}: expected a JSON object of inputs")]
    NotInputs { kind: &'static str },
    #[error("Expected JSON object for keyword: 'parameters', not {kind}")]
    NotParameters { kind: &'static str },
    #[error("the request has an object of more than {limit} members")]
    TooManyMembers { limit: usize },
    #[error(
        "{name} is an array, an object or null: a request parameter is a string, a number or a bool"
    )]
    NotAParameter { name: String },
    #[error("input '{field}' is missing")]
    Missing { field: &'static str },
    #[error("{field} is {value}: expected {allowed}")]
    Invalid { field: &'static str, value: String, allowed: String },
    #[error(
        "The schema can not convert input '{field}' to tensor with proper shape: it has {count} \
         elements, and a request is one prompt"
    )]
    BadShape { field: &'static str, count: usize },
    #[error("{field} is {value}: this server only takes {accepted}")]
    Unsupported { field: &'static str, value: String, accepted: &'static str },
    #[error(
        "generate expects model to produce exactly 1 response, use generate stream for model that \
         generates various number of responses ({field} is true: expected false)"
    )]
    StreamElsewhere { field: &'static str },
    #[error("Trying to stop a request but request ID is not provided")]
    StopWithoutId,
    #[error("{field} cannot be tokenised: {source}")]
    Tokenize { field: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "the first {bytes} bytes of text_input alone have {tokens} tokens: more than the context \
         of {limit} tokens"
    )]
    PromptTooLong { bytes: usize, tokens: usize, limit: u32 },
    #[error("text_input has no tokens")]
    EmptyPrompt,
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the request was cancelled")]
    Cancelled,
    #[error("the request was not finished within {limit}")]
    TimedOut { limit: TimeLimit },
    #[error("Request timeout expired")]
    Expired,
    #[error("the engine could not finish the request: {0}")]
    EngineFailed(String),
    #[error("the engine ended before the request was finished")]
    EngineLost,
    #[error("the engine has ended{}", because(reason.as_deref()))]
    EngineStopped { reason: Option<String> },
    #[error("no random seed could be drawn: {0}")]
    NoSeed(#[source] getrandom::Error),
    #[error("tokenising failed within the server")]
    TokenizeFailed,
    #[error("collecting the metrics failed within the server")]
    ScrapeFailed,
    #[error("the request body is {kind}: expected a JSON object")]
    NotAnObject { kind: &'static str },
    #[error("{action} parameter '{name}' can't be taken: {why}")]
    RepositoryParameter { action: &'static str, name: String, why: &'static str },
    #[error(
        "failed to {action} '{model}', explicit model load / unload is not allowed: in leader mode \
         the ranks are started with their one model, and end with it"
    )]
    NoRepository { action: &'static str, model: String },
    #[error("failed to {action} '{model}', {source}")]
    Repository { action: &'static str, model: String, source: RepositoryError },
    #[error("failed to {action} '{model}' within the server")]
    RepositoryPanicked { action: &'static str, model: String },
}

/// Whose time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeLimit {
    /// What the request asked for.
    Request(Duration),
    /// What its model gives to requests that ask for none.
    Model(Duration),
    /// The engine's own.
    Engine,
}

impl TimeLimit {
    /// Of a request, by its own timeout and its model's.
    pub(crate) fn of(request: Option<Duration>, model: Option<Duration>) -> Self {
        request.map(Self::Request).or(model.map(Self::Model)).unwrap_or(Self::Engine)
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(limit) => write!(f, "its timeout of {} microseconds", limit.as_micros()),
            Self::Model(limit) => write!(
                f,
                "the model's timeout of {} milliseconds (model.request_timeout_ms)",
                limit.as_millis()
            ),
            Self::Engine => f.write_str("the engine's timeout"),
        }
    }
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

/// The names that a client could have meant.
fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; there are {}", names.join(", ")),
    }
}

impl ApiError {
    /// The one place that maps errors to statuses; the reference's table, but for a full queue,
    /// which is 503 so that clients know to come back.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::UnknownPath { .. } | Self::UnknownModel { .. } | Self::UnknownVersion { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::Repository { source, .. } => match source {
                RepositoryError::Unknown { .. } => StatusCode::NOT_FOUND,
                RepositoryError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
                RepositoryError::Refused { .. } => StatusCode::BAD_REQUEST,
                RepositoryError::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyLate { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyEncoded { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyCut(_)
            | Self::BodyNotUtf8 { .. }
            | Self::BadJson(_)
            | Self::NotInputs { .. }
            | Self::NotParameters { .. }
            | Self::TooManyMembers { .. }
            | Self::NotAParameter { .. }
            | Self::Missing { .. }
            | Self::Invalid { .. }
            | Self::BadShape { .. }
            | Self::Unsupported { .. }
            | Self::StreamElsewhere { .. }
            | Self::StopWithoutId
            | Self::Tokenize { .. }
            | Self::PromptTooLong { .. }
            | Self::EmptyPrompt
            | Self::Cancelled
            | Self::NotAnObject { .. }
            | Self::RepositoryParameter { .. }
            | Self::NoRepository { .. }
            | Self::Refused(
                Refused::TooLong { .. } | Refused::CacheTooSmall { .. } | Refused::Invalid { .. },
            ) => StatusCode::BAD_REQUEST,
            Self::Refused(
                Refused::QueueFull { .. }
                | Refused::Loading
                | Refused::Draining
                | Refused::Unreachable { .. },
            )
            | Self::Expired
            | Self::BodiesTooLarge { .. }
            | Self::EngineStopped { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::EngineFailed(_)
            | Self::EngineLost
            | Self::NoSeed(_)
            | Self::TokenizeFailed
            | Self::ScrapeFailed
            | Self::RepositoryPanicked { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The body of every error.
#[derive(Serialize)]
struct ErrorBody {
    error: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(error = %self, "a request failed");
        } else {
            tracing::debug!(error = %self, %status, "a request was refused");
        }
        let mut response = (status, Json(ErrorBody { error: self.to_string() })).into_response();
        if matches!(self, Self::BodyEncoded { .. }) {
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        response
    }
}
