//! All automation of this repository: `cargo xtask TASK`. It knows no product code.

mod ci;
mod codegen;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

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
        _ => bail!("usage: cargo xtask ci | codegen [--check] | tidy"),
    }
    Ok(ExitCode::SUCCESS)
}
