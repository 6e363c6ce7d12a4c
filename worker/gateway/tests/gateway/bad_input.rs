//! Input that is refused: its status, its one sentence, and a server that goes on.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{post, read_until, send};
use crate::engine::MAX_SEQ_LEN;
use crate::server::{MAX_BODY_BYTES, Server};

const GENERATE: &str = "/v2/models/ensemble/generate";

const NO_PARAMETER: &str =
    "is an array, an object or null: a request parameter is a string, a number or a bool";

/// Expects 400 and exactly this sentence, from both routes, and nothing at the engine.
async fn refuses(server: &mut Server, body: impl AsRef<[u8]>, text: &str) {
    for path in [GENERATE, "/v2/models/tensorrt_llm_bls/generate_stream"] {
        let reply = post(server.http, path, &body).await;
        let shown = String::from_utf8_lossy(&body.as_ref()[..body.as_ref().len().min(200)]);
        assert_eq!((reply.status, reply.error().as_str()), (400, text), "{path} of {shown}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
    server.no_calls();
}

fn bad_shape(field: &str, count: usize) -> String {
    format!(
        "The schema can not convert input '{field}' to tensor with proper shape: it has {count} \
         elements, and a request is one prompt"
    )
}

/// A good request with these inputs added.
fn with(inputs: &str) -> String {
    format!(r#"{{"text_input":"in","max_tokens":3,{inputs}}}"#)
}

#[tokio::test]
async fn bodies_that_are_no_object() {
    let mut server = Server::start().await;
    let not_json = "the request body is not valid JSON: ";
    let server = &mut server;
    refuses(
        server,
        "{\"text_input\":\n\"a\",,}",
        &format!("{not_json}key must be a string at line 2 column 5"),
    )
    .await;
    refuses(
        server,
        r#"{"text_input":"a"#,
        &format!("{not_json}EOF while parsing a string at line 1 column 16"),
    )
    .await;
    refuses(
        server,
        r#"{"text_input":"a","max_tokens":1}x"#,
        &format!("{not_json}trailing characters at line 1 column 34"),
    )
    .await;
    refuses(server, "words", &format!("{not_json}expected value at line 1 column 1")).await;
    refuses(server, "nonsense", &format!("{not_json}expected ident at line 1 column 2")).await;
    for (body, kind) in [
        ("[1]", "an array"),
        (" \"text\"", "a string"),
        ("-1", "a number"),
        ("true", "a bool"),
        ("null", "null"),
    ] {
        let text = format!("the request body is {kind}: expected a JSON object of inputs");
        refuses(server, body, &text).await;
    }
    refuses(
        server,
        b"{\"text_input\":\"a\xff\"}",
        "the request body is not valid UTF-8 after byte 16",
    )
    .await;
    let members: Vec<String> = (0..257).map(|n| format!("\"p{n}\":1")).collect();
    let text = "the request has an object of more than 256 members";
    refuses(server, format!("{{{}}}", members.join(",")), text).await;
}

#[tokio::test]
async fn nesting_as_deep_as_the_body_is_long() {
    let mut server = Server::start().await;
    let server = &mut server;
    let open = "[".repeat(MAX_BODY_BYTES - 100);
    refuses(server, &open, "the request body is an array: expected a JSON object of inputs").await;
    let text = format!(
        "the request body is not valid JSON: EOF while parsing a list at line 1 column {}",
        open.len() + 5
    );
    refuses(server, format!("{{\"x\":{open}"), &text).await;
    let deep = format!("{}{}", "[".repeat(40_000), "]".repeat(40_000));
    refuses(server, with(&format!(r#""x":{deep}"#)), &format!("x {NO_PARAMETER}")).await;
    let allowed = "a whole number from 0 to 18446744073709551615";
    let text = format!("seed is {}...: expected {allowed}", "[".repeat(60));
    refuses(server, with(&format!(r#""seed":{deep}"#)), &text).await;
    let objects = format!("{}1{}", "{\"parameters\":".repeat(5000), "}".repeat(5000));
    refuses(server, objects, &format!("parameters {NO_PARAMETER}")).await;
}

#[tokio::test]
async fn inputs_that_are_missing() {
    let mut server = Server::start().await;
    let server = &mut server;
    for body in ["", " \n", "{}", r#"{"max_tokens":3}"#, r#"{"text_input":[],"max_tokens":3}"#] {
        refuses(server, body, "input 'text_input' is missing").await;
    }
    refuses(server, r#"{"text_input":"in"}"#, "input 'max_tokens' is missing").await;
    refuses(
        server,
        r#"{"text_input":"","max_tokens":3}"#,
        "text_input is \"\": expected a prompt that is not empty",
    )
    .await;
    refuses(server, r#"{"text_input":"<nothing>","max_tokens":3}"#, "text_input has no tokens")
        .await;
    refuses(
        server,
        r#"{"text_input":"untokenisable","max_tokens":3}"#,
        "text_input cannot be tokenised: no token for it",
    )
    .await;
}

#[tokio::test]
async fn values_of_the_wrong_type_or_beyond_the_limit() {
    let mut server = Server::start().await;
    let server = &mut server;
    for value in ["5", "true", "null", "{\"a\":1}", "[5]", "\"\\ud800\""] {
        let body = format!(r#"{{"text_input":{value},"max_tokens":3}}"#);
        let shown = value.trim_start_matches('[').trim_end_matches(']');
        refuses(server, body, &format!("text_input is {shown}: expected a string")).await;
    }
    for value in [
        "-1",
        "0",
        "1.5",
        "3.0",
        "\"3\"",
        "null",
        "true",
        "2147483648",
        "99999999999999999999",
        "1e2",
    ] {
        let body = format!(r#"{{"text_input":"in","max_tokens":{value}}}"#);
        refuses(
            server,
            body,
            &format!("max_tokens is {value}: expected a whole number from 1 to 2147483647"),
        )
        .await;
    }
    for (field, value, allowed) in [
        ("temperature", "0", "a number above 0, at most 3.4e38"),
        ("temperature", "-0.5", "a number above 0, at most 3.4e38"),
        ("temperature", "1e300", "a number above 0, at most 3.4e38"),
        ("temperature", "1e999", "a number above 0, at most 3.4e38"),
        ("temperature", "\"hot\"", "a number above 0, at most 3.4e38"),
        ("top_p", "1.01", "a number up to 1, where 0 and below mean unset"),
        ("top_p", "true", "a number up to 1, where 0 and below mean unset"),
        ("top_k", "-1", "a whole number from 0 to 2147483647"),
        ("top_k", "2.5", "a whole number from 0 to 2147483647"),
        ("seed", "-1", "a whole number from 0 to 18446744073709551615"),
        ("seed", "18446744073709551616", "a whole number from 0 to 18446744073709551615"),
        ("end_id", "256", "a token below 256, or a negative number for none"),
        ("pad_id", "\"x\"", "a whole number of 32 bits"),
        ("stream", "1", "true or false"),
        ("exclude_input_in_output", "\"true\"", "true or false"),
        ("stop_words", "7", "strings of at most 1024 bytes"),
        ("id", "7", "a string"),
    ] {
        let body = with(&format!(r#""{field}":{value}"#));
        refuses(server, body, &format!("{field} is {value}: expected {allowed}")).await;
    }
}

#[tokio::test]
async fn shapes_that_do_not_fit() {
    let mut server = Server::start().await;
    let server = &mut server;
    refuses(server, r#"{"text_input":["a","b"],"max_tokens":3}"#, &bad_shape("text_input", 2))
        .await;
    refuses(server, with(r#""top_k":[1,2,3]"#), &bad_shape("top_k", 3)).await;
    let words = format!("[{}]", vec!["\"w\""; 300].join(","));
    let shown = &words[..60];
    refuses(
        server,
        with(&format!(r#""stop_words":{words}"#)),
        &format!("stop_words is {shown}...: expected at most 256 elements"),
    )
    .await;
    refuses(
        server,
        with(r#""parameters":7"#),
        "Expected JSON object for keyword: 'parameters', not a number",
    )
    .await;
    refuses(
        server,
        with(r#""parameters":{"top_k":-4}"#),
        "top_k is -4: expected a whole number from 0 to 2147483647",
    )
    .await;
    for value in ["[1]", "{}", "null"] {
        refuses(server, with(&format!(r#""mine":{value}"#)), &format!("mine {NO_PARAMETER}")).await;
    }
    refuses(
        server,
        with(r#""parameters":{"parameters":{}}"#),
        &format!("parameters {NO_PARAMETER}"),
    )
    .await;
}

#[tokio::test]
async fn a_stream_from_generate() {
    let mut server = Server::start().await;
    let reply = server.generate(&with(r#""stream":true"#)).await;
    assert_eq!(reply.status, 400);
    let text = reply.error();
    assert!(
        text.starts_with(
            "generate expects model to produce exactly 1 response, use generate stream"
        ),
        "{text}"
    );
    server.no_calls();
}

#[tokio::test]
async fn prompts_far_beyond_the_context_are_not_tokenised_whole() {
    let mut server = Server::start().await;
    let prompt = "é".repeat(MAX_SEQ_LEN as usize * 20);
    let body = format!(r#"{{"text_input":"{prompt}","max_tokens":3}}"#);
    refuses(&mut server, body, "the first 16000 bytes of text_input alone have 16000 tokens: more than the context of 1000 \
         tokens").await;
    // Just too long is the engine's to say, with the numbers.
    let body = format!(r#"{{"text_input":"{}","max_tokens":3}}"#, "é".repeat(9000));
    server.engine.says("out");
    assert_eq!(server.generate(&body).await.status, 200);
    assert_eq!(server.submitted().await.prompt.len(), 18_000, "tokenised on another thread");
}

#[tokio::test]
async fn bodies_over_the_limit() {
    let mut server = Server::start().await;
    let limit =
        format!("the request body has more than {MAX_BODY_BYTES} bytes (server.max_body_bytes)");
    // So large that it doesn't fit the buffers on the way: the answer must reach a client that
    // sends all before it reads.
    let large = vec![b' '; 20 << 20];
    let reply = post(server.http, GENERATE, &large).await;
    assert_eq!((reply.status, reply.error()), (413, limit.clone()));

    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!(
        "POST {GENERATE} HTTP/1.1\r\nHost: it\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(format!("{:x}\r\n{}\r\n", 50_000, " ".repeat(50_000)).as_bytes())
            .await
            .unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 413 ") && reply.contains(&limit), "{reply}");

    // A client that asks first gets the answer at once and never sends.
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!(
        "POST {GENERATE} HTTP/1.1\r\nHost: it\r\nExpect: 100-continue\r\nContent-Length: 999999999\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let reply = read_until(&mut stream, "\"}").await;
    assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");

    // Exactly the limit is fine.
    server.engine.says("out");
    let mut body = with(r#""top_k":1"#);
    body += &" ".repeat(MAX_BODY_BYTES - body.len());
    assert_eq!(server.generate(&body).await.status, 200);
    server.submitted().await;
    server.no_calls();
}

#[tokio::test]
async fn compressed_bodies() {
    let mut server = Server::start().await;
    // The client's own end of the line becomes the value of X.
    let head = format!("POST {GENERATE} HTTP/1.1\r\nContent-Encoding: gzip\r\nX:");
    let reply = send(server.http, &head, b"zip").await;
    assert_eq!(reply.status, 415);
    assert_eq!(reply.header("accept-encoding"), Some("identity"));
    assert_eq!(reply.error(), "Content-Encoding is gzip: only identity is supported");
    server.no_calls();
}

#[tokio::test]
async fn the_server_goes_on_after_all_of_it() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(b"\x16\x03\x01 this is no HTTP\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    for body in ["{", "[]", "{}", "\u{1}", r#"{"text_input":1}"#] {
        assert_eq!(server.generate(body).await.status, 400);
    }
    server.engine.says("out");
    assert_eq!(server.generate(&with(r#""top_k":1"#)).await.status, 200);
}
