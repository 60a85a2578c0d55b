//! Packs what streams hold, all of a document with one packer: to set one up takes longer than to pack a page of a few lines.
//!
//! It must never pack what is packed, nor give other bytes for what came before.

use flate2::{Compress, Compression, FlushCompress, Status};
use lopdf::Stream;

/// Packs one stream after the other.
pub(crate) struct Packer {
    deflate: Compress,
}

impl Default for Packer {
    fn default() -> Self {
        const WITH_HEADER: bool = true;
        Self { deflate: Compress::new(LEVEL, WITH_HEADER) }
    }
}

/// What packs best of what is fast: a page is a twelfth smaller at twice the time.
const LEVEL: Compression = Compression::new(3);
/// What is shorter does not get shorter with the words that say how it is packed.
const BYTES_MIN: usize = 64;

impl Packer {
    /// Packs a stream, unless it is packed or would get longer.
    pub(crate) fn pack(&mut self, stream: &mut Stream) {
        if stream.content.len() < BYTES_MIN || stream.dict.has(b"Filter") {
            return;
        }
        if let Some(packed) = self.packed(&stream.content) {
            stream.dict.set("Filter", "FlateDecode");
            stream.dict.set("Length", packed.len() as i64);
            stream.content = packed;
        }
    }

    /// None if it would be longer.
    fn packed(&mut self, content: &[u8]) -> Option<Vec<u8>> {
        let mut packed = Vec::with_capacity(content.len());
        self.deflate.reset();
        match self.deflate.compress_vec(content, &mut packed, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => Some(packed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use lopdf::{Dictionary, dictionary};

    use super::*;

    fn stream(content: &[u8]) -> Stream {
        Stream::new(Dictionary::new(), content.to_vec())
    }

    #[test]
    fn what_is_packed_can_be_read_and_does_not_depend_on_what_came_before() {
        let (mut packer, text) = (Packer::default(), b"0 0 m 100 100 l S ".repeat(50));
        let (mut first, mut second) = (stream(&text), stream(&text));
        packer.pack(&mut first);
        packer.pack(&mut stream(&b"something else altogether, and not short ".repeat(20)));
        packer.pack(&mut second);
        assert!(first.content.len() < text.len() / 4 && first == second);
        assert_eq!(first.dict.get(b"Length").unwrap().as_i64().unwrap(), first.content.len() as i64);
        assert_eq!(first.decompressed_content().unwrap(), text);
    }

    #[test]
    fn what_does_not_get_shorter_stays_as_it_is() {
        let mut packer = Packer::default();
        // Every byte once: nothing comes twice.
        let noise: Vec<u8> = (0..=255).collect();
        let packed = Stream::new(dictionary! { "Filter" => "FlateDecode" }, b"x".repeat(999));
        for before in [stream(&noise), stream(b"q Q"), packed] {
            let mut after = before.clone();
            packer.pack(&mut after);
            assert_eq!(before, after);
        }
    }
}
