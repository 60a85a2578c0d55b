//! What stands where a signature or a timestamp belongs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| countersign_paper_fuzz::seal(bytes));
