//! See `alys_fuzz_targets::handlers::http`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alys_fuzz_targets::handlers::http::run(data));
