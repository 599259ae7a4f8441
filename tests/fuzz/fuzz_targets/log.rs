//! Any bytes as a batch of observations in a log. The body lies in the harness.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| harness::fuzz::log(bytes));
