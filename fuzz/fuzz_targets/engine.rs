//! See `alys_fuzz_targets::handlers::engine`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alys_fuzz_targets::handlers::engine::run(data));
