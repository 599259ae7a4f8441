//! Any bytes as a segment in a spool. The body lies in the harness.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::fuzz::segment(bytes));
