//! libFuzzer's way into [`wire_fuzz::connection`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire_fuzz::connection::run(data));
