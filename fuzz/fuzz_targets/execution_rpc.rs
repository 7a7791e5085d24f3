//! See `alys_fuzz_targets::handlers::execution_rpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| alys_fuzz_targets::handlers::execution_rpc::run(data));
