//! How `libflowcept.so` is linked. It compiles nothing.

fn main() {
    // One segment less for the loader to map, and no symbol left to be looked for in a signal handler.
    for argument in ["-Wl,-z,noseparate-code", "-Wl,-z,now", "-Wl,--hash-style=gnu", "-Wl,--build-id=none"] {
        println!("cargo::rustc-link-arg-cdylib={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
