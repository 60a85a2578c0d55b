//! What is written on a page.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| countersign_paper_fuzz::markers(bytes));
