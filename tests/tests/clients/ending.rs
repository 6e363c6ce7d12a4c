//! Requests that end before they are done: stopped by their id, or too slow.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shardrun_tests::{Setup, model, until};

use super::counting::nothing_is_left;
use super::{SOON, endless, prompt, with};

#[test]
fn a_stop_and_a_timeout_end_what_they_are_about() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let deployment = Setup::new(&model)?.serve()?;
    let client = deployment.client()?;
    // Far more tokens than there is time for, and room for three.
    let long = |id: &str| with(endless("Once upon a time", 1300), &[("id", json!(id))]);
    let mut stopped = client.stream(&long("mine"))?;
    let mut other = client.stream(&long("other"))?;
    for stream in [&mut stopped, &mut other] {
        let event = stream.next_event()?;
        assert!(event.is_some_and(|event| event["text_output"].is_string()), "it has begun");
    }
    let stop = |id: &str| client.answer("tensorrt_llm", &json!({"id": id, "stop": true}));
    let named = |id: &str| json!({"id": id, "model_name": "tensorrt_llm", "model_version": "1"});
    assert_eq!(stop("nobody's")?, named("nobody's"));
    assert_eq!(stop("mine")?, named("mine"));
    let mut last = Value::Null;
    while let Some(event) = stopped.next_event()? {
        last = event;
    }
    assert_eq!(last, json!({"error": "the request was cancelled"}));
    for _ in 0..5 {
        assert!(other.next_text()?.is_some(), "the other goes on");
    }

    let limit = Duration::from_millis(300);
    let timed = with(long("slow"), &[("timeout", json!(limit.as_micros() as u64))]);
    let began = Instant::now();
    let reply = client.post("/v2/models/ensemble/generate", timed.to_string())?;
    let sentence = "the request was not finished within its timeout of 300000 microseconds";
    assert_eq!((reply.status, &*reply.error()?), (504, sentence));
    assert!((limit..limit + SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    let mut stream = client.stream(&timed)?;
    while let Some(event) = stream.next_event()? {
        last = event;
    }
    assert_eq!(last, json!({"error": sentence}));

    assert_eq!(stop("other")?, named("other"));
    until("everything to be free", SOON, || nothing_is_left(&client))?;
    assert!(!client.generate(&prompt("Hello", 4))?.is_empty(), "and the server goes on");
    Ok(())
}
