//! Servers that say what a client must not believe.

use tokio::io::{DuplexStream, ReadHalf, WriteHalf};

use super::super::framed::{FrameReader, FrameWriter};
use super::super::message::{FromEngine, LogitsPiece, PROTOCOL, Status, ToEngine};
use super::engine::LIMITS;
use super::*;
use crate::{EngineClient, EngineState, Logits, LogitsOf, Refused, Search};

/// A server that the test plays, and its client.
struct Played {
    reader: FrameReader<ReadHalf<DuplexStream>>,
    writer: FrameWriter<WriteHalf<DuplexStream>>,
    client: Arc<SocketEngine>,
}

const ID: RequestId = RequestId(1);

async fn greet(first: FromEngine) -> Result<Played, SocketError> {
    let (here, there) = tokio::io::duplex(1 << 20);
    let (reader, writer) = tokio::io::split(here);
    let mut writer = FrameWriter::new(writer);
    let status = Status { state: EngineState::Ready, limits: Some(LIMITS) };
    writer.push(&first).unwrap();
    writer.push(&FromEngine::Status(status)).unwrap();
    soon(writer.send_all()).await.unwrap();
    let (there_reader, there_writer) = tokio::io::split(there);
    let client = soon(SocketEngine::over(there_reader, there_writer, PATIENCE)).await?;
    Ok(Played { reader: FrameReader::new(reader), writer, client: Arc::new(client) })
}

impl Played {
    async fn start() -> Self {
        greet(FromEngine::Hello { protocol: PROTOCOL }).await.unwrap()
    }

    async fn say(&mut self, message: FromEngine) {
        self.writer.push(&message).unwrap();
        soon(self.writer.send_all()).await.unwrap();
    }

    async fn hear(&mut self) -> ToEngine<'static> {
        soon(self.reader.next()).await.unwrap().unwrap()
    }

    /// A request that the server has accepted.
    async fn accept(&mut self, request: Request) -> OutputStream {
        let id = request.id;
        let client = self.client.clone();
        let submission = tokio::spawn(async move { client.submit(request).await });
        assert!(matches!(self.hear().await, ToEngine::Submit(_)));
        self.say(FromEngine::Accepted(id)).await;
        soon(submission).await.unwrap().unwrap()
    }

    async fn tokens(&mut self, index: u32, tokens: &[u32]) {
        let log_probs = Vec::new();
        let tokens = Tokens { sequence: 0, index, tokens: tokens.to_vec(), log_probs };
        self.say(FromEngine::Tokens(ID, tokens)).await;
    }

    /// The client has lost the request, said so, and goes on.
    async fn assert_lost(&mut self, stream: &mut OutputStream) {
        while soon(stream.next()).await.is_some() {}
        assert!(!stream.is_finished());
        assert!(matches!(self.hear().await, ToEngine::Cancel(ID)));
        self.tokens(0, &[1, 2]).await;
        self.say(FromEngine::End(ID)).await;
        self.say(FromEngine::Ping).await;
        assert!(matches!(self.hear().await, ToEngine::Pong));
    }
}

#[tokio::test]
async fn tokens_that_are_there_are_dropped_and_a_gap_loses_the_request() {
    let mut played = Played::start().await;
    let mut stream = played.accept(request(1, 100)).await;
    played.tokens(0, &[10, 11, 12]).await;
    played.tokens(1, &[99, 99]).await;
    played.tokens(2, &[99, 13]).await;
    played.tokens(4, &[14]).await;
    let mut all = Vec::new();
    while all.len() < 5 {
        let Some(Output::Tokens(tokens)) = soon(stream.next()).await else { panic!() };
        assert_eq!(tokens.index as usize, all.len());
        all.extend(tokens.tokens);
    }
    assert_eq!(all, [10, 11, 12, 13, 14]);
    played.tokens(6, &[16]).await;
    played.assert_lost(&mut stream).await;
}

#[tokio::test]
async fn outputs_that_do_not_fit_their_request_lose_it_alone() {
    let mut played = Played::start().await;
    let context = LogitsOf::Context { position: 0 };
    let of_token = LogitsOf::Generation { sequence: 0, index: 0 };
    let most = u64::from(LIMITS.max_logits_rows) * u64::from(LIMITS.vocab_size);
    let piece = |of, len, count| LogitsPiece { of, len, values: vec![0.0; count] };
    let tokens = |sequence, log_probs: &[f32]| {
        let log_probs = log_probs.to_vec();
        FromEngine::Tokens(ID, Tokens { sequence, index: 0, tokens: vec![1], log_probs })
    };
    let cases = [
        vec![tokens(1, &[])],
        vec![tokens(0, &[-1.0])],
        vec![FromEngine::Finished(ID, finished(1))],
        vec![FromEngine::Logits(ID, piece(context, 1, 2))],
        vec![
            FromEngine::Logits(ID, piece(context, 2, 1)),
            FromEngine::Logits(ID, piece(of_token, 2, 1)),
        ],
        (0..=most / 100_000)
            .map(|_| FromEngine::Logits(ID, piece(context, u64::MAX, 100_000)))
            .collect(),
    ];
    for case in cases {
        let mut stream = played.accept(request(1, 100)).await;
        for message in case {
            played.say(message).await;
        }
        played.assert_lost(&mut stream).await;
    }
}

#[tokio::test]
async fn logits_of_tokens_that_are_there_are_dropped() {
    let mut played = Played::start().await;
    let mut stream = played.accept(request(1, 100)).await;
    let logits = |index| {
        let of = LogitsOf::Generation { sequence: 0, index };
        FromEngine::Logits(ID, LogitsPiece { of, len: 2, values: vec![index as f32; 2] })
    };
    played.say(logits(0)).await;
    played.tokens(0, &[5]).await;
    played.say(logits(0)).await;
    played.say(logits(1)).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Some(Output::Logits(Logits { of, values })) = soon(stream.next()).await {
            let LogitsOf::Generation { index, .. } = of else { panic!() };
            assert_eq!(values, [index as f32; 2]);
            seen.push(index);
        }
    }
    assert_eq!(seen, [0, 1]);
}

#[tokio::test]
async fn a_message_that_makes_no_sense_ends_the_connection() {
    let nonsense = [
        FromEngine::Hello { protocol: PROTOCOL },
        FromEngine::Accepted(RequestId(2)),
        FromEngine::Accepted(ID),
        FromEngine::Refused(ID, Refused::Loading),
        FromEngine::Finished(RequestId(2), finished(0)),
        FromEngine::End(RequestId(2)),
        FromEngine::Taken { call: 0 },
    ];
    for message in nonsense {
        let mut played = Played::start().await;
        let mut stream = played.accept(request(1, 100)).await;
        played.say(message).await;
        assert_eq!(read_all(&mut stream).await, (vec![], false));
        assert_eq!(played.client.state(), EngineState::Stopped);
        let refused = soon(played.client.submit(request(2, 1))).await.unwrap_err().to_string();
        assert!(refused.starts_with("the engine can't be reached: bad frame: "), "{refused}");
    }
}

#[tokio::test]
async fn a_server_of_another_version_or_none_at_all_is_told_apart() {
    let Err(error) = greet(FromEngine::Hello { protocol: PROTOCOL + 1 }).await else { panic!() };
    assert!(matches!(error, SocketError::Version { .. }), "{error}");
    let Err(error) = greet(FromEngine::Ping).await else { panic!() };
    assert!(matches!(error, SocketError::BadFrame { .. }), "{error}");
    let (here, there) = tokio::io::duplex(1 << 10);
    let (reader, writer) = tokio::io::split(there);
    let patience = Duration::from_millis(10);
    let Err(error) = SocketEngine::over(reader, writer, patience).await else { panic!() };
    assert!(matches!(error, SocketError::Silent { .. }), "{error}");
    drop(here);
    let nowhere = tempfile::tempdir().unwrap().path().join("engine");
    let error = soon(SocketEngine::connect(&nowhere)).await.unwrap_err();
    assert!(matches!(error, SocketError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn a_request_with_all_its_sequences_resumed_as_finished_just_ends() {
    let mut played = Played::start().await;
    let mut asked = request(1, 100);
    asked.search = Search::ONE;
    asked.resume = vec![crate::Resumed { tokens: vec![1], finished: true }];
    let mut stream = played.accept(asked).await;
    played.say(FromEngine::End(ID)).await;
    assert_eq!(soon(stream.next()).await, None);
    assert!(stream.is_finished());
}
