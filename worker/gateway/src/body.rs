//! Reading a request's body, up to the limit.

use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use futures_util::StreamExt;

use crate::error::ApiError;

/// How long the rest of a body that is too large is read and thrown away. A client that is still
/// sending when the connection closes would see a reset instead of the answer.
const DRAIN: Duration = Duration::from_secs(2);

/// What is reserved before anything has come.
const FIRST_RESERVE_BYTES: usize = 64 << 10;

/// The whole body as text.
///
/// # Errors
/// If it is longer than `max_bytes`, compressed, cut short, or not UTF-8.
pub(crate) async fn read_text(request: Request, max_bytes: usize) -> Result<String, ApiError> {
    let (parts, body) = request.into_parts();
    refuse_encoded(&parts.headers)?;
    let mut stream = body.into_data_stream();
    let declared: Option<usize> =
        parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|bytes| bytes > max_bytes) {
        // A client that asked first has sent nothing yet, and reading would tell it to begin.
        if !parts.headers.contains_key(EXPECT) {
            drain(stream).await;
        }
        return Err(ApiError::BodyTooLarge { limit: max_bytes });
    }
    let mut bytes = Vec::with_capacity(declared.unwrap_or(0).min(FIRST_RESERVE_BYTES));
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(ApiError::BodyCut)?;
        if bytes.len() + chunk.len() > max_bytes {
            drain(stream).await;
            return Err(ApiError::BodyTooLarge { limit: max_bytes });
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes)
        .map_err(|error| ApiError::BodyNotUtf8 { valid_up_to: error.utf8_error().valid_up_to() })
}

fn refuse_encoded(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
            Err(ApiError::BodyEncoded { encoding })
        }
        _ => Ok(()),
    }
}

async fn drain(mut stream: BodyDataStream) {
    let rest = async { while let Some(Ok(_)) = stream.next().await {} };
    // Late or not, the answer goes out.
    let _ = tokio::time::timeout(DRAIN, rest).await;
}
