//! Reading a request's body, within bounds of its size, its time, and what all bodies take together.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::error::ApiError;

/// How long the rest of a body that is too large is read and thrown away. A client that is still
/// sending when the connection closes would see a reset instead of the answer.
const DRAIN: Duration = Duration::from_secs(2);

/// What is reserved before anything has come.
const FIRST_RESERVE_BYTES: usize = 64 << 10;

/// So many bodies of the largest size may be held at once.
const LARGEST_BODIES: usize = 4;

/// Bounds of request bodies.
pub(crate) struct Bodies {
    /// Of one body, in bytes.
    largest: usize,
    /// How long a body may pause.
    pause: Duration,
    /// Bytes that all bodies take now.
    held: Arc<AtomicUsize>,
}

/// A body as text; takes its part of what all bodies may take, as long as it is there.
pub(crate) struct Text {
    text: String,
    _share: Share,
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// A body's part of what all of them may take.
struct Share {
    held: Arc<AtomicUsize>,
    most: usize,
    bytes: usize,
}

impl Bodies {
    /// Bodies of up to `largest` bytes, of which something comes at least every `pause`.
    pub(crate) fn new(largest: usize, pause: Duration) -> Self {
        Self { largest, pause, held: Arc::default() }
    }

    /// The whole body of `request`.
    ///
    /// # Errors
    /// If it is too long, compressed, cut short, or not UTF-8, if nothing came of it for too long, or if
    /// all bodies together would take too much.
    pub(crate) async fn read(&self, request: Request) -> Result<Text, ApiError> {
        let (parts, body) = request.into_parts();
        refuse_encoded(&parts.headers)?;
        let mut stream = body.into_data_stream();
        let limit = self.largest;
        let declared: Option<usize> =
            parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|bytes| bytes > limit) {
            // A client that asked first has sent nothing yet, and reading would tell it to begin.
            if !parts.headers.contains_key(EXPECT) {
                drain(stream).await;
            }
            return Err(ApiError::BodyTooLarge { limit });
        }
        let mut share = self.share();
        let mut bytes = Vec::with_capacity(declared.unwrap_or(0).min(FIRST_RESERVE_BYTES));
        loop {
            let paused = |_| ApiError::BodyLate { seconds: self.pause.as_secs_f64() };
            let Some(chunk) = timeout(self.pause, stream.next()).await.map_err(paused)? else {
                break;
            };
            let chunk = chunk.map_err(ApiError::BodyCut)?;
            let room = match bytes.len() + chunk.len() > limit {
                true => Err(ApiError::BodyTooLarge { limit }),
                false => share.grow(chunk.len()),
            };
            if let Err(error) = room {
                drop((bytes, share));
                drain(stream).await;
                return Err(error);
            }
            bytes.extend_from_slice(&chunk);
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Text { text, _share: share }),
            Err(error) => {
                Err(ApiError::BodyNotUtf8 { valid_up_to: error.utf8_error().valid_up_to() })
            }
        }
    }

    fn share(&self) -> Share {
        let most = self.largest.saturating_mul(LARGEST_BODIES);
        Share { held: self.held.clone(), most, bytes: 0 }
    }
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let limit = self.most;
        let more = |held: usize| held.checked_add(bytes).filter(|&held| held <= limit);
        let full = |held| ApiError::BodiesTooLarge { held, limit, bodies: LARGEST_BODIES };
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(full)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
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
    let _ = timeout(DRAIN, rest).await;
}
