//! Whole repositories: what is written, and what is told. `UPDATE_GOLDEN=1` writes what is expected.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use shardrun_config::{Deployment, Loaded, Mode, Value};

use super::*;

/// The repositories lie here; tests run in the crate's folder.
const CASES: &str = "src/import/tests";

fn case(name: &str, sources: &[&str]) -> Imported {
    let sources: Vec<_> = sources.iter().map(|&source| source.to_owned()).collect();
    let folder = Path::new(CASES).join(name);
    let imported = triton(&folder.join("repo"), &sources).unwrap();
    expect(&folder.join("deployment.toml"), &imported.toml);
    expect(&folder.join("report.txt"), &imported.report.table());
    imported
}

/// Paths that were made absolute begin with the crate's folder.
fn expect(file: &Path, found: &str) {
    let found = found.replace(env!("CARGO_MANIFEST_DIR"), "@HERE@");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file, &found).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(found, expected, "{}", file.display());
}

/// The deployment once the sources are filled in.
fn load(toml: &str) -> Result<Loaded, shardrun_config::ConfigErrors> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("d.toml");
    fs::write(&file, toml).unwrap();
    let env = [("SHARDRUN_SITE", ""), ("HOME", "/home/u")];
    let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let flags = match toml.contains("# source = ") {
        true => vec![("model.source".to_owned(), "/m.gguf".to_owned())],
        false => Vec::new(),
    };
    Deployment::load(&file, env, &flags)
}

fn loaded(imported: &Imported) -> Deployment {
    load(&imported.toml).unwrap_or_else(|errors| panic!("{errors}\n{}", imported.toml)).deployment
}

#[test]
fn one_model_from_a_template_that_was_filled_in() {
    let imported = case("single", &["/models/llama.gguf"]);
    let deployment = loaded(&imported);
    assert_eq!((deployment.mode, deployment.name.as_str()), (Mode::Leader, "repo"));
    let [model] = deployment.models.as_slice() else { panic!("{deployment:?}") };
    assert_eq!((model.name.as_str(), model.tp_size, model.max_batch_size), ("repo", 2, 64));
    assert_eq!(model.source.to_string(), "/models/llama.gguf");
    assert_eq!((model.kv_cache.max_tokens, model.kv_cache.tokens_per_block), (8192, 64));
    assert_eq!(model.kv_cache.max_attention_window, [4096, 512]);
    assert_eq!((model.max_num_tokens, model.max_seq_len), (2048, Some(8192)));
    assert_eq!(deployment.metrics.iter_stats_max_iterations, 500);
}

#[test]
fn a_template_that_was_not_filled_in_gives_defaults() {
    let deployment = loaded(&case("unfilled", &[]));
    let defaults =
        load("name = \"repo\"\nmodel.source = \"/m.gguf\"\nmodel.instances = 1").unwrap();
    assert_eq!(deployment, defaults.deployment);
}

#[test]
fn two_models_with_gpus_of_their_own() {
    let deployment = loaded(&case("two_models", &["tensorrt_llm=/models/a.gguf"]));
    assert_eq!(deployment.mode, Mode::Orchestrator);
    let told: Vec<_> = deployment
        .models
        .iter()
        .map(|model| {
            let gpus = String::from(model.gpu_device_ids.clone());
            (model.name.as_str(), model.tp_size, model.instances, gpus)
        })
        .collect();
    assert_eq!(told, [("1", 2, 1, "0,1".to_owned()), ("2", 1, 2, "2;3".to_owned())]);
    assert_eq!(deployment.metrics.iter_stats_max_iterations, 2000);
}

#[test]
fn models_whose_ranks_are_started_as_one_world() {
    let deployment = loaded(&case("participants", &[]));
    assert_eq!(deployment.mode, Mode::Orchestrator);
    let ids = deployment.models.iter().map(|model| String::from(model.participant_ids.clone()));
    assert_eq!(ids.collect::<Vec<_>>(), ["1,2", "3,4;5,6"]);
}

#[test]
fn a_model_of_the_llm_api() {
    let deployment = loaded(&case("llmapi", &[]));
    let model = &deployment.models[0];
    assert_eq!((model.tp_size, model.max_batch_size, model.max_num_tokens), (4, 600, 600));
    assert_eq!(model.kv_cache.max_attention_window, [2048, 256]);
}

/// A repository with files of this text.
fn repository(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("repo");
    fs::create_dir(&repository).unwrap();
    for (path, text) in files {
        let path = repository.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("@HERE@", dir.path().to_str().unwrap())).unwrap();
    }
    (dir, repository)
}

fn parameter(key: &str, value: &str) -> String {
    format!("parameters {{ key: \"{key}\" value {{ string_value: \"{value}\" }} }}\n")
}

#[test]
fn broken_files_are_told_with_their_places() {
    for (file, text, says) in [
        (
            "tensorrt_llm/config.pbtxt",
            "name: \"a\"\nbackend \"b\"",
            "@/tensorrt_llm/config.pbtxt:2:9: expected ':' after backend",
        ),
        (
            "tensorrt_llm/config.pbtxt",
            "backend: \"tensorrtllm\"\nparameters { }",
            "@/tensorrt_llm/config.pbtxt:2:1: a parameter has no key",
        ),
        ("tensorrt_llm/1/model.yaml", "model: [", "@/tensorrt_llm/1/model.yaml:2:1: not YAML: "),
        ("config.pbtxt", "", "@: this is one model's folder; name the folder above it"),
        (
            "preprocessing/config.pbtxt",
            "backend: \"python\"",
            "@: no folder in it is a model that TensorRT-LLM runs",
        ),
        ("preprocessing/other", "", "found: no config.pbtxt"),
    ] {
        let mut files = vec![(file, text)];
        if file.ends_with("yaml") {
            files.push(("tensorrt_llm/config.pbtxt", "backend: \"python\""));
        }
        let (_dir, repository) = repository(&files);
        let error = triton(&repository, &[]).unwrap_err().to_string();
        let error = error.replace(repository.to_str().unwrap(), "@");
        assert!(error.contains(says), "{error}");
    }
    let (dir, _) = repository(&[]);
    let error = triton(&dir.path().join("none"), &[]).unwrap_err().to_string();
    assert!(error.contains("none: cannot read it: "), "{error}");
}

#[test]
fn files_are_bounded_and_text() {
    let long = "#".repeat((1 << 20) + 1);
    let (_dir, path) = repository(&[("tensorrt_llm/config.pbtxt", &long)]);
    let error = triton(&path, &[]).unwrap_err().to_string();
    assert!(error.contains("config.pbtxt: larger than 1048576 bytes"), "{error}");
    fs::write(path.join("tensorrt_llm/config.pbtxt"), b"a: \xff").unwrap();
    assert!(triton(&path, &[]).unwrap_err().to_string().ends_with("config.pbtxt: not UTF-8"));
    fs::remove_file(path.join("tensorrt_llm/config.pbtxt")).unwrap();
    fs::create_dir(path.join("tensorrt_llm/config.pbtxt")).unwrap();
    let error = triton(&path, &[]).unwrap_err().to_string();
    assert!(error.ends_with("config.pbtxt: not a regular file"), "{error}");
}

#[test]
fn a_gguf_file_beside_the_engine_or_the_tokenizer_is_the_model() {
    let engine =
        format!("backend: \"tensorrtllm\"\n{}", parameter("gpt_model_path", "@HERE@/repo/engine"));
    let input = "backend: \"python\" input { name: \"QUERY\" }\n";
    let pre = format!("{input}{}", parameter("tokenizer_dir", "@HERE@/repo/tokenizer"));
    let files = [
        ("tensorrt_llm/config.pbtxt", engine.as_str()),
        ("preprocessing/config.pbtxt", &pre),
        ("engine/rank0.engine", ""),
        ("tokenizer/a.GGUF", ""),
    ];
    let (_dir, path) = repository(&files);
    let imported = triton(&path, &[]).unwrap();
    let model = path.join("tokenizer/a.GGUF");
    assert_eq!(loaded(&imported).models[0].source.to_string(), model.to_str().unwrap());
    let outcome = |imported: &Imported, parameter: &str| {
        let item = imported.report.items.iter().find(|item| item.parameter == parameter).unwrap();
        item.outcome.clone()
    };
    assert!(matches!(outcome(&imported, "parameters.tokenizer_dir"), Outcome::Changed { .. }));

    fs::write(path.join("engine/b.gguf"), "").unwrap();
    let imported = triton(&path, &[]).unwrap();
    assert!(loaded(&imported).models[0].source.to_string().ends_with("engine/b.gguf"));
    assert!(matches!(outcome(&imported, "parameters.tokenizer_dir"), Outcome::Left { .. }));

    fs::write(path.join("engine/c.gguf"), "").unwrap();
    fs::remove_file(&model).unwrap();
    let imported = triton(&path, &[]).unwrap();
    assert!(imported.toml.contains("# source = "), "{}", imported.toml);
    assert!(imported.report.notes.iter().any(|note| note.contains("has 2 GGUF files")));
}

#[test]
fn a_source_from_a_package_lacks_its_digest() {
    let (_dir, path) = repository(&[("tensorrt_llm/config.pbtxt", "backend: \"tensorrtllm\"")]);
    let imported = triton(&path, &["pypi:p==1/a.gguf".to_owned()]).unwrap();
    assert!(imported.toml.contains("# sha256 = "), "{}", imported.toml);
    assert!(imported.report.notes[0].contains("model.sha256"));
}

/// Text that a careless hand could have written.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..70_000u64).prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        "[0-9]{1,2}(,[0-9]{1,2}){0,3}(;[0-9]{1,2}(,[0-9]{1,2}){0,3}){0,3}",
        proptest::sample::select(vec![
            "true",
            "False",
            "V1",
            "max_utilization",
            "${x}",
            "",
            "0",
            "1",
            "inflight_batching",
        ])
        .prop_map(str::to_owned),
        "[ -~é]{0,12}".prop_map(|text| text.replace(['"', '\\'], "'")),
    ]
}

fn any_engine() -> impl Strategy<Value = String> {
    let keys: Vec<_> = ENGINE
        .iter()
        .filter_map(|known| known.path.strip_prefix("parameters."))
        .chain(["my_own"])
        // A file from the machine that tests run on is no test.
        .filter(|key| !matches!(*key, "gpt_model_path" | "tokenizer_dir"))
        .collect();
    let parameters =
        proptest::collection::vec((proptest::sample::select(keys), any_value()), 0..16);
    (parameters, 0..10_000u64, 0..10_000u64, 0..300u64).prop_map(|(parameters, batch, queue, count)| {
        let mut text = format!(
            "backend: \"tensorrtllm\"\nmax_batch_size: {batch}\ninstance_group {{ count: {count} }}\n\
             dynamic_batching {{ default_queue_policy {{ max_queue_size: {queue} }} }}\n"
        );
        parameters.iter().for_each(|(key, value)| text.push_str(&parameter(key, value)));
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_valid_and_every_parameter_is_told_once(
        first in any_engine(),
        second in proptest::option::of(any_engine()),
    ) {
        let mut files = vec![("tensorrt_llm/config.pbtxt", first.as_str())];
        files.extend(second.as_deref().map(|text| ("tensorrt_llm_2/config.pbtxt", text)));
        let (_dir, path) = repository(&files);
        let imported = triton(&path, &[]).unwrap();
        let loaded = load(&imported.toml);
        prop_assert!(loaded.is_ok(), "{}\n{}", loaded.unwrap_err(), imported.toml);

        // A name for each model, which the files leave out.
        let mut expected = files.len();
        for (_, text) in &files {
            expected += text.matches("parameters {").count() + 4;
        }
        prop_assert_eq!(imported.report.items.len(), expected);
        let settings = loaded.unwrap().settings;
        for item in &imported.report.items {
            let (Outcome::Taken { new } | Outcome::Changed { new, .. }) = &item.outcome else { continue };
            let Some(key) = &new.key else { continue };
            let setting = settings.iter().find(|setting| setting.path == *key);
            let value = setting.and_then(|setting| setting.value.as_ref()).map(Value::to_string);
            prop_assert_eq!(value.as_ref(), Some(&new.value), "{}", key);
        }
    }
}

#[test]
fn parameters_of_every_file_are_in_the_report() {
    for name in ["single", "unfilled", "two_models", "participants", "llmapi"] {
        let repository = Path::new(CASES).join(name).join("repo");
        let report = triton(&repository, &[]).unwrap().report;
        let told = report.items.iter().map(|item| (&item.file, &item.parameter));
        let unique: HashSet<_> = told.clone().collect();
        assert_eq!(unique.len(), told.count(), "{name}");
        for model in Repository::read(&repository).unwrap().models {
            for leaf in &model.leaves {
                assert!(unique.contains(&(&leaf.file, &leaf.path)), "{} {}", leaf.file, leaf.path);
            }
        }
    }
}
