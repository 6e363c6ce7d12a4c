//! What models are called, here and there.
//!
//! A model `M` of a deployment is served as `tensorrt_llm_M` (tokens), and as `ensemble_M`,
//! `tensorrt_llm_bls_M` and `M` (text). The first has the names without `_M`, too. So a copy that Triton
//! has as `tensorrt_llm_2` becomes the model `2`.

use std::path::Path;

use super::folder::{Repository, TritonModel};
use super::kind::Kind;
use super::report::{New, Outcome};

const TOKENS: &str = "tensorrt_llm";
const ENSEMBLE: &str = "ensemble";
const BLS: &str = "tensorrt_llm_bls";
/// Characters of a model's or a deployment's name.
const LONGEST: usize = 32;

/// The deployment's name, after the repository's folder.
pub(crate) fn of_deployment(repository: &Path) -> String {
    let path = std::path::absolute(repository).unwrap_or_else(|_| repository.to_owned());
    let folder = path.file_name().unwrap_or_default().to_string_lossy();
    let name = plain(&folder);
    match name.is_empty() || [TOKENS, ENSEMBLE, BLS].contains(&name.as_str()) {
        // Clients would take it for one of the plain names.
        true => "imported".to_owned(),
        false => name,
    }
}

/// An engine's model with its name here.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    pub(crate) folder: &'a str,
    /// The name of its own table; `None` if it is in `[model]` and has the deployment's name.
    pub(crate) table: Option<String>,
}

/// Names all engines' models, the one that gets the plain names first.
pub(crate) fn of_models(repository: &Repository) -> Vec<Named<'_>> {
    let engines = repository.models.iter().filter(|model| model.kind.is_engine());
    let mut folders: Vec<_> = engines.map(|model| model.name.as_str()).collect();
    let first = plainly_named(repository, &folders);
    folders.sort_by_key(|folder| Some(*folder) != first);
    if let [folder] = folders.as_slice() {
        let table = suffix(folder).map(plain).filter(|name| !name.is_empty());
        return vec![Named { folder, table }];
    }
    let mut taken: Vec<String> = Vec::new();
    let mut named = Vec::new();
    // Folders with a suffix first: theirs is what clients know.
    let mut by_claim = folders.clone();
    by_claim.sort_by_key(|folder| suffix(folder).is_none());
    for folder in by_claim {
        let wanted = match (suffix(folder), folder) {
            (Some(suffix), _) => plain(suffix),
            (None, TOKENS) => "1".to_owned(),
            (None, folder) => plain(folder),
        };
        let name = free(&wanted, &taken);
        taken.push(name.clone());
        named.push(Named { folder, table: Some(name) });
    }
    named.sort_by_key(|named| folders.iter().position(|folder| *folder == named.folder));
    named
}

/// What Triton's `tensorrt_llm` or `ensemble` is, else the first.
fn plainly_named<'a>(repository: &'a Repository, engines: &[&'a str]) -> Option<&'a str> {
    let engine = |name: &str| engines.iter().copied().find(|engine| *engine == name);
    let of = |name: &str| {
        let model = repository.models.iter().find(|model| model.name == name)?;
        engine(&engine_of(model, engines)?)
    };
    engine(TOKENS).or_else(|| of(ENSEMBLE)).or_else(|| of(BLS)).or(engines.first().copied())
}

/// The engine's model that an ensemble or a script runs.
fn engine_of(model: &TritonModel, engines: &[&str]) -> Option<String> {
    let only = || engines.first().filter(|_| engines.len() == 1).map(|&engine| engine.to_owned());
    match model.kind {
        Kind::Ensemble => steps(model).into_iter().find(|step| engines.contains(&step.as_str())),
        Kind::Bls => {
            let said = model.parameter("tensorrt_llm_model_name").unwrap_or(TOKENS).to_owned();
            Some(said).filter(|said| engines.contains(&said.as_str())).or_else(only)
        }
        _ => None,
    }
}

/// The models that an ensemble runs, in order.
pub(crate) fn steps(model: &TritonModel) -> Vec<String> {
    let scheduling = model.config.messages("ensemble_scheduling");
    let steps = scheduling.flat_map(|scheduling| scheduling.messages("step"));
    steps.filter_map(|step| step.text("model_name")).map(str::to_owned).collect()
}

/// What becomes of a model's own name. `named` is in the order of the deployment.
pub(crate) fn served(model: &TritonModel, named: &[Named<'_>], deployment: &str) -> Outcome {
    let engines: Vec<_> = named.iter().map(|named| named.folder).collect();
    let (role, engine) = match model.kind {
        Kind::Engine => (TOKENS, Some(model.name.clone())),
        Kind::LlmApi => (ENSEMBLE, Some(model.name.clone())),
        Kind::Ensemble => (ENSEMBLE, engine_of(model, &engines)),
        Kind::Bls => (BLS, engine_of(model, &engines)),
        Kind::Preprocessing | Kind::Postprocessing => {
            let why = "the models that take text do this; it has no name of its own";
            return Outcome::left(why, "");
        }
        Kind::Disaggregated => {
            return Outcome::left("there is no disaggregated serving here", "one of the models");
        }
        Kind::Other => return Outcome::left("a model of this kind has no counterpart here", ""),
    };
    let place = engine.and_then(|engine| engines.iter().position(|folder| *folder == engine));
    let Some(place) = place else {
        return Outcome::left("it runs none of the engines' models in the repository", "");
    };
    let own = named[place].table.as_deref().unwrap_or(deployment);
    let suffixed = format!("{role}_{own}");
    let mut names = vec![suffixed.as_str()];
    if place == 0 {
        names.insert(0, role);
    }
    if role != TOKENS {
        names.push(own);
    }
    let new = |name: &str| New { key: None, value: format!("served as {name}") };
    match names.contains(&model.name.as_str()) {
        // An LLM API model's own name is another thing here.
        _ if model.kind == Kind::LlmApi => Outcome::Changed {
            new: new(names[0]),
            why: "that is the model with text here; its inputs are those of docs/api.md".to_owned(),
        },
        true => Outcome::Taken { new: new(&model.name) },
        false => Outcome::Changed {
            new: new(names[0]),
            why: "models have names of this form here".to_owned(),
        },
    }
}

/// What follows `tensorrt_llm_`.
fn suffix(folder: &str) -> Option<&str> {
    folder.strip_prefix(TOKENS)?.strip_prefix('_').filter(|suffix| !plain(suffix).is_empty())
}

/// A name with the characters that a model's may have.
fn plain(text: &str) -> String {
    let allowed = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '_' | '-') => c,
        _ => '-',
    };
    let name: String = text.chars().take(LONGEST).map(allowed).collect();
    match name.chars().all(|c| c == '-') {
        true => String::new(),
        false => name,
    }
}

/// `wanted`, or it with a number behind, so that no two models share a name that they are served as.
fn free(wanted: &str, taken: &[String]) -> String {
    let reserved = |name: &str| [TOKENS, ENSEMBLE, BLS].contains(&name);
    let roles = [TOKENS, ENSEMBLE, BLS];
    let served = |name: &str| {
        let suffixed = roles.map(|role| format!("{role}_{name}"));
        [vec![name.to_owned()], suffixed.to_vec()].concat()
    };
    let others: Vec<_> = taken.iter().flat_map(|name| served(name)).collect();
    let fits = |name: &String| {
        !name.is_empty()
            && !reserved(name)
            && served(name).iter().all(|name| !others.contains(name))
    };
    let numbered = (2..).map(|number| {
        let end = format!("-{number}");
        let begin: String = wanted.chars().take(LONGEST - end.len()).collect();
        match begin.is_empty() {
            true => format!("model{end}"),
            false => format!("{begin}{end}"),
        }
    });
    std::iter::once(wanted.to_owned())
        .chain(numbered)
        .find(fits)
        .expect("there are more numbers than models")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::import::pbtxt::Message;

    fn repository(models: &[(&str, &str)]) -> Repository {
        let model = |(name, config): &(&str, &str)| {
            let config = Message::parse(config).unwrap();
            let kind = Kind::of(name, &config, false);
            let leaves =
                crate::import::leaf::of_config("m/config.pbtxt", Path::new("x"), &config).unwrap();
            TritonModel { name: (*name).to_owned(), kind, config, leaves }
        };
        let models = models.iter().map(model).collect();
        Repository { models, other_folders: Vec::new() }
    }

    const ENGINE: &str = "backend: \"tensorrtllm\"";

    fn names(folders: &[&str]) -> Vec<String> {
        let repository =
            repository(&folders.iter().map(|&name| (name, ENGINE)).collect::<Vec<_>>());
        let told = |named: Named<'_>| {
            format!("{} {}", named.folder, named.table.as_deref().unwrap_or("-"))
        };
        of_models(&repository).into_iter().map(told).collect()
    }

    #[test]
    fn models_are_named_so_that_clients_find_them() {
        for (folders, expected) in [
            (&["tensorrt_llm"][..], &["tensorrt_llm -"][..]),
            (&["llama"], &["llama -"]),
            (&["tensorrt_llm_2"], &["tensorrt_llm_2 2"]),
            (&["tensorrt_llm_2", "tensorrt_llm"], &["tensorrt_llm 1", "tensorrt_llm_2 2"]),
            (&["tensorrt_llm_1", "tensorrt_llm"], &["tensorrt_llm 1-2", "tensorrt_llm_1 1"]),
            (&["context", "generation"], &["context context", "generation generation"]),
            (&["2", "tensorrt_llm_2"], &["2 2-2", "tensorrt_llm_2 2"]),
            (&["Llama 7B", "tensorrt_llm_Q"], &["Llama 7B llama-7b", "tensorrt_llm_Q q"]),
            (&["ensemble", "x"], &["ensemble ensemble-2", "x x"]),
        ] {
            assert_eq!(names(folders), expected);
        }
    }

    #[test]
    fn the_plain_names_go_to_the_model_of_the_ensemble() {
        let steps = "platform: \"ensemble\" ensemble_scheduling { step [ \
                     { model_name: \"preprocessing\" }, { model_name: \"big\" } ] }";
        let repository = repository(&[("a", ENGINE), ("big", ENGINE), ("ensemble", steps)]);
        let named = of_models(&repository);
        assert_eq!(named[0].folder, "big");
        let outcome = |place: usize| served(&repository.models[place], &named, "d");
        let new = |value: &str| New { key: None, value: value.to_owned() };
        let why = "models have names of this form here".to_owned();
        assert_eq!(outcome(2), Outcome::Taken { new: new("served as ensemble") });
        assert_eq!(outcome(1), Outcome::Changed { new: new("served as tensorrt_llm"), why });
        let why = "models have names of this form here".to_owned();
        assert_eq!(outcome(0), Outcome::Changed { new: new("served as tensorrt_llm_a"), why });
    }

    #[test]
    fn copies_keep_all_their_names() {
        let bls = "backend: \"python\" parameters { key: \"tensorrt_llm_model_name\" \
                   value { string_value: \"tensorrt_llm_2\" } }";
        let repository = repository(&[
            ("tensorrt_llm", ENGINE),
            ("tensorrt_llm_2", ENGINE),
            ("tensorrt_llm_bls_2", bls),
        ]);
        let named = of_models(&repository);
        for model in &repository.models {
            assert!(matches!(served(model, &named, "d"), Outcome::Taken { .. }), "{}", model.name);
        }
    }

    #[test]
    fn a_deployment_is_named_after_the_folder() {
        for (path, name) in [
            ("/m/Model Repo", "model-repo"),
            ("/m/ensemble", "imported"),
            ("/", "imported"),
            ("/m/ü", "imported"),
            ("/m/repo/", "repo"),
        ] {
            assert_eq!(of_deployment(Path::new(path)), name, "{path}");
        }
    }
}
