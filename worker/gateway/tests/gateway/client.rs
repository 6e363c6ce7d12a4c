//! An HTTP client that shows every byte.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A response, its body taken out of its chunks.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// The text of an error body, which has nothing else.
    pub(crate) fn error(&self) -> String {
        let body = self.json();
        let members = body.as_object().unwrap();
        assert_eq!(members.len(), 1, "{self:?}");
        members["error"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn parse(bytes: &[u8]) -> Self {
        let at = find(bytes, b"\r\n\r\n").unwrap_or_else(|| panic!("no head in {bytes:?}"));
        let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = bytes[at + 4..].to_vec();
        let mut reply = Self { status, head, body: String::new() };
        let chunked = reply.header("transfer-encoding") == Some("chunked");
        reply.body = String::from_utf8(if chunked { unchunk(&body) } else { body }).unwrap();
        reply
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let at = find(bytes, b"\r\n").unwrap();
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16).unwrap();
        if len == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[at + 2..][..len]);
        bytes = &bytes[at + 2 + len + 2..];
    }
}

/// Sends `head` lines and a body on a connection of its own.
pub(crate) async fn send(address: SocketAddr, head: &str, body: &[u8]) -> Reply {
    let mut stream = open(address, head, body).await;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    Reply::parse(&bytes)
}

/// Sends a request and leaves the answer to be read.
pub(crate) async fn open(address: SocketAddr, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{head} HTTP/1.1\r\nHost: it\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, &format!("GET {path}"), b"").await
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: impl AsRef<[u8]>) -> Reply {
    send(address, &format!("POST {path}"), body.as_ref()).await
}

/// Reads until `what` has come; gives all of it.
pub(crate) async fn read_until(stream: &mut TcpStream, what: &str) -> String {
    let mut bytes = Vec::new();
    while find(&bytes, what.as_bytes()).is_none() {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "ended before {what:?}: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(bytes).unwrap()
}
