//! `make fuzz TARGET=spec_message`; what it feeds is in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| muster_fuzz::spec_message(data));
