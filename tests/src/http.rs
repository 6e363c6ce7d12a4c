//! Clients of a deployment: an ordinary HTTP library, and sockets where bytes matter.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use ureq::Agent;

use crate::deployment::Ready;
use crate::metrics::Exposition;

/// The longest that any one request of a test takes.
const REQUEST: Duration = Duration::from_secs(60);

/// A client of one deployment; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    agent: Agent,
    ready: Ready,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The content type; empty if there is none.
    pub content_type: String,
    /// The whole body.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// If it isn't.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {self:?}"))
    }

    /// The sentence of an error's body, which holds nothing else.
    ///
    /// # Errors
    /// If the body is no error's.
    pub fn error(&self) -> anyhow::Result<String> {
        let body = self.json()?;
        let members = body.as_object().filter(|members| members.len() == 1);
        let error = members.and_then(|members| members["error"].as_str());
        Ok(error.with_context(|| format!("no error: {self:?}"))?.to_owned())
    }
}

impl Client {
    /// A client of what is at these addresses.
    #[must_use]
    pub fn new(ready: Ready) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_idle_connections(64)
            .max_idle_connections_per_host(64)
            .timeout_global(Some(REQUEST));
        Self { agent: config.build().into(), ready }
    }

    /// Where the API is, `host:port`.
    #[must_use]
    pub fn http(&self) -> &str {
        &self.ready.http
    }

    /// Where the metrics are, `host:port`.
    #[must_use]
    pub fn metrics_address(&self) -> &str {
        &self.ready.metrics
    }

    /// GET of a path.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get(&self, path: &str) -> anyhow::Result<Reply> {
        let response = self.agent.get(format!("http://{}{path}", self.ready.http)).call();
        whole(response.with_context(|| format!("GET {path}"))?)
    }

    /// POST of a body to a path.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> anyhow::Result<Reply> {
        let request = self.agent.post(format!("http://{}{path}", self.ready.http));
        let response = request.content_type("application/json").send(body.as_ref());
        whole(response.with_context(|| format!("POST {path}"))?)
    }

    /// The whole answer of a model to a request.
    ///
    /// # Errors
    /// If it is another than 200.
    pub fn answer(&self, model: &str, request: &Value) -> anyhow::Result<Value> {
        let reply = self.post(&format!("/v2/models/{model}/generate"), request.to_string())?;
        ensure!(reply.status == 200, "{reply:?} to {request}");
        reply.json()
    }

    /// The text that `ensemble` generates for a request.
    ///
    /// # Errors
    /// If the answer is another than 200.
    pub fn generate(&self, request: &Value) -> anyhow::Result<String> {
        let body = self.answer("ensemble", request)?;
        Ok(body["text_output"].as_str().context("text_output is text")?.to_owned())
    }

    /// What `ensemble` streams for a request, to which `"stream": true` is added.
    ///
    /// # Errors
    /// If the answer is another than 200.
    pub fn stream(&self, request: &Value) -> anyhow::Result<Events> {
        self.stream_of("ensemble", request)
    }

    /// What a model streams for a request, to which `"stream": true` is added.
    ///
    /// # Errors
    /// As [`Client::stream`].
    pub fn stream_of(&self, model: &str, request: &Value) -> anyhow::Result<Events> {
        let mut request = request.clone();
        request["stream"] = true.into();
        let path = format!("http://{}/v2/models/{model}/generate_stream", self.ready.http);
        let mut response = self.agent.post(path).send(request.to_string().as_bytes())?;
        if response.status() != 200 {
            bail!("{} {} to {request}", response.status(), response.body_mut().read_to_string()?);
        }
        let reader: Box<dyn Read + Send> = Box::new(response.into_body().into_reader());
        Ok(Events { lines: BufReader::new(reader) })
    }

    /// GET of a path where the metrics are.
    ///
    /// # Errors
    /// If the answer is another than 200.
    pub fn observe(&self, path: &str) -> anyhow::Result<Reply> {
        let response = self.agent.get(format!("http://{}{path}", self.ready.metrics)).call();
        let reply = whole(response.with_context(|| format!("GET {path}"))?)?;
        ensure!(reply.status == 200, "{reply:?}");
        Ok(reply)
    }

    /// What `/metrics` says now.
    ///
    /// # Errors
    /// If it isn't in the strict text format.
    pub fn metrics(&self) -> anyhow::Result<Exposition> {
        let reply = self.observe("/metrics")?;
        Exposition::parse(&reply.body)
    }
}

fn whole(mut response: ureq::http::Response<ureq::Body>) -> anyhow::Result<Reply> {
    let content_type = response.headers().get("content-type");
    let content_type = content_type.map(|value| value.to_str().map(str::to_owned)).transpose()?;
    Ok(Reply {
        status: response.status().as_u16(),
        content_type: content_type.unwrap_or_default(),
        body: response.body_mut().read_to_string().context("the answer was cut short")?,
    })
}

/// A stream's events as they come. Dropping it closes the connection.
pub struct Events {
    lines: BufReader<Box<dyn Read + Send>>,
}

impl Events {
    /// The next event; `None` after the last.
    ///
    /// # Errors
    /// If the stream is cut.
    pub fn next_event(&mut self) -> anyhow::Result<Option<Value>> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).context("the stream was cut")? == 0 {
            return Ok(None);
        }
        let mut blank = String::new();
        self.lines.read_line(&mut blank)?;
        let data = line.strip_prefix("data: ").filter(|_| blank == "\n");
        let data = data.with_context(|| format!("no event: {line:?} and {blank:?}"))?;
        Ok(Some(serde_json::from_str(data)?))
    }

    /// The next event's text; `None` after the last.
    ///
    /// # Errors
    /// If the stream is cut, or says that something went wrong.
    pub fn next_text(&mut self) -> anyhow::Result<Option<String>> {
        let Some(event) = self.next_event()? else { return Ok(None) };
        let text = event["text_output"].as_str();
        Ok(Some(text.with_context(|| format!("an event without text: {event}"))?.to_owned()))
    }

    /// The texts of all events that are still to come.
    ///
    /// # Errors
    /// As [`Events::next_text`].
    pub fn rest(&mut self) -> anyhow::Result<Vec<String>> {
        let mut texts = Vec::new();
        while let Some(text) = self.next_text()? {
            texts.push(text);
        }
        Ok(texts)
    }
}

/// An answer byte by byte.
#[derive(Debug)]
pub struct RawReply {
    /// Status line and headers, with their ends of lines.
    pub head: String,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
}

impl RawReply {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// Sends `bytes` to `address` as they are and reads the answer until the server closes.
///
/// # Errors
/// If there is no answer, or it is no HTTP.
pub fn raw_request(address: &str, bytes: &[u8]) -> anyhow::Result<RawReply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(REQUEST))?;
    stream.set_write_timeout(Some(REQUEST))?;
    stream.write_all(bytes)?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).context("reading the answer")?;
    let end = all.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.with_context(|| format!("no head in {:?}", String::from_utf8_lossy(&all)))?;
    let body = all.split_off(end + 4);
    let mut reply = RawReply { head: String::from_utf8(all)?, body };
    if reply.header("transfer-encoding") == Some("chunked") {
        reply.body = out_of_chunks(&reply.body)?;
    }
    Ok(reply)
}

fn out_of_chunks(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").context("a chunk has a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line])?, 16)?;
        rest = &rest[line + 2..];
        ensure!(rest.len() >= size + 2 && &rest[size..size + 2] == b"\r\n", "a chunk was cut");
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
        if size == 0 {
            ensure!(rest.is_empty(), "bytes after the last chunk");
            return Ok(body);
        }
    }
}
