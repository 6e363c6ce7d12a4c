//! Several sequences of one request: sampled apart, or searched by beams.

use serde_json::{Value, json};
use shardrun_wire::{BeamSearch, FinishReason, Search};

use crate::server::Server;
use crate::streaming::{Events, events};

fn with(inputs: &str) -> String {
    format!(r#"{{"text_input":"in ","max_tokens":20,{inputs}}}"#)
}

#[tokio::test]
async fn all_sequences_come_back_as_lists() {
    let mut server = Server::start().await;
    server.engine.writes(|sink| {
        sink.say(1, "two");
        sink.end(1, FinishReason::EndId);
        sink.say(0, "one one");
        sink.end(0, FinishReason::Length);
    });
    let body = with(r#""num_return_sequences":2,"top_k":5,"return_log_probs":true"#);
    let reply = server.generate(&body).await.json();
    assert_eq!(reply["text_output"], json!(["in one one", "in two"]));
    assert_eq!(reply["cum_log_probs"], json!([-3.5, -1.5]));
    let (long, short, pad) = (vec![-0.5; 7], vec![-0.5; 3], vec![-1.0; 4]);
    assert_eq!(reply["output_log_probs"], json!([long, short, pad].concat()));
    assert_eq!(reply.get("sequence_index"), None);
    assert_eq!(server.submitted().await.search, Search::Sample { sequences: 2 });
    server.no_calls();
}

#[tokio::test]
async fn events_say_whose_they_are() {
    let server = Server::start().await;
    let body = with(r#""num_return_sequences":2,"top_k":5,"stream":true,"return_log_probs":true"#);
    let mut events = Events::open(&server, "ensemble", &body).await;
    let seen = |event: &Value| {
        let text = event["text_output"].as_str().unwrap().to_owned();
        (event["sequence_index"].as_u64().unwrap(), text, event["cum_log_probs"].as_f64().unwrap())
    };
    for (sequence, text, sum) in
        [(1, "a", -0.5), (0, "b", -0.5), (1, "c", -1.0), (0, "d", -1.0), (0, "e", -1.5)]
    {
        events.sink.say(sequence, text);
        assert_eq!(seen(&events.next().await), (sequence.into(), text.to_owned(), sum));
    }
    events.sink.say_and_end(1, "f", FinishReason::StopWords);
    assert_eq!(seen(&events.next().await), (1, "f".to_owned(), -1.5));
    events.sink.end(0, FinishReason::Length);
    assert_eq!(seen(&events.next().await), (0, String::new(), -1.5));
    events.end().await;
}

#[tokio::test]
async fn one_sequence_needs_no_index() {
    let server = Server::start().await;
    server.engine.says("o");
    let body = with(r#""num_return_sequences":1,"stream":true"#);
    let all = events(&server.stream(&body).await);
    assert_eq!((all.len(), all[0].get("sequence_index")), (1, None));
}

#[tokio::test]
async fn a_stopped_sequence_is_silent_while_others_run() {
    let mut server = Server::start().await;
    let body = with(r#""num_return_sequences":2,"top_k":5,"stream":true,"stop_words":"stop""#);
    let mut events = Events::open(&server, "ensemble", &body).await;
    let id = server.submitted().await.id;
    events.sink.say(0, "stop it");
    for letter in ["s", "t", "o", "p"] {
        let event = events.next().await;
        assert_eq!((&event["sequence_index"], &event["text_output"]), (&json!(0), &json!(letter)));
    }
    events.sink.say(0, " never");
    events.sink.say(1, "o");
    let event = events.next().await;
    assert_eq!((&event["sequence_index"], &event["text_output"]), (&json!(1), &json!("o")));
    server.no_calls();
    events.sink.say(1, "stop");
    for letter in ["s", "t", "o", "p"] {
        assert_eq!(events.next().await["text_output"], letter);
    }
    events.end().await;
    assert_eq!(server.cancelled().await, id, "once all have stopped");
    server.no_calls();
}

#[tokio::test]
async fn a_sequence_that_stopped_may_end_in_the_engine_too() {
    let mut server = Server::start().await;
    server.engine.writes(|sink| {
        sink.say(0, "stop it");
        sink.end(0, FinishReason::Length);
        sink.say(1, "all");
        sink.end(1, FinishReason::EndId);
    });
    let body = with(r#""num_return_sequences":2,"stop_words":"stop""#);
    let reply = server.generate(&body).await.json();
    assert_eq!(reply["text_output"], json!(["in stop", "in all"]));
    server.submitted().await;
    server.no_calls();
}

#[tokio::test]
async fn what_a_stop_word_made_whole_does_not_fail_any_more() {
    let server = Server::start().await;
    server.engine.writes(|sink| sink.say_and_end(0, "stop it", FinishReason::TimedOut));
    let reply = server.generate(&with(r#""stop_words":"stop""#)).await;
    assert_eq!(reply.json()["text_output"], "in stop");
}

#[tokio::test]
async fn a_sequence_that_fails_fails_the_request() {
    let server = Server::start().await;
    server.engine.writes(|sink| {
        sink.say_and_end(0, "one", FinishReason::EndId);
        sink.end(1, FinishReason::TimedOut);
    });
    let reply = server.generate(&with(r#""num_return_sequences":2,"timeout":1"#)).await;
    assert_eq!(reply.status, 504);
}

#[tokio::test]
async fn beams_come_back_best_first_and_all_at_once() {
    let mut server = Server::start().await;
    for (path, texts) in [
        ("generate", json!(["in best", "in other"])),
        ("generate_stream", json!(["best", "other"])),
    ] {
        server.engine.writes(|sink| {
            sink.say_and_end(0, "best", FinishReason::EndId);
            sink.say_and_end(1, "other", FinishReason::Length);
        });
        let stream = path == "generate_stream";
        let body = with(&format!(
            r#""beam_width":3,"num_return_sequences":2,"length_penalty":0.75,"stream":{stream},
            "beam_search_diversity_rate":0.5,"early_stopping":false,"return_log_probs":true"#
        ));
        let path = format!("/v2/models/ensemble/{path}");
        let reply = crate::client::post(server.http, &path, &body).await;
        let reply = if stream {
            let mut all = events(&reply);
            assert_eq!(all.len(), 1);
            all.remove(0)
        } else {
            reply.json()
        };
        assert_eq!(reply["text_output"], texts);
        assert_eq!(reply["cum_log_probs"], json!([-2.0, -2.5]));
        assert_eq!(reply.get("sequence_index"), None);
        let beam = BeamSearch {
            width: 3,
            sequences: 2,
            length_penalty: 0.75,
            diversity_rate: 0.5,
            early_stopping: 0,
        };
        assert_eq!(server.submitted().await.search, Search::Beam(beam));
    }
    server.no_calls();
}

#[tokio::test]
async fn all_beams_come_back_unless_fewer_are_asked_for() {
    let mut server = Server::start().await;
    let beam = BeamSearch {
        width: 4,
        sequences: 4,
        length_penalty: 0.0,
        diversity_rate: 0.0,
        early_stopping: 1,
    };
    for (inputs, beam) in [
        ("", beam),
        (r#","num_return_sequences":1"#, BeamSearch { sequences: 1, ..beam }),
        (r#","early_stopping":true"#, beam),
        (r#","early_stopping":-7"#, BeamSearch { early_stopping: -7, ..beam }),
    ] {
        let sequences = beam.sequences;
        server.engine.writes(move |sink| {
            (0..sequences).for_each(|n| sink.say_and_end(n, "x", FinishReason::EndId));
        });
        let reply = server.generate(&with(&format!(r#""beam_width":4{inputs}"#))).await.json();
        let texts = match sequences {
            1 => json!("in x"),
            n => json!(vec!["in x"; n as usize]),
        };
        assert_eq!(reply["text_output"], texts);
        assert_eq!(server.submitted().await.search, Search::Beam(beam));
    }
}
