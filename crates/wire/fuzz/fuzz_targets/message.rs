//! libFuzzer's way into [`wire_fuzz::message`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wire_fuzz::message::run(data));
