//! Lua as a project to build: the sources that the crate `lua-src` brings, and a Makefile. It builds nothing itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::host::root;

/// The folder with the C sources of Lua 5.4. The crate does not tell where it lies, cargo does.
pub fn sources() -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Only this platform's packages: cargo has fetched no others, and would need the network.
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", "host-tuple"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages.find(|p| p["name"] == "lua-src").and_then(|p| p["manifest_path"].as_str());
    let folder =
        manifest.and_then(|m| Path::new(m).parent()).ok_or_else(|| io::Error::other("cargo has no lua-src"))?;
    let mut versions = fs::read_dir(folder)?.filter_map(|e| Some(e.ok()?.path()));
    let is_5_4 = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("lua-5.4"));
    versions.find(is_5_4).ok_or_else(|| io::Error::other("lua-src has no Lua 5.4"))
}

/// Puts the sources, a Makefile and a `lua.c` into `dir`, so that `make` builds `lua` there.
pub fn project(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sources()?)? {
        let entry = entry?;
        fs::copy(entry.path(), dir.join(entry.file_name()))?;
    }
    let programs = root().join("tests/programs");
    fs::copy(programs.join("lua.c"), dir.join("lua.c"))?;
    fs::copy(programs.join("lua.mk"), dir.join("Makefile"))?;
    Ok(())
}
