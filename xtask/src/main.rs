//! All automation of this repository: `cargo xtask TASK`. It knows no product code.

mod ci;
mod codegen;
mod mutate;
mod soak;
mod tidy;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

fn main() -> ExitCode {
    // A backtrace would hide which check failed.
    task().unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn task() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("because xtask lies in the workspace");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => return ci::run(root),
        ["codegen"] => codegen::run(root, false)?,
        ["codegen", "--check"] => codegen::run(root, true)?,
        ["tidy"] => tidy::run(root)?,
        ["bench", rest @ ..] => bench(root, rest)?,
        ["mutate"] => mutate::run(root, "")?,
        ["mutate", only] => mutate::run(root, only)?,
        ["soak", rest @ ..] => soak::run(root, rest)?,
        _ => bail!(
            "usage: cargo xtask ci | codegen [--check] | tidy | bench [--rounds N] [--small] | mutate [PART-OF-A-NAME] | soak \
             [--minutes N]"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// Whole runs, traced against untraced, and questions to a large store, with release builds.
fn bench(root: &Path, arguments: &[&str]) -> Result<()> {
    let build = ["build", "--release", "-p", "flowcept-agent", "-p", "flowcept-benches"];
    if !Command::new("cargo").args(build).current_dir(root).status()?.success() {
        bail!("cargo {} failed", build.join(" "));
    }
    for bench in ["bench-micro", "bench-whole", "bench-store", "bench-queue"] {
        let run = ["run", "--quiet", "--release", "-p", "flowcept-benches", "--bin", bench, "--"];
        let mut command = Command::new("cargo");
        command.args(run).arg("target/release/flowcept").args(arguments).current_dir(root);
        if !command.status()?.success() {
            bail!("{bench} failed: see above");
        }
    }
    Ok(())
}
