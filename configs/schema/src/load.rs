//! Defaults < site files < file < environment < flags, each value with its origin.

mod assemble;
mod layers;
mod paths;
mod settle;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::file::{self, Layer};
use crate::keys::{KEYS, Key};
use crate::kind::Value;
use crate::rules;
use crate::{ConfigError, ConfigErrors, Deployment, Origin};
use assemble::OF_A_MODEL;
use settle::Settle;

pub(crate) use settle::Settled;

/// A deployment with where its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The deployment.
    pub deployment: Deployment,
    /// Every key with its value and origin, in the order of [`KEYS`]; with models that have tables of
    /// their own, keys of models come at the end, for each of them.
    pub settings: Vec<Setting>,
}

/// A key's settled value.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key's dotted path; with a model's name where there are several.
    pub path: String,
    /// The key.
    pub key: &'static Key,
    /// The value, paths made absolute; `None` if the key is optional and nobody set it.
    pub value: Option<Value>,
    /// Who decided.
    pub origin: Origin,
}

/// `KEY=VALUE`, as the flag `--set` takes it.
///
/// # Errors
/// What was expected, if there is no key.
pub fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as in model.tp_size=4".to_owned()),
    }
}

/// The site files that there may be, by the environment: `$SHARDRUN_SITE` alone if it is set, none
/// if it is empty, else `/etc/shardrun/site.toml` and `shardrun/site.toml` in the user's folder for
/// configuration. The later counts more.
#[must_use]
pub fn site_files(env: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    if let Some(file) = env("SHARDRUN_SITE") {
        return if file.is_empty() { Vec::new() } else { vec![file.into()] };
    }
    let of_user = env("XDG_CONFIG_HOME")
        .filter(|dir| dir.starts_with('/'))
        .map(PathBuf::from)
        .or_else(|| {
            env("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".config"))
        });
    let files = [Some("/etc".into()), of_user].into_iter().flatten();
    files.map(|dir: PathBuf| dir.join("shardrun/site.toml")).filter(|file| file.exists()).collect()
}

/// The folder that runs are in where no deployment file says so: by the environment, site files, or the
/// default.
///
/// # Errors
/// [`ConfigErrors`] with everything that is wrong in the environment and site files.
pub fn usual_run_dir(env: impl Iterator<Item = (String, String)>) -> Result<PathBuf, ConfigErrors> {
    // Has the required keys, and says nothing of others.
    const STAND_IN: &str = "name = \"any\"\nmodel.source = \"/any\"\n";
    let env: HashMap<_, _> = env.collect();
    let sites = read_sites(&env)?;
    let file = Path::new("no deployment file");
    merge(Sources { sites: &sites, file, text: STAND_IN, env: &env, flags: &[] })
        .map(|loaded| loaded.deployment.run.dir)
}

fn read_sites(env: &HashMap<String, String>) -> Result<Vec<(String, PathBuf)>, ConfigErrors> {
    let sites = site_files(|name| env.get(name).cloned());
    let sites = sites.into_iter().map(|site| Ok((file::read(&site)?, site)));
    Ok(sites.collect::<Result<Vec<_>, ConfigError>>()?)
}

impl Deployment {
    /// Reads the deployment file at `path`, over what the site files say, and merges environment
    /// variables (name, value) and flags (dotted path, value) over it; of several flags for one key
    /// the last counts.
    ///
    /// Relative paths in a file begin at its folder, elsewhere at the working directory. Site files,
    /// home and state folders are taken from `env` too.
    ///
    /// # Errors
    /// [`ConfigErrors`] with everything that is wrong, each with its place.
    pub fn load(
        path: &Path,
        env: impl Iterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Loaded, ConfigErrors> {
        let env: HashMap<_, _> = env.collect();
        let sites = read_sites(&env)?;
        let text = file::read(path)?;
        merge(Sources { sites: &sites, file: path, text: &text, env: &env, flags })
    }

    /// Reads what [`Deployment::to_toml`] wrote; nothing is merged over it.
    ///
    /// # Errors
    /// [`ConfigErrors`] if the text is not a whole, valid deployment.
    pub fn from_resolved_toml(text: &str) -> Result<Self, ConfigErrors> {
        let file = Path::new("resolved deployment");
        let env = HashMap::new();
        merge(Sources { sites: &[], file, text, env: &env, flags: &[] })
            .map(|loaded| loaded.deployment)
    }

    /// The deployment as a file that [`Deployment::from_resolved_toml`] and
    /// [`Deployment::load`] read back to the same.
    ///
    /// # Errors
    /// [`ConfigError::Unwritable`] if a path is not UTF-8, which no loaded deployment has.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        Ok(toml::to_string(self)?)
    }
}

/// What is merged.
struct Sources<'a> {
    /// Text and path of each.
    sites: &'a [(String, PathBuf)],
    file: &'a Path,
    text: &'a str,
    env: &'a HashMap<String, String>,
    flags: &'a [(String, String)],
}

fn merge(sources: Sources<'_>) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let mut layers = Vec::new();
    for (text, path) in sources.sites {
        layers.push(layers::site(path, text, &mut errors));
    }
    layers.push(file::parse(sources.file, sources.text, &mut errors));
    // Without a readable file, all that would follow is keys that it may well have.
    if errors.iter().any(|error| matches!(error, ConfigError::Syntax { .. })) {
        return Err(ConfigErrors(errors));
    }
    layers.push(layers::env(sources.env, &mut errors));
    layers.push(layers::flags(sources.flags, &mut errors));

    let names = model_names(&layers);
    let tables: Vec<_> = match names.as_slice() {
        [] => vec![None],
        names => names.iter().map(|(name, _)| Some(name.as_str())).collect(),
    };
    let mut models = Vec::new();
    for table in tables {
        let mut settle = Settle { settled: Settled::default(), errors: &mut errors };
        layers.iter().for_each(|layer| settle.layer(&layer.entries, table));
        settle.defaults(sources.file, table, sources.env);
        let mut settled = settle.settled;
        errors.extend(paths::make_absolute(&mut settled, sources.env));
        errors.extend(rules::broken(&settled, sources.file, table));
        models.push((table, settled));
    }
    let mode = rules::mode(&models, &mut errors);
    rules::participants(&models, &mut errors);
    rules::names(&names, models.first().map(|(_, settled)| settled), &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(told_once(errors)));
    }
    let settings = settings(&models);
    let named = |(table, settled): (Option<&str>, Settled)| {
        let name = table.map_or_else(|| settled.text("name"), str::to_owned);
        (name, settled)
    };
    let models: Vec<_> = models.into_iter().map(named).collect();
    Ok(Loaded { deployment: assemble::assemble(mode, &models), settings })
}

/// The models that have tables of their own, in the order of their first mention, which has its place.
fn model_names(layers: &[Layer]) -> Vec<(String, Origin)> {
    let mut names: Vec<(String, Origin)> = Vec::new();
    for (name, origin) in layers.iter().flat_map(|layer| &layer.models) {
        if names.iter().all(|(other, _)| other != name) {
            names.push((name.clone(), origin.clone()));
        }
    }
    names
}

/// What models share is wrong for each of them.
fn told_once(errors: Vec<ConfigError>) -> Vec<ConfigError> {
    let mut told = std::collections::HashSet::new();
    errors.into_iter().filter(|error| told.insert(error.to_string())).collect()
}

fn settings(models: &[(Option<&str>, Settled)]) -> Vec<Setting> {
    let of_a_model = |key: &Key| {
        key.path.split_once('.').is_some_and(|(section, _)| OF_A_MODEL.contains(&section))
    };
    let setting = |settled: &Settled, table: Option<&str>, key: &'static Key| Setting {
        path: key.path_of(table),
        key,
        value: settled.value(key.path).cloned(),
        origin: settled.origin(key.path).cloned().unwrap_or(Origin::Default),
    };
    let Some((table, first)) = models.first() else { return Vec::new() };
    let apart = table.is_some();
    let shared = KEYS.iter().filter(|key| !apart || !of_a_model(key));
    let mut settings: Vec<_> = shared.map(|key| setting(first, None, key)).collect();
    for (table, settled) in models.iter().filter(|_| apart) {
        let own = KEYS.iter().filter(|key| of_a_model(key));
        settings.extend(own.map(|key| setting(settled, *table, key)));
    }
    settings
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
