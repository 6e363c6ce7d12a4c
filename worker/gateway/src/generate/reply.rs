//! The response object, alone or as an event.

use std::convert::Infallible;

use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde::Serialize;

use crate::error::ApiError;
use crate::served::{Served, VERSION};

/// One response. The sequence fields are there because the reference's ensembles have them.
#[derive(Serialize)]
pub(super) struct Reply<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    model_name: &'static str,
    model_version: &'static str,
    sequence_id: u64,
    sequence_start: bool,
    sequence_end: bool,
    text_output: &'a str,
}

impl<'a> Reply<'a> {
    pub(super) fn new(served: Served, id: &'a str, text_output: &'a str) -> Self {
        Self {
            id,
            model_name: served.name(),
            model_version: VERSION,
            sequence_id: 0,
            sequence_start: false,
            sequence_end: false,
            text_output,
        }
    }

    pub(super) fn event(&self) -> Event {
        event(self)
    }
}

/// An error after the first response: the status has been sent.
pub(super) fn error_event(error: &ApiError) -> Event {
    event(&error.body())
}

fn event(data: &impl Serialize) -> Event {
    Event::default().json_data(data).expect("strings and numbers are always JSON")
}

/// A response of events; ends without a last marker, as in the reference.
pub(super) fn events<S>(events: S) -> Response
where
    S: Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let mut response = Sse::new(events).into_response();
    let content_type = HeaderValue::from_static("text/event-stream; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
