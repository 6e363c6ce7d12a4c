//! Sealing and opening records within a Tokio runtime. What waits can be given up at any time without
//! losing a byte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::records::MOST_PLAIN;
use super::{Opener, Sealer};

/// Read at once.
const CHUNK: usize = 64 << 10;

/// The half that the peer's bytes come from.
#[derive(Debug)]
pub(crate) struct PolledReader<R> {
    stream: R,
    opener: Opener,
}

/// The half that bytes go to. A write takes bytes as soon as those before are gone; they have left
/// this process for certain only after a flush, or the shutdown.
#[derive(Debug)]
pub(crate) struct PolledWriter<W> {
    stream: W,
    sealer: Sealer,
    /// `sealed[sent..]` is still to be sent.
    sealed: Vec<u8>,
    sent: usize,
}

impl<R> PolledReader<R> {
    pub(crate) fn new(stream: R, opener: Opener) -> Self {
        Self { stream, opener }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for PolledReader<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, opener } = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let taken = opener.take(out.initialize_unfilled())?;
            if taken > 0 {
                out.advance(taken);
                return Poll::Ready(Ok(()));
            }
            let mut room = ReadBuf::new(opener.room(opener.wanted().max(CHUNK)));
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut room))?;
            match room.filled().len() {
                0 => return Poll::Ready(opener.end()),
                len => opener.came(len),
            }
        }
    }
}

impl<W> PolledWriter<W> {
    pub(crate) fn new(stream: W, sealer: Sealer) -> Self {
        Self { stream, sealer, sealed: Vec::new(), sent: 0 }
    }
}

impl<W: AsyncWrite + Unpin> PolledWriter<W> {
    /// Sends what is sealed.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.sealed.len() {
            let unsent = &self.sealed[self.sent..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.sent += len,
            }
        }
        self.sealed.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for PolledWriter<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        plain: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        let plain = &plain[..plain.len().min(MOST_PLAIN)];
        this.sealer.seal(plain, &mut this.sealed)?;
        // From here on these bytes are taken, whether they go at once or not.
        match this.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(plain.len())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
