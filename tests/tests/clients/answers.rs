//! Whole answers, and what the server says about itself.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{endless, shared, with};

#[test]
fn both_models_answer_alike() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let request = json!({"text_input": "The capital of France is", "max_tokens": 5});
    let mut texts = Vec::new();
    for name in ["ensemble", "tensorrt_llm_bls"] {
        for path in ["", "/versions/1"] {
            let path = format!("/v2/models/{name}{path}/generate");
            let reply = client.post(&path, request.to_string())?;
            assert_eq!((reply.status, &*reply.content_type), (200, "application/json"), "{path}");
            let body = reply.json()?;
            assert_eq!(body["model_name"], name);
            assert_eq!(body["model_version"], "1");
            assert!(body.get("id").is_none());
            texts.push(body["text_output"].as_str().context("text")?.to_owned());
        }
    }
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    let text = texts[0].strip_prefix("The capital of France is").context("the prompt first")?;
    assert!(text.contains("Paris"), "{text:?}");
    let excluded = with(request.clone(), &[("exclude_input_in_output", json!(true))]);
    assert_eq!(client.generate(&excluded)?, text);
    // The same members in `parameters`, as one-element arrays, and with an id.
    let nested = json!({"id": "mine", "text_input": ["The capital of France is"],
                        "parameters": {"max_tokens": [5], "temperature": 0.5}});
    let reply = client.post("/v2/models/ensemble/generate", nested.to_string())?.json()?;
    assert_eq!(reply["id"], "mine");
    assert_eq!(reply["text_output"].as_str(), Some(&*texts[0]));
    Ok(())
}

#[test]
fn curl_gets_an_answer_as_the_terminal_says() -> anyhow::Result<()> {
    let Some((deployment, client)) = shared()? else { return Ok(()) };
    let printed = deployment.stdout();
    let line = printed.lines().find_map(|line| line.trim().strip_prefix("curl "));
    let line = line.context("a curl line is printed")?;
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl");
        return Ok(());
    }
    let output = Command::new("sh").arg("-c").arg(format!("curl --max-time 60 {line}")).output()?;
    ensure!(output.status.success(), "{output:?}");
    let body: Value = serde_json::from_slice(&output.stdout)?;
    let text = body["text_output"].as_str().context("text")?;
    assert!(text.starts_with("What is machine learning?") && text.len() > 60, "{text:?}");

    let url = format!("http://{}/v2/models/ensemble/generate_stream", client.http());
    let body = with(endless("Count:", 8), &[("stream", json!(true))]).to_string();
    let output =
        Command::new("curl").args(["-sN", "--max-time", "60", &url, "-d", &body]).output()?;
    let events = String::from_utf8(output.stdout)?;
    assert_eq!(events.matches("data: {").count(), 8, "{events}");
    Ok(())
}

#[test]
fn the_server_says_what_it_is() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let server = client.get("/v2")?.json()?;
    assert_eq!(server["name"], "shardrun");
    assert!(server["version"].is_string() && server["extensions"].is_array());
    for name in ["ensemble", "tensorrt_llm_bls"] {
        for path in [format!("/v2/models/{name}"), format!("/v2/models/{name}/versions/1")] {
            let reply = client.get(&path)?;
            assert_eq!((reply.status, &*reply.content_type), (200, "application/json"));
            let body = reply.json()?;
            assert_eq!(body["name"], name);
            assert_eq!(body["versions"], json!(["1"]));
            let names = |list: &Value| -> anyhow::Result<Vec<String>> {
                let list = list.as_array().context("an array")?;
                let name = |tensor: &Value| tensor["name"].as_str().unwrap_or_default().to_owned();
                assert!(list.iter().all(|t| t["datatype"].is_string() && t["shape"].is_array()));
                Ok(list.iter().map(name).collect())
            };
            let inputs = names(&body["inputs"])?;
            for input in ["text_input", "max_tokens", "seed", "stop_words"] {
                assert!(inputs.iter().any(|name| name == input), "{inputs:?}");
            }
            let outputs = names(&body["outputs"])?;
            for output in ["text_output", "cum_log_probs", "context_logits"] {
                assert!(outputs.iter().any(|name| name == output), "{outputs:?}");
            }
            assert!(!outputs.iter().any(|name| name == "output_ids"), "{outputs:?}");
            let ready = client.get(&format!("{path}/ready"))?;
            assert_eq!((ready.status, &*ready.body), (200, ""));
        }
    }
    for path in ["/v2/health/live", "/v2/health/ready"] {
        let reply = client.get(path)?;
        assert_eq!((reply.status, &*reply.body), (200, ""), "{path}");
    }
    Ok(())
}

#[test]
fn sixteen_clients_at_once_are_all_answered() -> anyhow::Result<()> {
    let Some((_deployment, client)) = shared()? else { return Ok(()) };
    let texts = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let client = client.clone();
            scope.spawn(move || -> anyhow::Result<(String, String)> {
                let request = endless(&format!("{number}, {}, ", number + 1), 12);
                let streamed = client.stream(&request)?.rest()?;
                assert_eq!(streamed.len(), 12);
                Ok((streamed.concat(), client.generate(&request)?))
            })
        };
        let asked: Vec<_> = (0..16).map(ask).collect();
        asked
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    assert!(texts.iter().all(|(streamed, whole)| streamed == whole));
    Ok(())
}
