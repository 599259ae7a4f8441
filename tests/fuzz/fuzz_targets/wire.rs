//! Any bytes as a record from the kernel. The body lies beside the reader.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flowcept_wire::read::fuzz(bytes));
