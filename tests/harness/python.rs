//! Programs of others in Python: Flowcept 1.0.3 from PyPI, unmodified, and what else reads what we write.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::host::root;

const PACKAGES: [&str; 9] = [
    "flowcept[redis,kafka,rabbitmq,lmdb,mongo,telemetry,webservice]==1.0.3",
    // Its MCP server wants these; newer ones of MCP are another interface.
    "mcp<2",
    "langgraph",
    "selenium",
    "pandas",
    "psutil",
    "prov==3.2.3",
    "secantusdb==0.7.0b3",
    "jsonschema",
];
/// For the schema of compose files that is in it; it cannot be run any more.
const SCHEMA: &str = "docker-compose==1.29.2";

/// A Python with the packages that read what we write, made on first use.
pub fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON
        .get_or_init(|| {
            let venv = root().join("target/readers");
            let python = venv.join("bin/python");
            let done = venv.join(PACKAGES.join(" ") + " " + SCHEMA);
            if !done.exists() {
                let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status();
                assert!(made.is_ok_and(|s| s.success()), "python3 -m venv (package python3-venv)");
                for packages in [&PACKAGES[..], &["--no-deps", SCHEMA]] {
                    let installed = Command::new(&python).args(["-m", "pip", "install", "-q"]).args(packages).status();
                    assert!(installed.is_ok_and(|s| s.success()), "pip install {packages:?}");
                }
                fs::write(&done, "").expect("because the folder was just made");
            }
            python
        })
        .clone()
}
