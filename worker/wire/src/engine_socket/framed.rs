//! Frames on the two halves of a stream. What waits here can be given up at any time without losing a
//! byte.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{HIGH_WATER, LONGEST_FRAME};
use crate::{SocketError, frame};

/// Read at once; what is kept of the buffer while nothing is in it.
const CHUNK: usize = 64 << 10;

/// The half that frames come from.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    /// Grows with what has come, never with what a frame claims to be.
    bytes: Vec<u8>,
    /// Of those, bytes that were decoded.
    used: usize,
}

/// The half that frames go to.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    stream: W,
    bytes: Vec<u8>,
    /// Of those, bytes that were sent.
    sent: usize,
    /// Whether the stream may have kept some of what was sent.
    unflushed: bool,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, bytes: Vec::new(), used: 0 }
    }

    /// The next message; `None` when the peer is gone.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, SocketError> {
        loop {
            if let Some(message) = self.decode()? {
                return Ok(Some(message));
            }
            self.bytes.drain(..self.used);
            self.used = 0;
            if self.bytes.is_empty() {
                self.bytes.shrink_to(CHUNK);
            }
            self.bytes.reserve(CHUNK);
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) if self.bytes.is_empty() => return Ok(None),
                Ok(0) => return Err(SocketError::nonsense("the stream ended within it")),
                Ok(_) => {}
                // The peer ended without having read everything.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until the peer is gone; what it still says is not listened to.
    pub(super) async fn gone(&mut self) {
        self.bytes.resize(CHUNK, 0);
        while self.stream.read(&mut self.bytes).await.is_ok_and(|len| len > 0) {}
    }

    /// The message at the front, if all of it is there.
    fn decode<T: DeserializeOwned>(&mut self) -> Result<Option<T>, SocketError> {
        let Some((header, rest)) = self.bytes[self.used..].split_first_chunk() else {
            return Ok(None);
        };
        let len = frame::message_len(*header, LONGEST_FRAME)?;
        let Some(message) = rest.get(..len) else { return Ok(None) };
        let message = frame::decode(message)?;
        self.used += frame::HEADER + len;
        Ok(Some(message))
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(stream: W) -> Self {
        Self { stream, bytes: Vec::new(), sent: 0, unflushed: false }
    }

    /// Queues a message.
    pub(super) fn push(&mut self, message: &impl Serialize) -> Result<(), SocketError> {
        Ok(frame::append(&mut self.bytes, message, LONGEST_FRAME)?)
    }

    /// Queues frames.
    pub(super) fn push_frames(&mut self, frames: &[u8]) {
        self.bytes.extend_from_slice(frames);
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.unflushed
    }

    /// Whether more should be queued.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < HIGH_WATER
    }

    /// Forgets what was queued.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        self.unflushed = false;
    }

    /// Sends some of what was queued, as much as the peer takes.
    pub(super) async fn send_some(&mut self) -> io::Result<()> {
        if self.sent < self.bytes.len() {
            let sent = self.stream.write(&self.bytes[self.sent..]).await?;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.sent += sent;
            self.unflushed = true;
        }
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            self.stream.flush().await?;
            self.unflushed = false;
        } else if self.sent >= HIGH_WATER {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Sends all that was queued.
    pub(super) async fn send_all(&mut self) -> io::Result<()> {
        while !self.is_empty() {
            self.send_some().await?;
        }
        Ok(())
    }

    /// Tells the peer that nothing more comes.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
