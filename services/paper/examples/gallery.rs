//! Writes every sample as it is, signed and refused into a folder, to be looked at:
//! `cargo run -p countersign-paper --example gallery -- FOLDER`.
//!
//! It must never be needed by anything else.

use std::error::Error;
use std::path::PathBuf;

use countersign_paper::samples::{self, Sample};
use countersign_paper::{Mark, MarkContent, Refusal, StampOptions, refuse, stamp};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "gallery".to_owned()));
    std::fs::create_dir_all(&folder)?;
    for sample in samples::all()? {
        let name = sample.file_name.trim_end_matches(".pdf");
        let signed = stamp(&sample.bytes, &marks(&sample), &StampOptions { note: Some("TEST".to_owned()) })?;
        let refusal = Refusal {
            line: Some("by Helena Marsh on 14 March 2026: “Clause 7 is missing”".into()),
            ..Refusal::default()
        };
        std::fs::write(folder.join(format!("{name}.pdf")), &sample.bytes)?;
        std::fs::write(folder.join(format!("{name}-signed.pdf")), signed)?;
        std::fs::write(folder.join(format!("{name}-refused.pdf")), refuse(&sample.bytes, &refusal)?)?;
    }
    Ok(())
}

fn marks(sample: &Sample) -> Vec<Mark> {
    let blocks = sample.blocks.iter().flat_map(|block| {
        let signature = Mark {
            page: block.page,
            x_pct: block.x_pct,
            y_pct: block.y_pct,
            width_pct: block.width_pct,
            height_pct: block.height_pct,
            content: MarkContent::Signature { name: block.signer.to_owned() },
        };
        let date = Mark {
            page: block.page,
            x_pct: block.date.x_pct,
            y_pct: block.date.y_pct,
            width_pct: block.date.width_pct,
            height_pct: block.date.height_pct,
            content: MarkContent::Text("14 March 2026".to_owned()),
        };
        [signature, date]
    });
    blocks.collect()
}
