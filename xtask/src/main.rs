//! All automation of this repository: `cargo xtask TASK`. It knows no product code.

mod codegen;

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("because xtask lies in the workspace");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["codegen"] => codegen::run(root, false),
        ["codegen", "--check"] => codegen::run(root, true),
        _ => bail!("usage: cargo xtask codegen [--check]"),
    }
}
