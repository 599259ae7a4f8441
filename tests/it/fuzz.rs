//! The bodies of the fuzz targets on their seeds, and on what fuzzing has found. `tests/fuzz` looks for more.

use std::fs;

use harness::host::root;

fn seeds(target: &str, body: fn(&[u8])) {
    let entries = fs::read_dir(root().join("tests/fuzz/seeds").join(target)).expect("because seeds are in the tree");
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("because nobody changes the tree").path();
        eprintln!("{}", path.display());
        let bytes = fs::read(&path).expect("because seeds are files");
        body(&bytes);
        // A part of it, and one with another byte in each place.
        for at in 0..bytes.len().min(200) {
            body(&bytes[..at]);
            let mut other = bytes.clone();
            other[at] ^= 0xff;
            body(&other);
        }
        count += 1;
    }
    assert!(count >= 9, "only {count} seeds of {target}");
}

#[test]
fn wire() {
    seeds("wire", flowcept_wire::read::fuzz);
}

#[test]
fn log() {
    seeds("log", harness::fuzz::log);
}

#[test]
fn segment() {
    seeds("segment", harness::fuzz::segment);
}
