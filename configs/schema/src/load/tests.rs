mod models;
mod properties;
mod refusals;

use super::*;
use crate::keys;
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
