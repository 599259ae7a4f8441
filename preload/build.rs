//! How `libflowcept.so` is linked. It compiles nothing.

fn main() {
    // One segment for code and what is only read, none of a C program's start files: each costs every process something. No
    // symbol is left to be looked for in a signal handler.
    let lean = ["-nostartfiles", "-Wl,--no-rosegment", "-Wl,--build-id=none"];
    // What is written once by the loader lies with what is always writable: a page less to copy, and no mprotect(2).
    let tables = ["-Wl,-z,norelro", "-Wl,-z,noseparate-code", "-Wl,-z,now", "-Wl,--hash-style=gnu"];
    for argument in lean.into_iter().chain(tables) {
        println!("cargo::rustc-link-arg-cdylib={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
