//! The repository API.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde_json::json;
use shardrun_gateway::{IndexEntry, ModelRepository, ModelState, RepositoryError};
use shardrun_wire::EngineState;

use crate::client::{get, open, post};
use crate::server::Server;

const INDEX: &str = "/v2/repository/index";

/// Notes what it is asked, and does what its name says.
#[derive(Default)]
struct Repository {
    asked: Mutex<Vec<String>>,
}

impl Repository {
    fn ask(&self, what: &str, name: &str) -> Result<(), RepositoryError> {
        self.asked.lock().unwrap().push(format!("{what} {name}"));
        let reason = "there are no cores left".to_owned();
        match name {
            "none" => Err(RepositoryError::Unknown { name: name.to_owned() }),
            "busy" => Err(RepositoryError::Busy { name: name.to_owned(), doing: "being loaded" }),
            "large" => Err(RepositoryError::Refused { reason }),
            "broken" => Err(RepositoryError::Failed { reason }),
            "panics" => panic!("a repository that panics"),
            _ => Ok(()),
        }
    }
}

impl ModelRepository for Repository {
    fn index(&self) -> BoxFuture<'_, Vec<IndexEntry>> {
        let entry = |name: &str, state, reason: &str| IndexEntry {
            name: name.to_owned(),
            state,
            reason: reason.to_owned(),
        };
        ready(vec![
            entry("tiny", ModelState::Ready, ""),
            entry("large", ModelState::Unavailable, "unloaded"),
            entry("next", ModelState::Loading, ""),
            entry("last", ModelState::Unloading, ""),
        ])
        .boxed()
    }

    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RepositoryError>> {
        async move {
            tokio::task::yield_now().await;
            self.ask("load", name)
        }
        .boxed()
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RepositoryError>> {
        ready(self.ask("unload", name)).boxed()
    }
}

#[tokio::test]
async fn the_index_has_every_name() {
    let server = Server::start_with(Some(Arc::new(Repository::default()))).await;
    let reply = post(server.http, INDEX, "").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let entry = |name: &str, state: &str, reason: &str| json!({"name": name, "version": "1", "state": state, "reason": reason});
    let mut expected: Vec<_> = [
        "tiny",
        "ensemble_tiny",
        "tensorrt_llm_bls_tiny",
        "tensorrt_llm_tiny",
        "ensemble",
        "tensorrt_llm_bls",
        "tensorrt_llm",
    ]
    .map(|name| entry(name, "READY", ""))
    .to_vec();
    let ready = json!(expected);
    expected.push(entry("large", "UNAVAILABLE", "unloaded"));
    expected.push(entry("next", "LOADING", ""));
    expected.push(entry("last", "UNLOADING", ""));
    assert_eq!(reply.json(), json!(expected));
    assert_eq!(post(server.http, INDEX, r#"{"ready":false}"#).await.json(), json!(expected));
    assert_eq!(post(server.http, INDEX, r#"{"ready":true}"#).await.json(), ready);
    for (body, text) in [
        (r#"{"ready":1}"#, "ready is 1: expected true or false"),
        ("[]", "the request body is an array: expected a JSON object"),
    ] {
        let reply = post(server.http, INDEX, body).await;
        assert_eq!((reply.status, reply.error().as_str()), (400, text));
    }
    assert_eq!(get(server.http, INDEX).await.status, 405);
    let extensions = json!(["model_repository", "model_repository(unload_dependents)"]);
    assert_eq!(get(server.http, "/v2").await.json()["extensions"], extensions);
}

#[tokio::test]
async fn models_are_loaded_and_unloaded_by_any_of_their_names() {
    let repository = Arc::new(Repository::default());
    let server = Server::start_with(Some(repository.clone())).await;
    for (path, body) in [
        ("next/load", ""),
        ("next/load", "{}"),
        ("tensorrt_llm/load", r#"{"parameters":{}}"#),
        ("ensemble_tiny/unload", r#"{"parameters":{"unload_dependents":true}}"#),
        ("next/unload", ""),
    ] {
        let reply = post(server.http, &format!("/v2/repository/models/{path}"), body).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{path}");
    }
    let asked = ["load next", "load next", "load tiny", "unload tiny", "unload next"];
    assert_eq!(*repository.asked.lock().unwrap(), asked);
}

#[tokio::test]
async fn what_cannot_be_loaded_says_why() {
    let repository = Arc::new(Repository::default());
    let server = Server::start_with(Some(repository.clone())).await;
    for (path, body, status, text) in [
        ("none/load", "", 404, "failed to load 'none', the deployment has no model 'none'"),
        (
            "busy/load",
            "",
            503,
            "failed to load 'busy', the model 'busy' is being loaded, please try again later",
        ),
        ("large/unload", "", 400, "failed to unload 'large', there are no cores left"),
        ("broken/load", "", 500, "failed to load 'broken', there are no cores left"),
        ("panics/load", "", 500, "failed to load 'panics' within the server"),
    ] {
        let reply = post(server.http, &format!("/v2/repository/models/{path}"), body).await;
        assert_eq!((reply.status, reply.error().as_str()), (status, text));
    }
    repository.asked.lock().unwrap().clear();
    let deployments = "a model's configuration and files are those of the deployment file";
    for (path, body, text) in [
        (
            "next/load",
            r#"{"parameters":{"config":"{}"}}"#,
            format!("load parameter 'config' can't be taken: {deployments}"),
        ),
        (
            "next/load",
            r#"{"parameters":{"file:1/model.x":"AA=="}}"#,
            format!("load parameter 'file:1/model.x' can't be taken: {deployments}"),
        ),
        (
            "next/unload",
            r#"{"parameters":{"unload_dependents":"yes"}}"#,
            "unload parameter 'unload_dependents' can't be taken: it must be true or false".into(),
        ),
        (
            "next/unload",
            r#"{"parameters":{"config":true}}"#,
            "unload parameter 'config' can't be taken: there is none of this name".into(),
        ),
        (
            "next/load",
            r#"{"parameters":[]}"#,
            "Expected JSON object for keyword: 'parameters', not an array".into(),
        ),
    ] {
        let reply = post(server.http, &format!("/v2/repository/models/{path}"), body).await;
        assert_eq!((reply.status, reply.error()), (400, text), "{body}");
    }
    assert_eq!(repository.asked.lock().unwrap().len(), 0, "nothing was tried");
}

#[tokio::test]
async fn a_client_that_leaves_does_not_stop_a_load() {
    let repository = Arc::new(Repository::default());
    let server = Server::start_with(Some(repository.clone())).await;
    drop(open(server.http, "POST /v2/repository/models/next/load", b"").await);
    while repository.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn leader_mode_has_its_one_model() {
    let server = Server::start().await;
    let states = async || {
        let index = post(server.http, INDEX, "").await.json();
        let index = index.as_array().unwrap().clone();
        assert_eq!(index.len(), 7);
        (index[0]["name"].clone(), index[0]["state"].clone(), index[0]["reason"].clone())
    };
    assert_eq!(states().await, (json!("tiny"), json!("READY"), json!("")));
    for (state, name, reason) in [
        (EngineState::Loading, "LOADING", ""),
        (EngineState::Draining, "UNLOADING", ""),
        (EngineState::Stopped, "UNAVAILABLE", "the engine has ended"),
    ] {
        *server.engine.state.lock().unwrap() = state;
        assert_eq!(states().await, (json!("tiny"), json!(name), json!(reason)));
    }
    for action in ["load", "unload"] {
        let path = format!("/v2/repository/models/tensorrt_llm/{action}");
        let reply = post(server.http, &path, "").await;
        let text = format!(
            "failed to {action} 'tiny', explicit model load / unload is not allowed: in leader \
             mode the ranks are started with their one model, and end with it"
        );
        assert_eq!((reply.status, reply.error()), (400, text));
    }
}
