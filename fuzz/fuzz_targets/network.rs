//! See `alys_fuzz_targets::handlers::network`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alys_fuzz_targets::handlers::network::run(data));
