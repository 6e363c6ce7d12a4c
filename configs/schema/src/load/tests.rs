use proptest::prelude::*;

use super::*;
use crate::keys;
use crate::kind::Kind;
use crate::{
    BatchSchedulerPolicy, ContextChunkingPolicy, Device, KvCacheDtype, Mode, ModelSource, Threads,
};

const SHA: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn load(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let mut env: HashMap<String, String> = pairs(env).into_iter().collect();
    env.entry("HOME".to_owned()).or_insert_with(|| "/home/u".to_owned());
    let (file, flags) = (Path::new("/etc/d/x.toml"), pairs(flags));
    merge(Sources { sites: &[], file, text, env: &env, flags: &flags })
}

fn problems(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Vec<String> {
    let errors = load(text, env, flags).unwrap_err();
    errors.errors().iter().map(ToString::to_string).collect()
}

fn origin(loaded: &Loaded, path: &str) -> String {
    loaded.settings.iter().find(|s| s.key.path == path).unwrap().origin.to_string()
}

/// A file with `name`, `model.source`, and these lines in `[model]`, the first on line 4.
fn model(lines: &str) -> String {
    format!("name = \"x\"\n[model]\nsource = \"m.gguf\"\n{lines}\n")
}

#[test]
fn the_least_file_gets_every_default() {
    let loaded = load(&model(""), &[], &[]).unwrap();
    let d = &loaded.deployment;
    assert_eq!(d.models[0].source, ModelSource::Path("/etc/d/m.gguf".into()));
    assert_eq!(
        (d.models[0].tp_size, d.models[0].threads, d.models[0].device),
        (1, Threads::Auto, Device::Auto)
    );
    assert_eq!((d.models[0].kv_cache.max_tokens, d.models[0].kv_cache.num_blocks()), (32768, 1024));
    assert_eq!(d.server.host.to_string(), "127.0.0.1");
    assert_eq!((d.server.http_port, d.server.metrics_port), (8000, 8002));
    assert_eq!(d.run.dir, Path::new("/home/u/.local/state/shardrun"));
    assert_eq!((&d.run.log_dir, &d.run.shm_prefix, d.models[0].max_seq_len), (&None, &None, None));
    assert_eq!(d.supervision.heartbeat.as_millis(), 500);
    assert_eq!(loaded.settings.len(), KEYS.len());
    assert_eq!(origin(&loaded, "model.source"), "/etc/d/x.toml:3");
    assert_eq!(origin(&loaded, "model.tp_size"), "default");
}

#[test]
fn the_engine_has_the_references_defaults_and_names() {
    let engine = load(&model(""), &[], &[]).unwrap().deployment;
    let (model_of, cache) = (&engine.models[0], &engine.models[0].kv_cache);
    assert_eq!(model_of.batch_scheduler_policy, BatchSchedulerPolicy::GuaranteedNoEvict);
    assert_eq!(model_of.context_chunking_policy, ContextChunkingPolicy::FirstComeFirstServed);
    assert_eq!((model_of.max_beam_width, model_of.max_logits_rows), (8, 512));
    assert_eq!((model_of.queue_timeout, model_of.request_timeout), (None, None));
    assert_eq!(cache.dtype, KvCacheDtype::Bf16);
    assert!(cache.enable_block_reuse && cache.enable_partial_reuse);
    assert_eq!((cache.event_buffer_max_size, cache.max_attention_window.len()), (0, 0));
    let metrics = &engine.metrics;
    assert_eq!(
        (metrics.iter_stats_max_iterations, metrics.request_stats_max_iterations),
        (1000, 0)
    );

    let text = model(
        "batch_scheduler_policy = \"max_utilization\"\n\
         context_chunking_policy = \"equal_progress\"\nqueue_timeout_ms = 250\n\
         request_timeout_ms = 86400000\n[kv_cache]\ndtype = \"f16\"\nenable_block_reuse = false\n\
         event_buffer_max_size = 64\nmax_attention_window = 4096\n\
         [metrics]\nrequest_stats_max_iterations = 10",
    );
    let env = [("SHARDRUN_METRICS_ITER_STATS_MAX_ITERATIONS", "20")];
    let flags = [("kv_cache.max_attention_window", "4096,128")];
    let engine = load(&text, &env, &flags).unwrap().deployment;
    let (model_of, cache) = (&engine.models[0], &engine.models[0].kv_cache);
    assert_eq!(model_of.batch_scheduler_policy, BatchSchedulerPolicy::MaxUtilization);
    assert_eq!(model_of.context_chunking_policy, ContextChunkingPolicy::EqualProgress);
    assert_eq!(model_of.queue_timeout.unwrap().as_millis(), 250);
    assert_eq!(model_of.request_timeout.unwrap().as_secs(), 86400);
    assert_eq!(cache.dtype, KvCacheDtype::F16);
    assert!(!cache.enable_block_reuse && cache.enable_partial_reuse);
    assert_eq!(cache.event_buffer_max_size, 64);
    assert_eq!(cache.max_attention_window, [4096, 128]);
    let metrics = &engine.metrics;
    assert_eq!((metrics.iter_stats_max_iterations, metrics.request_stats_max_iterations), (20, 10));
}

#[test]
fn beams_follow_a_small_batch_unless_someone_asked_for_them() {
    let loaded = load(&model("max_batch_size = 4"), &[], &[]).unwrap();
    assert_eq!(loaded.deployment.models[0].max_beam_width, 4);
    assert_eq!(origin(&loaded, "model.max_beam_width"), "default");
    let many = load(&model("max_batch_size = 64"), &[], &[]).unwrap();
    assert_eq!(many.deployment.models[0].max_beam_width, 8);
    assert!(load(&model("max_batch_size = 4\nmax_beam_width = 4"), &[], &[]).is_ok());
    assert_eq!(
        problems(&model("max_batch_size = 4\nmax_beam_width = 8"), &[], &[]),
        ["/etc/d/x.toml:5:18: model.max_beam_width = 8 must be at most \
         model.max_batch_size = 4 (/etc/d/x.toml:4)"]
    );
    assert_eq!(
        problems(&model("max_batch_size = 0"), &[], &[]),
        ["/etc/d/x.toml:4:18: model.max_batch_size is 0; allowed: an integer from 1 to 4096"]
    );
}

#[test]
fn windows_are_integers_from_1() {
    let takes = "1 to 1024 integers from 1 to 16777216, as in [512, 64], or 512,64 in a flag";
    let told = |value: &str| {
        problems(&model(&format!("[kv_cache]\nmax_attention_window = {value}")), &[], &[])
    };
    let lead = "/etc/d/x.toml:5:24: kv_cache.max_attention_window is";
    assert_eq!(told("0"), [format!("{lead} 0; allowed: {takes}")]);
    assert_eq!(told("[64, -1]"), [format!("{lead} [64, -1]; allowed: {takes} (number 2 is -1)")]);
    assert_eq!(told("[]"), [format!("{lead} []; allowed: {takes} (these are 0)")]);
    assert_eq!(told("[1.5]"), [format!("{lead} the array [(float)]; expected {takes}")]);
    assert_eq!(
        problems(&model(""), &[], &[("kv_cache.max_attention_window", "64,x")]),
        [format!(
            "command line: kv_cache.max_attention_window is the string \"64,x\"; expected {takes}"
        )]
    );
}

#[test]
fn flags_win_over_environment_over_file() {
    let text = model("tp_size = 2\nthreads = 3\nmax_batch_size = 4");
    let env = [("SHARDRUN_MODEL_TP_SIZE", "5"), ("SHARDRUN_MODEL_THREADS", "6")];
    let flags = [("model.tp_size", "7"), ("model.tp_size", "8")];
    let loaded = load(&text, &env, &flags).unwrap();
    let d = &loaded.deployment.models[0];
    assert_eq!((d.tp_size, d.threads, d.max_batch_size), (8, Threads::Fixed(6), 4));
    assert_eq!(origin(&loaded, "model.tp_size"), "command line");
    assert_eq!(origin(&loaded, "model.threads"), "SHARDRUN_MODEL_THREADS");
    assert_eq!(origin(&loaded, "model.max_batch_size"), "/etc/d/x.toml:6");
}

#[test]
fn paths_begin_where_they_are_written() {
    let text = "name = \"x\"\n[model]\nsource = \"~/m.gguf\"\n[run]\ndir = \"runs\"\n";
    let loaded = load(text, &[], &[("run.log_dir", "logs")]).unwrap();
    assert_eq!(loaded.deployment.models[0].source, ModelSource::Path("/home/u/m.gguf".into()));
    assert_eq!(loaded.deployment.run.dir, Path::new("/etc/d/runs"));
    let here = std::env::current_dir().unwrap();
    assert_eq!(loaded.deployment.run.log_dir, Some(here.join("logs")));
    let state = load(&model(""), &[("XDG_STATE_HOME", "/state/")], &[]).unwrap();
    assert_eq!(state.deployment.run.dir, Path::new("/state/shardrun"));
    assert_eq!(
        problems(text, &[("HOME", "")], &[]),
        [
            "/etc/d/x.toml:3:10: model.source: no home folder: HOME is not set; write an absolute path"
        ]
    );
}

#[test]
fn every_problem_is_told_with_its_place() {
    let text = model("tp_size = \"2\"\nthreads = 0\nisa = \"sse\"\ntp_sise = 1\ndevice = \"cuda\"");
    let env = [("SHARDRUN_SERVER_HTTP_PORT", "70000"), ("SHARDRUN_SERVER_PORT", "1")];
    let flags = [("model.tp", "4"), ("kv_cache.tokens_per_block", "24")];
    assert_eq!(
        problems(&text, &env, &flags),
        [
            "/etc/d/x.toml:7:1: unknown key model.tp_sise; did you mean model.tp_size?",
            "SHARDRUN_SERVER_PORT: no key has this environment name; did you mean SHARDRUN_SERVER_HTTP_PORT?",
            "command line: unknown key model.tp; did you mean model.tp_size?",
            "/etc/d/x.toml:4:11: model.tp_size is the string \"2\"; expected an integer from 1 to 256",
            "/etc/d/x.toml:5:11: model.threads is 0; allowed: \"auto\" or an integer from 1 to 1024",
            "/etc/d/x.toml:6:7: model.isa is \"sse\"; allowed: one of \"auto\", \"scalar\", \"avx2\", \"avx512\", \"avx512bf16\"",
            "/etc/d/x.toml:8:10: model.device is \"cuda\"; allowed: one of \"auto\", \"cpu\" (there is no CUDA backend yet)",
            "SHARDRUN_SERVER_HTTP_PORT: server.http_port is 70000; allowed: an integer from 0 to 65535",
            "command line: kv_cache.tokens_per_block is 24; allowed: a power of two from 8 to 256",
        ]
    );
}

#[test]
fn only_the_command_line_is_a_matter_of_usage() {
    let usage = |text: &str, env: &[_], flags: &[_]| load(text, env, flags).unwrap_err().is_usage();
    assert!(usage(&model(""), &[], &[("model.tp_size", "0")]));
    assert!(usage(&model(""), &[], &[("model.tpsize", "1")]));
    assert!(usage(&model(""), &[], &[("server.host", "0.0.0.0")]));
    assert!(usage(&model(""), &[], &[("supervision.heartbeat_ms", "4000")]));
    assert!(!usage(&model("tp_size = 0"), &[], &[]));
    assert!(!usage(&model(""), &[("SHARDRUN_MODEL_TP_SIZE", "0")], &[]));
}

#[test]
fn what_must_be_there_is_asked_for() {
    assert_eq!(
        problems("", &[], &[]),
        [
            "/etc/d/x.toml: name is missing: name the deployment, as in name = \"smollm2\"",
            "/etc/d/x.toml: model.source is missing: a path to a GGUF file, or pypi:PACKAGE==VERSION/FILE",
        ]
    );
    let text = "name = \"x\"\n[model]\nsource = \"pypi:p==1/m.gguf\"\n";
    assert_eq!(
        problems(text, &[], &[]),
        [
            "/etc/d/x.toml: model.sha256 is missing: a file from a package is checked against its SHA-256"
        ]
    );
    let loaded = load(text, &[("SHARDRUN_MODEL_SHA256", SHA)], &[]).unwrap();
    assert_eq!(loaded.deployment.models[0].sha256.as_ref().unwrap().as_str(), SHA);
}

#[test]
fn a_refused_value_breeds_no_second_error() {
    let text = "name = 3\n[model]\nsource = \"pypi:p==1/m\"\nsha256 = \"12\"\n";
    let found = problems(text, &[], &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[1].contains("model.sha256 is \"12\"; allowed: a string of 64 hex"), "{found:?}");
}

#[test]
fn values_that_do_not_go_together_are_told_with_both_places() {
    let told = |lines: &str, flags: &[_]| problems(&model(lines), &[], flags);
    assert_eq!(
        told("[supervision]\nheartbeat_timeout_ms = 1000", &[]),
        [
            "/etc/d/x.toml:5:24: supervision.heartbeat_timeout_ms = 1000 must be at least three times \
         supervision.heartbeat_ms = 500 (default)"
        ]
    );
    assert_eq!(
        told("[supervision]\nheartbeat_ms = 2000", &[]),
        ["/etc/d/x.toml:5:16: supervision.heartbeat_timeout_ms = 5000 (default) must be at least \
         three times supervision.heartbeat_ms = 2000"]
    );
    assert_eq!(
        told("max_num_tokens = 16", &[]),
        ["/etc/d/x.toml:4:18: model.max_num_tokens = 16 must be at least \
         model.max_batch_size = 32 (default)"]
    );
    assert_eq!(
        told("[kv_cache]\nmax_tokens = 16", &[]),
        ["/etc/d/x.toml:5:14: kv_cache.max_tokens = 16 must be at least \
         kv_cache.tokens_per_block = 32 (default)"]
    );
    assert_eq!(
        told("max_seq_len = 40000", &[]),
        ["/etc/d/x.toml:4:15: model.max_seq_len = 40000 must be at most \
         kv_cache.max_tokens = 32768 (default)"]
    );
    assert_eq!(
        told("", &[("server.metrics_port", "8000")]),
        [
            "command line: server.metrics_port = 8000 must differ from server.http_port = 8000 (default)"
        ]
    );
    assert_eq!(
        told("[server]\nhost = \"0.0.0.0\"", &[]),
        [
            "/etc/d/x.toml:5:8: server.host = \"0.0.0.0\" is beyond loopback, which is refused while \
         server.allow_remote = false (default)"
        ]
    );
}

#[test]
fn values_at_the_edge_of_a_rule_are_allowed() {
    for lines in [
        "[supervision]\nheartbeat_timeout_ms = 1500",
        "max_num_tokens = 32",
        "[kv_cache]\nmax_tokens = 32",
        "max_seq_len = 32768",
        "[server]\nhttp_port = 0\nmetrics_port = 0",
        "[server]\nhost = \"0.0.0.0\"\nallow_remote = true",
        "[server]\nhost = \"::1\"",
    ] {
        assert!(load(&model(lines), &[], &[]).is_ok(), "{lines}");
    }
}

#[test]
fn a_resolved_deployment_reads_back_to_itself() {
    let text = format!(
        "name = \"x\"\n[model]\nsource = \"pypi:p==1/m\"\nsha256 = \"{SHA}\"\nthreads = 3\n\
         max_seq_len = 100\nqueue_timeout_ms = 250\n[kv_cache]\n\
         max_attention_window = [128, 64]\n[run]\nlog_dir = \"/l\"\nshm_prefix = \"s_\"\n"
    );
    let written = load(&text, &[], &[]).unwrap().deployment;
    let toml = written.to_toml().unwrap();
    assert_eq!(Deployment::from_resolved_toml(&toml).unwrap(), written);
    let optional = |key: &&keys::Key| match key.fallback {
        keys::Fallback::Absent(_) => text.contains(key.path.rsplit('.').next().unwrap()),
        _ => true,
    };
    for (key, line) in
        KEYS.iter().filter(optional).map(|key| (key.path, key.path.rsplit('.').next().unwrap()))
    {
        assert!(toml.contains(&format!("{line} = ")), "{key} is not in the resolved form");
    }
}

#[test]
fn a_resolved_deployment_ignores_the_environment_and_must_be_whole() {
    let error = Deployment::from_resolved_toml(&model("")).unwrap_err().to_string();
    assert_eq!(error, "default: run.dir: no home folder: HOME is not set; write an absolute path");
}

#[test]
fn files_are_read_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.toml");
    std::fs::write(&path, model("")).unwrap();
    let env = pairs(&[("HOME", "/h")]);
    let loaded = Deployment::load(&path, env.into_iter(), &[]).unwrap();
    assert_eq!(loaded.deployment.models[0].source, ModelSource::Path(dir.path().join("m.gguf")));
    let gone = Deployment::load(&dir.path().join("none"), std::iter::empty(), &[]).unwrap_err();
    assert!(matches!(gone.errors(), [ConfigError::Read { .. }]));
    assert!(gone.to_string().contains("none: cannot read the deployment file: No such file"));
}

#[test]
fn the_deployments_of_this_folder_load() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let env = pairs(&[("HOME", "/h")]);
            Deployment::load(&path, env.into_iter(), &[]).unwrap_or_else(|error| panic!("{error}"));
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// Values that a key takes or may nearly take, as TOML.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (0i64..70_000).prop_map(|n| n.to_string()),
        prop::sample::select(vec![
            "true",
            "false",
            "\"auto\"",
            "\"cpu\"",
            "\"shm\"",
            "\"info\"",
            "\"127.0.0.1\"",
            "\"::1\"",
            "\"~\"",
            "\"\"",
            "\"pypi:a==1/b\"",
            "\"/m\"",
            "1.5",
            "[1]",
            "[]",
            "[4096, 64]",
            "[1, [2]]",
            "\"int8\"",
            "\"max_utilization\"",
            "{ a = 1 }",
            "1979-05-27",
            "0xffffffffffffffffffffffffffffffff",
            "\"\\u0000\"",
            "{}",
        ])
        .prop_map(str::to_owned),
        "[a-z0-9/~._:=\u{e9}-]{0,70}".prop_map(|text| format!("\"{text}\"")),
        Just(format!("\"{SHA}\"")),
    ]
}

const PAIR: &str = "name = \"pair\"\n[model]\nsource = \"m.gguf\"\nthreads = 1\n\
    [kv_cache]\nmax_tokens = 4096\n[models.small]\ninstances = 2\n\
    [models.large]\nsource = \"l.gguf\"\ntp_size = 2\nkv_cache.max_tokens = 8192\n";

#[test]
fn models_have_their_own_tables_over_what_all_share() {
    let env = [("SHARDRUN_MODEL_THREADS", "3")];
    let flags = [("models.small.max_batch_size", "4"), ("model.max_batch_size", "8")];
    let loaded = load(PAIR, &env, &flags).unwrap();
    let deployment = &loaded.deployment;
    assert_eq!(deployment.mode, Mode::Orchestrator);
    let [small, large] = deployment.models.as_slice() else { panic!("{deployment:?}") };
    assert_eq!((&*small.name, &*large.name), ("small", "large"));
    assert_eq!((small.instances, large.instances, deployment.ranks()), (2, 1, 4));
    assert_eq!((small.threads, large.threads), (Threads::Fixed(3), Threads::Fixed(3)));
    assert_eq!((small.kv_cache.max_tokens, large.kv_cache.max_tokens), (4096, 8192));
    assert_eq!((small.max_batch_size, large.max_batch_size), (4, 8));
    assert_eq!(large.source, ModelSource::Path("/etc/d/l.gguf".into()));
    let of = |path: &str| loaded.settings.iter().find(|setting| setting.path == path);
    assert_eq!(of("models.large.tp_size").unwrap().origin.to_string(), "/etc/d/x.toml:11");
    assert!(of("model.tp_size").is_none() && of("server.host").is_some());
    let again = Deployment::from_resolved_toml(&deployment.to_toml().unwrap()).unwrap();
    assert_eq!(&again, deployment);
}

#[test]
fn a_single_model_is_named_as_its_deployment_and_led() {
    let loaded = load(&model(""), &[], &[]).unwrap().deployment;
    assert_eq!((loaded.mode, &*loaded.models[0].name), (Mode::Leader, "x"));
    let two = load(&model("instances = 2"), &[], &[]).unwrap().deployment;
    assert_eq!(two.mode, Mode::Orchestrator);
    let one = load(&model(""), &[], &[("mode", "orchestrator")]).unwrap().deployment;
    assert_eq!(one.mode, Mode::Orchestrator);
    assert_eq!(
        problems(&model("instances = 2"), &[], &[("mode", "leader")]),
        ["command line: mode = \"leader\" serves one instance of one model, and these are 2; \
          mode = \"orchestrator\" serves them all"]
    );
}

#[test]
fn what_is_wrong_in_a_models_table_has_its_place() {
    assert_eq!(
        problems("name = \"x\"\n[models.a]\ntp_sise = 2\n[models.B]\n", &[], &[]),
        [
            "/etc/d/x.toml:3:1: unknown key models.a.tp_sise; did you mean model.tp_size?",
            "/etc/d/x.toml:4:9: a model's name is \"B\"; allowed: a string of 1 to 32 of the \
             characters a-z 0-9 - _",
            "/etc/d/x.toml: models.a.source is missing: a path to a GGUF file, or \
             pypi:PACKAGE==VERSION/FILE",
        ]
    );
    let shared = format!("{PAIR}server.http_port = 70000\n");
    assert_eq!(problems(&shared.replace("server.", "[server]\n"), &[], &[]).len(), 1, "told once");
    let ids = format!("{PAIR}gpu_device_ids = \"0,1,2\"\n");
    assert_eq!(
        problems(&ids, &[], &[]),
        [
            "/etc/d/x.toml:13:18: model.gpu_device_ids is \"0,1,2\": a set has 3 ids; model.tp_size is 2"
        ]
    );
}

#[test]
fn names_that_clients_could_not_tell_apart_are_refused() {
    let reserved = "allowed: another than ensemble, tensorrt_llm, tensorrt_llm_bls: these always mean \
                    the deployment's default model";
    assert_eq!(
        problems("name = \"ensemble\"\nmodel.source = \"/m\"", &[], &[]),
        [format!("/etc/d/x.toml:1:8: name is \"ensemble\"; {reserved}")]
    );
    let two = |first: &str, second: &str| {
        format!("name = \"ensemble\"\nmodel.source = \"/m\"\n[models.{first}]\n[models.{second}]")
    };
    let told = problems(&two("a", "tensorrt_llm"), &[], &[]);
    assert_eq!(
        told,
        [format!("/etc/d/x.toml:4:9: a model's name is \"tensorrt_llm\"; {reserved}")]
    );
    for (first, second, route, taken) in [
        ("a", "ensemble_a", "ensemble_a", "a"),
        ("bls_a", "a", "tensorrt_llm_bls_a", "bls_a"),
        // The first has the plain names, too.
        ("a", "bls", "tensorrt_llm_bls", "a"),
    ] {
        assert_eq!(
            problems(&two(first, second), &[], &[]),
            [format!(
                "/etc/d/x.toml:4:9: a model's name is \"{second}\"; allowed: one under which nothing \
                 else is served; it would be served as {route}, which the model \"{taken}\" is"
            )]
        );
    }
    assert!(load(&two("bls", "a"), &[], &[]).is_ok());
    assert!(load(&two("ensembles", "a_b"), &[], &[]).is_ok());
    let flags = [("models.ensemble.tp_size", "2")];
    assert!(problems(&two("a", "b"), &[], &flags)[0].starts_with("command line: "));
}

#[test]
fn participants_are_ranks_of_one_world() {
    let text = "name = \"x\"\nmodel.source = \"/m\"\n[models.a]\ntp_size = 2\ninstances = 2\n\
                participant_ids = \"1,2;3,4\"\n[models.b]\nparticipant_ids = \"6\"";
    let deployment = load(text, &[], &[]).unwrap().deployment;
    assert_eq!(deployment.mode, Mode::Orchestrator);
    assert_eq!(deployment.shared_world_size(), 7);
    let seats: Vec<_> = (0..7).map(|rank| deployment.participant(rank)).collect();
    let expected =
        [None, Some((0, 0)), Some((0, 1)), Some((1, 0)), Some((1, 1)), None, Some((2, 0))];
    assert_eq!(seats, expected);
    let wrong = |from: &str, to: &str| problems(&text.replace(from, to), &[], &[]).join("\n");
    assert!(wrong("\"6\"", "\"4\"").ends_with("rank 4 would be in two places"));
    assert!(wrong("3,4", "0,4").contains("rank 0 is the orchestrator's"));
    assert!(wrong(";3,4", "").contains("it has 1 sets; model.instances is 2"));
    assert!(
        wrong("participant_ids = \"6\"", "").ends_with("every model needs participants, or none")
    );
}

#[test]
fn a_site_file_is_below_the_deployment_and_for_all() {
    let (file, env) = (Path::new("/d/x.toml"), HashMap::from([("HOME".into(), "/h".into())]));
    let sources = |site: &str, text: &str| {
        let sites = [(site.to_owned(), PathBuf::from("/etc/shardrun/site.toml"))];
        merge(Sources { sites: &sites, file, text, env: &env, flags: &[] })
    };
    let site = "[slurm]\npartition = \"cpu\"\nmpi = \"pmix_v4\"\nskip_directives = [\"mem\"]\n\
                prologue = \"module purge\\nulimit -l unlimited\"\n[run]\ndir = \"runs\"";
    let loaded = sources(site, &format!("{}[slurm]\npartition = \"mine\"\ntime = 30", model("")));
    let loaded = loaded.unwrap();
    let slurm = &loaded.deployment.slurm;
    assert_eq!((slurm.partition.as_deref(), &*slurm.mpi), (Some("mine"), "pmix_v4"));
    assert_eq!((slurm.time.as_deref(), slurm.prologue.len()), (Some("30"), 2));
    assert_eq!(origin(&loaded, "slurm.mpi"), "/etc/shardrun/site.toml:3");
    assert_eq!(loaded.deployment.run.dir, Path::new("/etc/shardrun/runs"));
    let wrong = sources("name = \"a\"\n[model]\ntp_size = 2", &model("")).unwrap_err().to_string();
    assert_eq!(wrong.lines().count(), 2, "{wrong}");
    assert!(
        wrong.contains("site.toml:3:11: model.tp_size belongs in the deployment file"),
        "{wrong}"
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = load(&text, &[], &[]);
    }

    #[test]
    fn no_toml_like_text_panics(text in "([a-z_.]{1,8}|[\\[\\]={}\",'#.\n\r\t \\\\0-9-]){0,60}") {
        let _ = load(&text, &[], &[]);
    }

    #[test]
    fn no_values_of_known_keys_panic(values in prop::collection::vec((0..KEYS.len(), value()), 0..12)) {
        let lines: Vec<_> =
            values.iter().map(|(i, value)| format!("{} = {value}", KEYS[*i].path)).collect();
        let _ = load(&lines.join("\n"), &[], &[]);
    }

    /// Whatever a key takes, its field takes: `assemble` relies on it.
    #[test]
    fn what_a_key_takes_fits_its_field(index in 0..KEYS.len(), value in value()) {
        let key = &KEYS[index];
        let base = "name = \"x\"\nmodel.source = \"/m\"\nserver.allow_remote = true\n";
        let mut lines: Vec<_> = base.lines().filter(|l| !l.starts_with(key.path)).collect();
        let line = format!("{} = {value}", key.path);
        lines.push(&line);
        if let Ok(loaded) = load(&lines.join("\n"), &[], &[]) {
            let toml = loaded.deployment.to_toml().unwrap();
            prop_assert_eq!(Deployment::from_resolved_toml(&toml).unwrap(), loaded.deployment);
        }
    }

    #[test]
    fn no_flag_or_variable_panics(index in 0..KEYS.len(), text in any::<String>()) {
        let key = &KEYS[index];
        let _ = load(&model(""), &[(&key.env_name(), &text)], &[(key.path, &text)]);
    }
}

/// Each key at both ends of what it takes, one by one, since random values may miss them.
#[test]
fn the_ends_of_every_range_fit_their_fields() {
    for key in KEYS {
        let ends: Vec<String> = match key.kind {
            Kind::Integer { min, max } | Kind::PowerOfTwo { min, max } => {
                vec![min.to_string(), max.to_string()]
            }
            Kind::Integers { max, most } => {
                vec!["1".into(), max.to_string(), vec!["7"; most].join(",")]
            }
            Kind::AutoOrUpTo(max) => vec!["1".into(), max.to_string(), "auto".into()],
            Kind::Word(words) => words.iter().map(|word| (*word).to_owned()).collect(),
            Kind::Bool => vec!["true".into(), "false".into()],
            Kind::Name => vec!["a".repeat(32)],
            Kind::Address => vec!["localhost".into(), "::1".into()],
            Kind::Path => vec!["/p".into()],
            Kind::Source => vec!["/p".into(), "pypi:a==1/b".into()],
            Kind::Sha256 => vec![SHA.into()],
            Kind::ShmPrefix => vec!["p".repeat(64)],
            Kind::Text => vec!["x".into(), "x".repeat(4096)],
            Kind::Texts { most } => vec!["x".into(), vec!["x"; most].join(",")],
            Kind::Lines { most } => vec!["x".into(), vec!["x"; most].join("\n")],
            Kind::SlurmTime => vec!["1".into(), "1-00:00:00".into()],
            Kind::IdSets => vec!["1".into(), "1,2;3,4".into()],
        };
        for end in ends {
            let mut errors = Vec::new();
            let flag = [(key.path.to_owned(), end)];
            let mut settle = Settle { settled: Settled::default(), errors: &mut errors };
            let file = file::parse(Path::new("x"), &model(""), &mut Vec::new());
            settle.layer(&file.entries, None);
            settle.layer(&layers::flags(&flag, &mut Vec::new()).entries, None);
            settle.defaults(Path::new("x"), None, &HashMap::new());
            let settled = settle.settled;
            assert!(errors.is_empty(), "{errors:?}");
            assemble::assemble(Mode::Leader, &[("m".to_owned(), settled)]);
        }
    }
}

#[test]
fn a_setting_is_cut_at_its_first_equals_sign() {
    assert_eq!(parse_setting("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
    assert!(parse_setting("=b").is_err() && parse_setting("a").is_err());
}

#[test]
fn where_runs_are_without_a_deployment_file_is_the_sites_or_the_environments() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site.toml");
    std::fs::write(&site, "[run]\ndir = \"/scratch/runs\"\n").unwrap();
    let usual = |env: &[(&str, &str)]| {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        usual_run_dir(env).unwrap()
    };
    let site = site.to_str().unwrap();
    assert_eq!(usual(&[("SHARDRUN_SITE", site)]), Path::new("/scratch/runs"));
    assert_eq!(
        usual(&[("SHARDRUN_SITE", site), ("SHARDRUN_RUN_DIR", "/mine")]),
        Path::new("/mine")
    );
    assert_eq!(
        usual(&[("SHARDRUN_SITE", ""), ("HOME", "/home/ada")]),
        Path::new("/home/ada/.local/state/shardrun")
    );
}
