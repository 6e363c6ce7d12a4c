//! A client of the gateway while instances die.

use std::time::Duration;

use std::sync::Arc;

use shardrun_wire::FinishReason;

use super::deaths::{CONFIG, SharedLog, dying, long, routed};
use super::scripted::{Death, Scripted, undisturbed};
use crate::client::{get, open, post, read_until};
use crate::server::Server;

fn body(stream: bool) -> String {
    let seed = long(1).sampling.seed;
    format!(
        r#"{{"input_ids":[1,2,3],"input_lengths":3,"request_output_len":60,"seed":{seed},"streaming":{stream}}}"#
    )
}

#[tokio::test]
async fn a_stream_of_events_outlives_its_instance() {
    let server = Server::start().await;
    let log = SharedLog::default();
    let engine = Arc::new(routed(CONFIG));
    server.add("2", engine.clone());
    let path = "/v2/models/tensorrt_llm_2/generate_stream";
    let reply = post(server.http, path, body(true)).await;
    let text = "the model is loading, please try again later";
    assert_eq!((reply.status, reply.error().as_str()), (503, text), "its limits are unknown");
    let first = dying(&log, Death::Silent);
    engine.attach(0, first.clone());
    let mut stream = open(server.http, &format!("POST {path}"), body(true).as_bytes()).await;
    let mut events = read_until(&mut stream, "\n\n").await;
    first.kill();
    while get(server.http, "/v2/models/2/ready").await.status == 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Another request waits with it.
    let address = server.http;
    let whole = tokio::spawn(async move {
        post(address, "/v2/models/tensorrt_llm_2/generate", body(false)).await
    });
    engine.attach(0, Scripted::healthy(&log));
    events += &read_until(&mut stream, "0\r\n\r\n").await;
    let tokens: Vec<u32> = events
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line.strip_prefix("data: ")?).ok()
        })
        .flat_map(|event| match &event["output_ids"] {
            serde_json::Value::Array(tokens) => tokens.clone(),
            one => vec![one.clone()],
        })
        .map(|token| token.as_u64().unwrap() as u32)
        .collect();
    let (expected, reason) = undisturbed(&long(1), 0);
    assert_eq!((tokens, reason), (expected.clone(), FinishReason::Length));
    let reply = whole.await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let ids = reply.json()["output_ids"].as_array().unwrap()[3..].to_vec();
    assert_eq!(ids, expected.iter().map(|&id| id.into()).collect::<Vec<serde_json::Value>>());
    engine.close("no more");
    let reply = post(server.http, path, body(true)).await;
    assert_eq!((reply.status, reply.error().as_str()), (503, "the engine has ended: no more"));
    let index = post(server.http, "/v2/repository/index", "").await.json();
    let entries = index.as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["name"] == "2").unwrap();
    assert_eq!((&entry["state"], &entry["reason"]), (&"UNAVAILABLE".into(), &"no more".into()));
}
