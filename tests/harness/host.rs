//! What this machine has: a test that needs what is missing skips, or fails where it was promised.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Whether the test can run here. Where `FLOWCEPT_REQUIRE` names the capability, its absence fails.
pub fn need(capabilities: &[&str]) -> bool {
    let required = std::env::var("FLOWCEPT_REQUIRE").unwrap_or_default();
    for capability in capabilities {
        let has = match *capability {
            "bpf" => *BPF.get_or_init(|| flowcept(&["doctor"]).is_ok_and(|o| o.status.success())),
            "python" => has_program("python3"),
            program => has_program(program),
        };
        if !has {
            let promised = required.split(',').any(|r| r == *capability);
            assert!(!promised, "FLOWCEPT_REQUIRE promises {capability}, and this machine has it not");
            eprintln!("skipped: this machine lacks {capability}");
            return false;
        }
    }
    true
}

static BPF: OnceLock<bool> = OnceLock::new();

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|p| p.join(name).is_file())
}

/// The dynamic loader of this host's programs, by the path that it really has.
pub fn loader() -> &'static str {
    static LOADER: OnceLock<String> = OnceLock::new();
    LOADER.get_or_init(|| {
        let path = std::fs::canonicalize("/lib64/ld-linux-x86-64.so.2").expect("because x86-64 programs name it");
        path.to_string_lossy().into_owned()
    })
}

/// The workspace's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("because tests/ lies in the workspace")
}

/// The built binary. `cargo test` builds none for another package, so the first use does; with `FLOWCEPT_RELEASE` it is one for
/// release.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let profile = if std::env::var_os("FLOWCEPT_RELEASE").is_some() { "release" } else { "debug" };
        let status = Command::new(cargo)
            .current_dir(root())
            .args(["build", "--quiet", "-p", "flowcept-agent", "-p", "flowcept-preload"])
            .args((profile == "release").then_some("--release"))
            .status();
        assert!(status.is_ok_and(|s| s.success()), "cargo build -p flowcept-agent failed");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        target.join(profile).join("flowcept")
    })
}

/// The built library.
pub fn library() -> PathBuf {
    binary().with_file_name("libflowcept.so")
}

/// Runs the binary and waits for it.
pub fn flowcept(arguments: &[&str]) -> std::io::Result<std::process::Output> {
    Command::new(binary()).args(arguments).output()
}
