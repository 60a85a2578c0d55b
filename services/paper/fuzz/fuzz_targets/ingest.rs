//! Files that somebody gives as a PDF.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| countersign_paper_fuzz::ingest(bytes));
