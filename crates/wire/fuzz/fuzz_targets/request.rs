//! libFuzzer's way into [`wire_fuzz::request`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire_fuzz::request::run(data));
