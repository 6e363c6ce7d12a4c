//! What tests run: the programs that were built beside them, and the model.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// The environment variable with the path of SmolLM2's GGUF file.
const MODEL: &str = "SHARDRUN_TEST_MODEL";

/// The environment variable with the path of Qwen2.5-Coder-0.5B-Instruct's, in Q4_K_M.
const QWEN: &str = "SHARDRUN_TEST_QWEN";

/// A program that was built into the folder that this test was built into.
///
/// # Errors
/// If it wasn't.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let program = programs()?.join(name);
    ensure!(
        program.is_file(),
        "{} is not there; build the workspace's programs with this test's profile first",
        program.display()
    );
    Ok(program)
}

/// The folder of the programs that were built with this test.
pub(crate) fn programs() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("cannot find this test's own program")?;
    // Tests are in `deps`, beside the programs.
    let folder = test.parent().and_then(Path::parent).context("a test has a folder")?;
    Ok(folder.to_owned())
}

/// The model that deployments serve, or `None` where there is none: then says that the test was
/// skipped.
///
/// # Errors
/// If it is named and not there.
pub fn model() -> anyhow::Result<Option<PathBuf>> {
    file_in(MODEL)
}

/// A larger model of another architecture, or `None` where it is not: then says that the test was
/// skipped.
///
/// # Errors
/// If it is named and not there.
pub fn qwen() -> anyhow::Result<Option<PathBuf>> {
    file_in(QWEN)
}

fn file_in(variable: &str) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = std::env::var_os(variable).map(PathBuf::from) else {
        println!("skipped: {variable} is not set");
        return Ok(None);
    };
    ensure!(path.is_file(), "{variable} is {}, where there is no file", path.display());
    Ok(Some(path.canonicalize()?))
}

/// mpirun and what it needs to start `ranks` ranks of anything here.
#[must_use]
pub fn mpirun(ranks: usize) -> Vec<String> {
    let mut words =
        ["mpirun", "--bind-to", "none", "--oversubscribe", "-n"].map(str::to_owned).to_vec();
    words.push(ranks.to_string());
    if nix::unistd::geteuid().is_root() {
        words.push("--allow-run-as-root".to_owned());
    }
    words
}

/// Whether the kernels of this name run on this machine.
#[must_use]
pub fn cpu_has(isa: &str) -> bool {
    match isa {
        "scalar" => true,
        #[cfg(target_arch = "x86_64")]
        "avx2" => {
            is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
        }
        #[cfg(target_arch = "x86_64")]
        "avx512" => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        }
        #[cfg(target_arch = "x86_64")]
        "avx512bf16" => cpu_has("avx512") && is_x86_feature_detected!("avx512bf16"),
        _ => false,
    }
}
