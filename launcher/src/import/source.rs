//! Which GGUF file a model is.

use std::fs;
use std::path::{Path, PathBuf};

use shardrun_config::{ModelSource, Value};

use super::draft::{ModelDraft, Setting};
use super::error::ImportError;
use super::leaf::Leaf;
use super::report::{New, Outcome};
use super::rules::{Known, Rule};

/// Folders with more entries are no model's.
const MOST_ENTRIES: usize = 4096;

/// The sources that the command line names.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// For all models that have none of their own.
    all: Option<ModelSource>,
    /// With the folders of the engines' models.
    of: Vec<(String, ModelSource)>,
}

impl Sources {
    /// Reads flags of the form `PATH`, or `FOLDER=PATH` for one of several models.
    ///
    /// # Errors
    /// [`ImportError`] for what is no source, and for two sources of one model.
    pub(crate) fn read(flags: &[String], folders: &[&str]) -> Result<Self, ImportError> {
        let mut sources = Self::default();
        for flag in flags {
            let (folder, path) = match flag.split_once('=') {
                Some((folder, path)) if folders.contains(&folder) => (Some(folder), path),
                Some((folder, _)) if !folder.contains(['/', ':']) => {
                    let (given, models) = (flag.clone(), folders.join(", "));
                    return Err(ImportError::NoSuchModel { given, folder: folder.into(), models });
                }
                _ => (None, flag.as_str()),
            };
            let source = parse(path, flag)?;
            let twice = match folder {
                None => sources.all.replace(source).is_some(),
                Some(folder) => {
                    let twice = sources.of.iter().any(|(of, _)| of == folder);
                    sources.of.push((folder.to_owned(), source));
                    twice
                }
            };
            if twice {
                let what = folder.unwrap_or("all models").to_owned();
                return Err(ImportError::SourceTwice { what });
            }
        }
        Ok(sources)
    }

    fn of(&self, folder: &str) -> Option<&ModelSource> {
        let own = self.of.iter().find(|(of, _)| of == folder).map(|(_, source)| source);
        own.or(self.all.as_ref())
    }
}

/// A path in the file that is written would begin at that file's folder, so it is made absolute.
fn parse(path: &str, flag: &str) -> Result<ModelSource, ImportError> {
    let given = || flag.to_owned();
    let source =
        ModelSource::parse(path).map_err(|why| ImportError::Source { given: given(), why })?;
    match source {
        ModelSource::Path(path) if !path.starts_with("~") => {
            let path = std::path::absolute(path)
                .map_err(|why| ImportError::NoWorkingDirectory { given: given(), why })?;
            match path.to_str() {
                Some(_) => Ok(ModelSource::Path(path)),
                None => Err(ImportError::SourceNotUtf8 { given: given() }),
            }
        }
        other => Ok(other),
    }
}

/// Chooses the model's file: what the command line says, else the only GGUF file in a folder that its
/// parameters name. `leaves` are those of models around it, which name the tokenizer's folder.
pub(crate) fn choose<'a>(
    draft: &mut ModelDraft,
    around: impl Iterator<Item = &'a Leaf>,
    sources: &Sources,
    tables: &[&[Known]],
) {
    let folder = |leaf: &Leaf| why(leaf, tables).and(leaf.given.one()).map(str::to_owned);
    let mut named: Vec<_> = draft.leaves.iter().filter_map(folder).collect();
    named.extend(around.filter_map(folder));
    draft.source = sources.of(&draft.folder).cloned();
    for folder in named {
        if draft.source.is_some() {
            break;
        }
        match gguf_files(Path::new(&folder)).as_slice() {
            [] => {}
            [one] => draft.source = Some(ModelSource::Path(one.clone())),
            several => draft.notes.push(format!(
                "{}: {folder} has {} GGUF files; write one of them as {}",
                draft.folder,
                several.len(),
                draft.path_of("model.source"),
            )),
        }
    }
    if let Some(source) = &draft.source {
        let value = Value::Text(source.to_string());
        let given = draft.leaves.iter().find(|leaf| is_model(leaf) && !leaf.given.is_unset());
        let comment = given.and_then(|leaf| {
            let why = why(leaf, tables)?;
            Some(format!("{} = {} there: {why}", leaf.path, leaf.given))
        });
        draft.settings.insert("model.source", Setting { value, leaf: None, comment });
    }
}

/// Tells what became of parameters that name what can't be loaded: by the model whose file was found
/// there, else by the first. There is at least one.
pub(crate) fn tell(drafts: &[&ModelDraft], leaves: &mut [Leaf], tables: &[&[Known]]) {
    for leaf in leaves.iter_mut().filter(|leaf| !leaf.given.is_unset()) {
        let (Some(why), Some(given)) = (why(leaf, tables), leaf.given.one()) else { continue };
        let is_from = |draft: &&&ModelDraft| match &draft.source {
            Some(ModelSource::Path(file)) => lies_in(file, given),
            _ => false,
        };
        let from = drafts.iter().find(is_from);
        let Some(draft) = from.or(drafts.first()) else { continue };
        let key = draft.path_of("model.source");
        let is_model = is_model(leaf);
        let outcome = match &draft.source {
            Some(source) if is_model || from.is_some() => {
                let there = if from.is_some() {
                    "this GGUF file is there"
                } else {
                    "this is the GGUF file"
                };
                let value = Value::Text(source.to_string()).to_string();
                Outcome::Changed {
                    new: New { key: Some(key), value },
                    why: format!("{why}; {there}"),
                }
            }
            None if is_model => Outcome::left(why, format!("the GGUF file's path as {key}")),
            _ => Outcome::left(why, ""),
        };
        leaf.decide(outcome);
    }
}

/// Whether it names what holds the weights.
fn is_model(leaf: &Leaf) -> bool {
    matches!(leaf.path.as_str(), "parameters.gpt_model_path" | "model")
}

/// Why the parameter can't be taken over, if it names a model's folder or file.
fn why(leaf: &Leaf, tables: &[&[Known]]) -> Option<&'static str> {
    let path = leaf.plain_path();
    tables.iter().copied().flatten().find_map(|known| match known.rule {
        Rule::Source(why) if known.is(&path) => Some(why),
        _ => None,
    })
}

fn lies_in(file: &Path, place: &str) -> bool {
    let place = std::path::absolute(place).ok();
    place.is_some_and(|place| file == place || file.parent() == Some(&*place))
}

/// The path itself if it is a GGUF file, else those in the folder, by name.
fn gguf_files(path: &Path) -> Vec<PathBuf> {
    let is_gguf = |path: &PathBuf| {
        let named = path.extension().is_some_and(|it| it.eq_ignore_ascii_case("gguf"));
        named && path.is_file() && path.to_str().is_some()
    };
    let Ok(path) = std::path::absolute(path) else { return Vec::new() };
    if is_gguf(&path) {
        return vec![path];
    }
    let Ok(entries) = fs::read_dir(&path) else { return Vec::new() };
    let paths = entries.take(MOST_ENTRIES).filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<_> = paths.filter(is_gguf).collect();
    files.sort_unstable();
    files
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(flags: &[&str]) -> Result<Sources, String> {
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        Sources::read(&flags, &["tensorrt_llm", "tensorrt_llm_2"]).map_err(|e| e.to_string())
    }

    #[test]
    fn a_source_is_for_all_or_for_one() {
        let sources = read(&["/a.gguf", "tensorrt_llm_2=/b=c.gguf"]).unwrap();
        assert_eq!(sources.of("tensorrt_llm").unwrap().to_string(), "/a.gguf");
        assert_eq!(sources.of("tensorrt_llm_2").unwrap().to_string(), "/b=c.gguf");
        let path = read(&["./odd=a.gguf"]).unwrap().of("x").unwrap().to_string();
        assert!(path.starts_with('/') && path.ends_with("/odd=a.gguf"), "{path}");
        assert_eq!(read(&["~/a.gguf"]).unwrap().of("x").unwrap().to_string(), "~/a.gguf");
    }

    #[test]
    fn wrong_sources_are_refused() {
        for (flags, says) in [
            (&["https://a/b"][..], "--source https://a/b: only paths and pypi: are known"),
            (
                &["tensorrt_llm2=/a"],
                "--source tensorrt_llm2=/a: no engine's model is called \
                tensorrt_llm2, only tensorrt_llm, tensorrt_llm_2; a path with '=' in it begins \
                with ./ or /",
            ),
            (&["/a", "/b"], "--source is given twice for all models"),
            (&["tensorrt_llm=/a", "tensorrt_llm=/b"], "--source is given twice for tensorrt_llm"),
        ] {
            assert_eq!(read(flags).unwrap_err(), says);
        }
    }
}
