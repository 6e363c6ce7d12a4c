//! Readers and peers that are slow.

use std::time::Instant;

use super::super::message::{FromEngine, ToEngine};
use super::engine::LIMITS;
use super::peers::RawClient;
use super::*;
use crate::{EngineClient, Logits, LogitsOf};

both_ways! {
    a_stream_that_nobody_reads_holds_up_no_other,
    one_requests_logits_and_anothers_tokens_take_turns,
    a_client_that_stops_reading_delays_no_other_and_is_dropped,
    a_stopped_client_is_dropped_though_little_is_sent_to_it,
    a_client_that_has_nothing_to_do_is_kept,
    unanswered_submissions_beyond_the_bound_wait_in_the_socket,
}

/// So short a patience that a test can wait for its end, and longer than a busy machine stalls.
const SHORT: Duration = Duration::from_secs(1);

fn rows(count: u32) -> Logits {
    let values = vec![0.5; (count * LIMITS.vocab_size) as usize];
    Logits { of: LogitsOf::Context { position: 0 }, values }
}

async fn a_stream_that_nobody_reads_holds_up_no_other(way: Way) {
    const STREAMS: u64 = 64;
    const TOKENS: u32 = 200;
    let mut served = Served::start(way);
    let client = served.client().await;
    let mut streams = Vec::new();
    let mut sinks = Vec::new();
    for id in 0..STREAMS {
        streams.push(soon(client.submit(request(id, TOKENS))).await.unwrap());
        sinks.push(soon(served.said.submitted.recv()).await.unwrap().1);
    }
    let mut unread = streams.remove(0);
    let mut readers = tokio::task::JoinSet::new();
    for mut stream in streams {
        readers.spawn(async move { read_all(&mut stream).await });
    }
    for step in 0..TOKENS {
        for (number, sink) in sinks.iter().enumerate() {
            push(sink, [number as u32 * TOKENS + step]);
        }
        tokio::task::yield_now().await;
    }
    sinks.iter().for_each(finish);
    let mut ends: Vec<_> = soon(readers.join_all()).await;
    ends.sort();
    for (number, (all, ended)) in (1..).zip(ends) {
        let first = number * TOKENS;
        assert_eq!((all, ended), ((first..first + TOKENS).collect(), true));
    }
    assert_eq!(read_all(&mut unread).await, ((0..TOKENS).collect(), true));
}

async fn one_requests_logits_and_anothers_tokens_take_turns(way: Way) {
    let mut served = Served::start(way);
    let mut raw = RawClient::connect(&served).await;
    for id in [1, 2] {
        raw.submit(request(id, 100)).await;
    }
    let (_, logits) = soon(served.said.submitted.recv()).await.unwrap();
    let (_, other) = soon(served.said.submitted.recv()).await.unwrap();
    logits.logits(rows(100)); // 20 MB
    logits.publish();
    let mut pieces = 0;
    let mut pieces_before_tokens = None;
    while pieces_before_tokens.is_none() {
        match raw.hear().await {
            FromEngine::Logits(RequestId(1), piece) => {
                assert!(piece.values.len() <= 64 << 10);
                pieces += 1;
                if pieces == 1 {
                    push(&other, [5]);
                }
            }
            FromEngine::Tokens(RequestId(2), _) => pieces_before_tokens = Some(pieces),
            _ => {}
        }
    }
    // What is on the way already: two frames in the server's buffer, less than one in the socket, and
    // what came at once with the first.
    // TCP's buffers hold some more.
    let most = if way == Way::Socket { 6 } else { 60 };
    assert!(pieces_before_tokens <= Some(most), "{pieces_before_tokens:?} of 77");
}

async fn a_client_that_stops_reading_delays_no_other_and_is_dropped(way: Way) {
    let mut served = Served::with_patience(way, SHORT);
    let mut stopped = RawClient::connect(&served).await;
    stopped.submit(request(1, 100)).await;
    let (of_stopped, flood) = soon(served.said.submitted.recv()).await.unwrap();
    flood.logits(rows(100));
    flood.publish();
    let client = served.client().await;
    let mut stream = soon(client.submit(request(1, 1000))).await.unwrap();
    let (_, sink) = soon(served.said.submitted.recv()).await.unwrap();
    let mut worst = Duration::ZERO;
    for index in 0.. {
        let pushed = Instant::now();
        push(&sink, [index]);
        assert_eq!(soon(stream.next()).await, Some(tokens(index, &[index])));
        worst = worst.max(pushed.elapsed());
        if let Ok(id) = served.said.cancelled.try_recv() {
            assert_eq!(id, of_stopped.id);
            assert!(index > 10, "only {index} tokens came meanwhile");
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(worst < SHORT, "a token took {worst:?}");
}

async fn a_stopped_client_is_dropped_though_little_is_sent_to_it(way: Way) {
    let mut served = Served::with_patience(way, SHORT);
    let mut stopped = RawClient::connect(&served).await;
    stopped.submit(request(1, 100)).await;
    let (of_stopped, _sink) = soon(served.said.submitted.recv()).await.unwrap();
    assert_eq!(soon(served.said.cancelled.recv()).await, Some(of_stopped.id));
}

async fn a_client_that_has_nothing_to_do_is_kept(way: Way) {
    let served = Served::with_patience(way, Duration::from_millis(80));
    let client = served.client().await;
    let mut raw = RawClient::connect(&served).await;
    for _ in 0..10 {
        while !matches!(raw.hear().await, FromEngine::Ping) {}
        raw.say(&ToEngine::Pong).await;
    }
    let _stream = soon(client.submit(request(1, 1))).await.unwrap();
}

async fn unanswered_submissions_beyond_the_bound_wait_in_the_socket(way: Way) {
    let mut served = Served::with_patience(way, SHORT);
    let client = Arc::new(served.client().await);
    served.engine.permits.forget_permits(1000);
    let mut submissions = tokio::task::JoinSet::new();
    for id in 0..300 {
        let client = client.clone();
        submissions.spawn(async move { client.submit(request(id, 1)).await.map(drop) });
    }
    // Longer than a client may be silent: one that isn't listened to is not blamed.
    tokio::time::sleep(SHORT * 2).await;
    assert!(served.said.submitted.is_empty());
    served.engine.permits.add_permits(300);
    assert!(soon(submissions.join_all()).await.iter().all(Result::is_ok));
    let mut submitted = Vec::new();
    while let Ok((_, sink)) = served.said.submitted.try_recv() {
        submitted.push(sink);
    }
    assert_eq!(submitted.len(), 300);
}
