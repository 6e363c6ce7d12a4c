//! Within a runtime.

use std::io;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

/// One direction, over a stream with room for `room` bytes.
fn direction(room: usize) -> (PolledWriter<DuplexStream>, PolledReader<DuplexStream>) {
    let ((sealer, _), (_, opener)) = ends(&secret());
    let (here, there) = duplex(room);
    (PolledWriter::new(here, sealer), PolledReader::new(there, opener))
}

#[tokio::test]
async fn waiting_can_be_given_up_at_any_time() {
    let text = bytes(300_000);
    for room in [1, 7, 1000, 100_000] {
        let (mut writer, mut reader) = direction(room);
        let (mut sent, mut out, mut flushed) = (0, Vec::new(), false);
        while out.len() < text.len() || !flushed {
            // Each of these futures is dropped where it would have waited.
            if sent < text.len() {
                let end = text.len().min(sent + 100_000);
                if let Some(len) = writer.write(&text[sent..end]).now_or_never() {
                    sent += len.unwrap();
                }
            } else if !flushed {
                flushed = writer.flush().now_or_never().is_some();
            }
            // The runtime lets a task that never waits do only so much.
            tokio::task::yield_now().await;
            while let Some(len) = reader.read_buf(&mut out).now_or_never() {
                assert!(len.unwrap() > 0);
            }
        }
        assert!(out == text, "with room for {room}");
    }
}

#[tokio::test]
async fn a_flush_waits_until_all_is_on_its_way() {
    let (mut writer, mut reader) = direction(10);
    assert_eq!(writer.write(b"hello").now_or_never().unwrap().unwrap(), 5);
    assert!(writer.flush().now_or_never().is_none());
    let mut out = [0; 5];
    assert!(reader.read_exact(&mut out).now_or_never().is_none());
    let (flushed, read) = tokio::join!(writer.flush(), reader.read(&mut out));
    flushed.unwrap();
    assert_eq!((read.unwrap(), &out), (5, b"hello"));
}

#[tokio::test]
async fn an_orderly_end_loses_nothing_and_is_seen_at_once() {
    let (mut writer, mut reader) = direction(100);
    let text = bytes(100_000);
    let send = async {
        writer.write_all(&text).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut out = Vec::new();
    let (_, read) = tokio::join!(send, reader.read_to_end(&mut out));
    read.unwrap();
    assert!(out == text);
    // Still open the other way, so it was the shutdown that told.
    drop(writer);
}

#[tokio::test]
async fn an_end_in_between_is_an_error() {
    let (mut writer, mut reader) = direction(100);
    assert_eq!(writer.write(&bytes(200)).now_or_never().unwrap().unwrap(), 200);
    drop(writer);
    let error = reader.read(&mut [0; 200]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_peer_that_is_gone_is_an_error_to_write_to() {
    let (mut writer, reader) = direction(100);
    drop(reader);
    let error = writer.write_all(b"hello").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
