//! Model repositories of Triton to deployment files.
//!
//! A repository's files become parameters ([`leaf`]), each of which is decided once: by a table of what
//! is known ([`rules`]), with the others of its kind ([`placement`], [`source`], [`names`]), or as
//! unknown. What is taken over makes a draft ([`draft`]), which is written as TOML.

mod apply;
mod built;
mod draft;
mod error;
mod folder;
mod kind;
mod leaf;
mod names;
mod number;
mod pbtxt;
mod placement;
mod report;
mod rules;
mod source;
mod write;
mod yaml;

use std::path::Path;

use draft::ModelDraft;
use folder::{CONFIG, MODEL_YAML, Repository, TritonModel};
use kind::Kind;
use leaf::{Given, Leaf};
use names::Named;
use report::Outcome;
use rules::{AROUND, BUILT, COMMON, ENGINE, INNER, LLMAPI, LLMAPI_CONFIG};
use source::Sources;

pub(crate) use error::ImportError;
pub(crate) use report::Report;

/// A repository as a deployment.
#[derive(Debug)]
pub(crate) struct Imported {
    /// The deployment file.
    pub(crate) toml: String,
    pub(crate) report: Report,
}

/// Reads the model repository at `path`. `sources` name models' GGUF files: `PATH`, or `FOLDER=PATH`
/// for one of several models.
///
/// # Errors
/// [`ImportError`] if a file can't be read, is not what it should be, or no model has an engine.
pub(crate) fn triton(path: &Path, sources: &[String]) -> Result<Imported, ImportError> {
    let repository = Repository::read(path)?;
    let name = names::of_deployment(path);
    let named = names::of_models(&repository);
    let folders: Vec<_> = named.iter().map(|named| named.folder).collect();
    let sources = Sources::read(sources, &folders)?;

    let outcomes: Vec<_> =
        repository.models.iter().map(|model| names::served(model, &named, &name)).collect();
    let mut drafts = drafts(&repository, &named, &sources)?;
    let pre_started = placement::settle(&mut drafts);
    drafts.iter_mut().for_each(ModelDraft::keep_rules);
    let shared = draft::shared(&mut drafts);
    let toml = write::Deployment {
        name: &name,
        repository: &path.display().to_string(),
        pre_started,
        models: &drafts,
        shared: &shared,
    }
    .toml();

    let mut notes: Vec<_> = drafts.iter().flat_map(to_do).collect();
    let without_config =
        |folder| format!("{folder}: it has no {CONFIG}, so nothing was read from it");
    notes.extend(repository.other_folders.iter().map(without_config));
    let halves = repository.models.iter().filter(|model| model.kind == Kind::Disaggregated);
    notes.extend(halves.map(|model| {
        format!("{}: its two models are a whole model each here; keep one of them", model.name)
    }));
    let mut items = Vec::new();
    for (model, outcome) in repository.models.iter().zip(outcomes) {
        let mut leaves = match drafts.iter().position(|draft| draft.folder == model.name) {
            Some(place) => std::mem::take(&mut drafts[place].leaves),
            None => around(&repository, model, &drafts),
        };
        tell_name(&model.name, &mut leaves, outcome);
        items.extend(leaves.into_iter().map(report::Item::from));
    }
    Ok(Imported { toml, report: Report { items, notes } })
}

/// The engines' models with all that can be decided for each alone.
fn drafts(
    repository: &Repository,
    named: &[Named<'_>],
    sources: &Sources,
) -> Result<Vec<ModelDraft>, ImportError> {
    let mut drafts = Vec::new();
    for named in named {
        let Some(model) = repository.models.iter().find(|model| model.name == named.folder) else {
            continue;
        };
        let engine = match model.kind {
            Kind::LlmApi => model.yaml_value("model"),
            _ => model.parameter("gpt_model_path"),
        };
        let mut leaves = model.leaves.clone();
        leaves.extend(built::leaves(engine)?);
        let mut draft = ModelDraft::new(named.folder, named.table.clone(), leaves);
        let around = tokenizers(repository, named.folder);
        source::choose(&mut draft, around, sources, &[ENGINE, LLMAPI, AROUND]);
        let mut leaves = std::mem::take(&mut draft.leaves);
        source::tell(&[&draft], &mut leaves, &[ENGINE, LLMAPI]);
        draft.leaves = leaves;
        match model.kind {
            Kind::LlmApi => apply::to_engine(&mut draft, CONFIG, &[LLMAPI_CONFIG, ENGINE, COMMON]),
            _ => apply::to_engine(&mut draft, CONFIG, &[ENGINE, COMMON]),
        }
        apply::to_engine(&mut draft, MODEL_YAML, &[LLMAPI]);
        apply::to_engine(&mut draft, built::CONFIG, &[BUILT]);
        drafts.push(draft);
    }
    Ok(drafts)
}

/// Parameters of the models that turn an engine's text into tokens: those that an ensemble runs with it,
/// or all if there is one engine.
fn tokenizers<'a>(repository: &'a Repository, engine: &'a str) -> impl Iterator<Item = &'a Leaf> {
    let models = &repository.models;
    let only = models.iter().filter(|model| model.kind.is_engine()).count() == 1;
    let beside = models
        .iter()
        .map(names::steps)
        .filter(|steps| steps.iter().any(|step| step == engine))
        .flatten()
        .collect::<Vec<_>>();
    models
        .iter()
        .filter(|model| matches!(model.kind, Kind::Preprocessing | Kind::Postprocessing))
        .filter(move |model| only || beside.contains(&model.name))
        .flat_map(|model| &model.leaves)
}

/// What became of the parameters of a model that is no engine's.
fn around(repository: &Repository, model: &TritonModel, drafts: &[ModelDraft]) -> Vec<Leaf> {
    let mut leaves = model.leaves.clone();
    if model.kind == Kind::Other {
        for leaf in leaves.iter_mut().filter(|leaf| leaf.path != "name") {
            leaf.decide(Outcome::left("a model of this kind has no counterpart here", ""));
        }
        return leaves;
    }
    let known = |step: &String| {
        repository.models.iter().any(|model| model.name == *step && model.kind != Kind::Other)
    };
    let foreign: Vec<_> = names::steps(model).into_iter().filter(|step| !known(step)).collect();
    for leaf in leaves.iter_mut().filter(|leaf| leaf.path == "ensemble_scheduling") {
        if !foreign.is_empty() {
            let why = format!("{} has no counterpart here", foreign.join(", "));
            leaf.decide(Outcome::left(why, "what it does is up to clients"));
        }
    }
    source::tell(&drafts.iter().collect::<Vec<_>>(), &mut leaves, &[AROUND]);
    match model.kind {
        Kind::Preprocessing | Kind::Postprocessing => {
            apply::around(&mut leaves, &[INNER, AROUND, COMMON]);
        }
        _ => apply::around(&mut leaves, &[AROUND, COMMON]),
    }
    leaves
}

/// Tells what a model is called now; a config.pbtxt without a name has its folder's.
fn tell_name(folder: &str, leaves: &mut Vec<Leaf>, outcome: Outcome) {
    match leaves.iter_mut().find(|leaf| leaf.path == "name") {
        Some(leaf) if leaf.given.one().is_none_or(|name| name == folder) => leaf.decide(outcome),
        Some(leaf) => {
            let why = format!("Triton wants the folder's name, {folder}");
            leaf.decide(Outcome::left(why, "what clients call the folder's name"));
        }
        None => {
            let mut leaf = Leaf::new(&format!("{folder}/{CONFIG}"), "name", Given::text(folder));
            leaf.decide(outcome);
            leaves.insert(0, leaf);
        }
    }
}

/// What the user is to do and to know of a model.
fn to_do(draft: &ModelDraft) -> Vec<String> {
    let key = draft.path_of("model.source");
    let missing = draft.source.is_none().then(|| {
        format!(
            "{}: write the path of its GGUF file as {key}; or import with --source",
            draft.folder
        )
    });
    let pypi = matches!(draft.source, Some(shardrun_config::ModelSource::Pypi { .. }));
    let unchecked = pypi.then(|| {
        format!(
            "{}: write the SHA-256 of its file as {}",
            draft.folder,
            draft.path_of("model.sha256")
        )
    });
    let cache = draft.path_of("kv_cache.max_tokens");
    let unsized_cache = (!draft.settings.contains_key("kv_cache.max_tokens")).then(|| {
        format!(
            "{}: the cache was a share of the GPU's memory; {cache} says how many tokens it holds here",
            draft.folder
        )
    });
    let found = [missing, unchecked, unsized_cache].into_iter().flatten();
    found.chain(draft.notes.iter().cloned()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
