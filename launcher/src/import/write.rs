//! The deployment file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use shardrun_config::ModelSource;
use shardrun_config::keys::{KEYS, Key};

use super::draft::{ModelDraft, Setting};
use super::report::shown;

/// What the file is about.
pub(crate) struct Deployment<'a> {
    pub(crate) name: &'a str,
    pub(crate) repository: &'a str,
    /// Whether ranks are started as one world, which an orchestrator does.
    pub(crate) pre_started: bool,
    pub(crate) models: &'a [ModelDraft],
    /// Keys that are not a model's.
    pub(crate) shared: &'a BTreeMap<&'static str, Setting>,
}

impl Deployment<'_> {
    /// The file's text; a comment stands above each value that is another than in the repository, and
    /// where something is to be filled in.
    pub(crate) fn toml(&self) -> String {
        let mut out = String::new();
        let repository = shown(self.repository, 500);
        let _ = writeln!(
            out,
            "# From the Triton model repository {repository}, by `shardrun import triton`."
        );
        let _ = writeln!(
            out,
            "# docs/config.md has every key, docs/from-triton.md what became of the parameters.\n"
        );
        let _ = writeln!(out, "name = \"{}\"", self.name);
        if self.pre_started {
            let _ = writeln!(out, "# The ranks of participant_ids are started as one world.");
            let _ = writeln!(out, "mode = \"orchestrator\"");
        }
        for model in self.models {
            write_model(&mut out, model);
        }
        let mut section = "";
        for key in KEYS {
            let Some(setting) = self.shared.get(key.path) else { continue };
            let (of, leaf) = key.path.split_once('.').unwrap_or(("", key.path));
            if of != section {
                section = of;
                let _ = writeln!(out, "\n[{section}]");
            }
            write_setting(&mut out, leaf, setting);
        }
        out
    }
}

fn write_model(out: &mut String, model: &ModelDraft) {
    let (own, cache) = match &model.table {
        None => ("model".to_owned(), "kv_cache".to_owned()),
        Some(name) => (format!("models.{name}"), format!("models.{name}.kv_cache")),
    };
    let folder = shown(&model.folder, 200);
    let _ = writeln!(out, "\n# {folder}\n[{own}]");
    if model.source.is_none() {
        let _ = writeln!(
            out,
            "# To be filled in: the model's GGUF file.\n# source = \"/path/to/model.gguf\""
        );
    }
    let keys = |section: &'static str| {
        let of_section = move |key: &&Key| {
            key.path.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
        };
        KEYS.iter().filter(of_section).filter_map(move |key| {
            Some((&key.path[section.len() + 1..], model.settings.get(key.path)?))
        })
    };
    for (leaf, setting) in keys("model") {
        write_setting(out, leaf, setting);
        if leaf == "source" && matches!(model.source, Some(ModelSource::Pypi { .. })) {
            let _ = writeln!(out, "# To be filled in: the file's SHA-256.\n# sha256 = \"\"");
        }
    }
    if !model.settings.contains_key("model.tp_size") {
        let _ =
            writeln!(out, "# To be checked: the --world_size of the launch script.\n# tp_size = 1");
    }
    let mut cached = keys("kv_cache").peekable();
    if cached.peek().is_some() {
        let _ = writeln!(out, "\n[{cache}]");
    }
    for (leaf, setting) in cached {
        write_setting(out, leaf, setting);
    }
}

fn write_setting(out: &mut String, leaf: &str, setting: &Setting) {
    if let Some(comment) = &setting.comment {
        let _ = writeln!(out, "# {}", shown(comment, 500));
    }
    let _ = writeln!(out, "{leaf} = {}", setting.value);
}
