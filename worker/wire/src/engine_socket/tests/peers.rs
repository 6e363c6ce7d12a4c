//! Peers of the server that are no proper clients.

use std::borrow::Cow;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tokio::io::AsyncWriteExt;

use super::super::framed::{FrameReader, FrameWriter};
use super::super::message::{FromEngine, ToEngine};
use super::*;
use crate::EngineClient;
use crate::line::{AsyncReader, AsyncWriter};

both_ways! {
    a_bad_frame_ends_its_connection_and_no_other,
    every_damaged_frame_is_survived,
}

/// Tells a child process of a test where to connect.
const CHILD_SOCKET: &str = "SHARDRUN_TEST_SOCKET";

/// A client that the test plays.
pub(super) struct RawClient {
    reader: FrameReader<AsyncReader>,
    writer: FrameWriter<AsyncWriter>,
}

impl RawClient {
    pub(super) async fn connect(served: &Served) -> Self {
        let (reader, writer) = served.halves().await;
        Self { reader: FrameReader::new(reader), writer: FrameWriter::new(writer) }
    }

    pub(super) async fn say(&mut self, message: &ToEngine<'_>) {
        self.writer.push(message).unwrap();
        soon(self.writer.send_all()).await.unwrap();
    }

    pub(super) async fn submit(&mut self, request: Request) {
        self.say(&ToEngine::Submit(Cow::Owned(request))).await;
    }

    pub(super) async fn hear(&mut self) -> FromEngine {
        soon(self.reader.next()).await.unwrap().unwrap()
    }
}

/// What the server says last to a client that sends these bytes and ends.
async fn last_words(served: &Served, bytes: &[u8]) -> Option<String> {
    let (reader, mut writer) = served.halves().await;
    // The server may have closed before it has read all.
    let _ = writer.write_all(bytes).await;
    let _ = writer.shutdown().await;
    let mut reader = FrameReader::new(reader);
    while let Some(message) = soon(reader.next()).await.unwrap() {
        if let FromEngine::Closing { reason } = message {
            return Some(reason);
        }
    }
    None
}

fn frame(message: &ToEngine<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::frame::append(&mut bytes, message, usize::MAX).unwrap();
    bytes
}

async fn a_bad_frame_ends_its_connection_and_no_other(way: Way) {
    let mut served = Served::start(way);
    let client = served.client().await;
    let mut stream = soon(client.submit(request(1, 4))).await.unwrap();
    let (_, sink) = soon(served.said.submitted.recv()).await.unwrap();

    let reason = last_words(&served, &[0xff; 64]).await.unwrap();
    assert_eq!(reason, "bad frame: a message of 4294967295 bytes: at most 8388608 are allowed");
    let reason = last_words(&served, &[3, 0, 0, 0, 0xff, 0xff, 0xff]).await.unwrap();
    assert!(reason.starts_with("bad frame: a message of 3 bytes can't be read: "), "{reason}");
    let mut long = frame(&ToEngine::Pong);
    long[0] += 2;
    long.extend([0, 0]);
    let reason = last_words(&served, &long).await.unwrap();
    assert_eq!(reason, "bad frame: a message of 3 bytes has 2 bytes too many");
    // A request whose prompt claims 2^32 - 1 tokens.
    let reason = last_words(&served, &[8, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]).await;
    assert!(reason.unwrap().starts_with("bad frame: a message of 8 bytes can't be read: "));
    let submit = frame(&ToEngine::Submit(Cow::Owned(request(1, 4))));
    let reason = last_words(&served, &submit[..submit.len() - 1]).await.unwrap();
    assert_eq!(reason, "bad frame: the stream ended within it");
    let reason = last_words(&served, &[submit.clone(), submit].concat()).await.unwrap();
    assert_eq!(reason, "bad frame: request 1 is submitted again before its end");
    assert_eq!(last_words(&served, &[]).await, None);

    push(&sink, [1]);
    finish(&sink);
    assert_eq!(read_all(&mut stream).await, (vec![1], true));
}

async fn every_damaged_frame_is_survived(way: Way) {
    let served = Served::start(way);
    let mut asked = request(1, 4);
    asked.stop_words = vec![vec![1, 2], vec![3]];
    asked.cache_salt = Some("salt".into());
    let whole = frame(&ToEngine::Submit(Cow::Owned(asked)));
    for at in 0..whole.len() {
        for damage in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= damage;
            last_words(&served, &damaged).await;
        }
    }
    let _stream = soon(served.client().await.submit(request(1, 4))).await.unwrap();
}

#[tokio::test]
async fn frames_come_in_any_pieces() {
    let (here, there) = tokio::io::duplex(1);
    let mut writer = FrameWriter::new(there);
    let sender = async {
        for id in 0..300 {
            writer.push(&ToEngine::Cancel(RequestId(id))).unwrap();
        }
        writer.send_all().await.unwrap();
        drop(writer);
    };
    let receiver = async {
        let mut reader = FrameReader::new(here);
        let mut heard = 0;
        while let Some(message) = reader.next::<ToEngine<'_>>().await.unwrap() {
            assert!(matches!(message, ToEngine::Cancel(RequestId(id)) if id == heard));
            heard += 1;
        }
        heard
    };
    assert_eq!(soon(async { tokio::join!(sender, receiver).1 }).await, 300);
}

/// The other half of the next test, which runs it as another user.
#[test]
#[ignore = "runs as a child of another test"]
fn child_of_another_user() {
    let path = std::env::var_os(CHILD_SOCKET).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    let mut heard = Vec::new();
    // The server may have closed it before it could be read.
    let _ = stream.read_to_end(&mut heard);
    assert!(heard.is_empty(), "the server spoke to a stranger");
}

#[tokio::test]
async fn another_users_process_is_not_spoken_to() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can run a process as another user");
        return;
    }
    let served = Served::start(Way::Socket);
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // The folder and the socket's mode keep others away by themselves.
    allow(served.folder.path(), 0o711);
    allow(&served.path(), 0o666);
    let program = served.folder.path().join("child");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    allow(&program, 0o755);
    let run = |user: u32| {
        let mut child = Command::new(&program);
        child.args(["--ignored", "--exact", "engine_socket::tests::peers::child_of_another_user"]);
        child.env(CHILD_SOCKET, served.path()).current_dir("/").uid(user).gid(user);
        tokio::task::spawn_blocking(move || child.output().unwrap())
    };
    let output = soon(run(65534)).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let _stream = soon(served.client().await.submit(request(1, 1))).await.unwrap();
}
