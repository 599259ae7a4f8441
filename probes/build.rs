//! Compiles `bpf/*.bpf.c` with clang. It does not know what the programs do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Newest first; Debian and Ubuntu have versioned names, other systems plain `clang`.
const COMPILERS: [&str; 9] =
    ["clang-20", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14", "clang", "clang-21"];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("because cargo sets OUT_DIR"));
    let target = env::var("CARGO_CFG_TARGET_ARCH").expect("because cargo sets it");
    assert_eq!(target, "x86_64", "the number table of system calls is for x86-64 only");
    let compiler = env::var("CLANG").ok().or_else(|| COMPILERS.into_iter().find(|c| works(c)).map(String::from));
    let Some(compiler) = compiler else {
        panic!("no clang found, which compiles the BPF programs: `apt-get install clang` or set CLANG to its path");
    };
    let object = out.join("tracepoint.bpf.o");
    let status = Command::new(&compiler)
        .args(["-g", "-O2", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3", "-D__TARGET_ARCH_x86"])
        .arg("-I/usr/include/x86_64-linux-gnu")
        .args(["-c", "bpf/tracepoint.bpf.c", "-o"])
        .arg(&object)
        .status();
    assert!(
        status.is_ok_and(|s| s.success()),
        "{compiler} could not compile bpf/tracepoint.bpf.c (needs libbpf-dev and linux-libc-dev)"
    );
    strip(&compiler, &object);
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-changed=bpf");
    for file in fs::read_dir("bpf").expect("because bpf/ is part of this package").flatten() {
        println!("cargo::rerun-if-changed={}", file.path().display());
    }
}

fn works(compiler: &str) -> bool {
    Command::new(compiler).arg("--version").output().is_ok_and(|o| o.status.success())
}

/// Drops DWARF and keeps BTF, where the compiler's own strip is installed; the object works either way.
fn strip(compiler: &str, object: &Path) {
    let tool = compiler.replace("clang", "llvm-strip");
    let _ = Command::new(tool).arg("-g").arg(object).status();
}
