//! Writes every sample as it is, signed and refused into a folder, to be looked at:
//! `cargo run -p countersign-paper --example gallery -- FOLDER`.
//!
//! It must never be needed by anything else.

use std::error::Error;
use std::path::PathBuf;

use countersign_paper::samples::{self, Sample};
use countersign_paper::{
    Certificate, Completion, Drawing, Fact, Listed, Mark, MarkContent, Mood, Party, Reason, Refusal, Step, Strokes,
    Tone, certificate, complete,
};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "gallery".to_owned()));
    std::fs::create_dir_all(&folder)?;
    for sample in samples::all()? {
        let name = sample.file_name.trim_end_matches(".pdf");
        let note = Some("TEST".to_owned());
        let signed = Completion {
            marks: marks(&sample),
            note: note.clone(),
            certificate: Some(certified(&sample, false)),
            ..Completion::default()
        };
        let refusal =
            Refusal { line: Some("by Helena Marsh on 14 March 2026, 09:26:53 UTC".into()), ..Refusal::default() };
        let refused = Completion {
            refusal: Some(refusal),
            note,
            certificate: Some(certified(&sample, true)),
            ..Completion::default()
        };
        std::fs::write(folder.join(format!("{name}.pdf")), &sample.bytes)?;
        std::fs::write(folder.join(format!("{name}-signed.pdf")), complete(&sample.bytes, &signed)?)?;
        std::fs::write(folder.join(format!("{name}-refused.pdf")), complete(&sample.bytes, &refused)?)?;
        std::fs::write(folder.join(format!("{name}-certificate.pdf")), certificate(&certified(&sample, false))?)?;
    }
    Ok(())
}

fn marks(sample: &Sample) -> Vec<Mark> {
    let blocks = sample.blocks.iter().enumerate().flat_map(|(index, block)| {
        let signature = Mark {
            page: block.page,
            x_pct: block.x_pct,
            y_pct: block.y_pct,
            width_pct: block.width_pct,
            height_pct: block.height_pct,
            content: signature(block.signer, index),
        };
        let date = Mark {
            page: block.page,
            x_pct: block.date.x_pct,
            y_pct: block.date.y_pct,
            width_pct: block.date.width_pct,
            height_pct: block.date.height_pct,
            content: MarkContent::Text("2026-03-14".to_owned()),
        };
        [signature, date]
    });
    blocks.collect()
}

/// The first types, the others draw.
fn signature(name: &str, index: usize) -> MarkContent {
    match index {
        0 => MarkContent::Signature { name: name.to_owned() },
        _ => MarkContent::DrawnSignature { name: name.to_owned(), drawing: Drawing::Strokes(scribble()) },
    }
}

/// Loops and a flourish, as a hand would make them.
fn scribble() -> Strokes {
    let loops = (0..90).map(|step| {
        let turn = step as f32 / 9.0;
        let x = 0.06 + turn * 0.075 + 0.05 * (turn * 2.2).sin();
        let y = 0.5 + 0.34 * (turn * 2.2).cos() * (1.0 - turn * 0.07) + 0.06 * (turn * 0.8).sin();
        (x, y)
    });
    let flourish = (0..20).map(|step| (0.1 + step as f32 * 0.045, 0.92 - 0.12 * (step as f32 / 6.0).sin()));
    Strokes { aspect: 3.2, pen: 0.03, strokes: vec![loops.collect(), flourish.collect()] }
}

fn fact(label: &str, value: &str) -> Fact {
    Fact { label: label.to_owned(), value: value.to_owned() }
}

fn mood(word: &str, tone: Tone) -> Mood {
    Mood { word: word.to_owned(), tone }
}

const HASH: &str = "9f2c4e0d7a51b8e63f40c1d29a7e5b86d3f01c94e2a8b7650c1d3e4f5a6b7c8d";

fn certified(sample: &Sample, refused: bool) -> Certificate {
    let party = |(index, name): (usize, &str)| Party {
        name: name.to_owned(),
        role: "Signer".to_owned(),
        state: match (refused, index) {
            (false, _) => mood("Signed", Tone::Good),
            (true, 0) => mood("Refused", Tone::Bad),
            (true, _) => mood("Released", Tone::Plain),
        },
        facts: vec![
            fact("E-mail", &format!("{}@example.com", name.split(' ').next().unwrap_or_default().to_lowercase())),
            fact("Identified by", "Personal link sent to the e-mail address"),
            fact("Invited", "2026-03-14 09:12:04 UTC"),
            fact("Viewed", "2026-03-14 09:20:31 UTC"),
            fact(if refused { "Refused" } else { "Signed" }, "2026-03-14 09:26:53 UTC"),
            fact("IP address", "203.0.113.24"),
            fact("Program", "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"),
            fact("Consent", "Agreed to sign electronically; SHA-256 of the text a1b2c3d4e5f60718"),
        ],
        signature: (!refused).then(|| signature(name, index)),
    };
    let names = ["Ганна Ковальчук", "山田 太郎", "عمر خيام", "דוד לוי", "홍길동"];
    let signers = sample.blocks.iter().map(|block| block.signer);
    let step = |number: usize| Step {
        number: number as u64,
        at: format!("2026-03-14 09:{:02}:04.120", number % 60),
        what: ["Envelope created", "Invitation due", "Documents viewed", "Signed"][number % 4].to_owned(),
        who: ["Sender (key_01k9x2)", "Service", "Ганна Ковальчук", "山田 太郎"][number % 4].to_owned(),
        hash: HASH[number % 16..number % 16 + 12].to_owned(),
    };
    Certificate {
        issuer: "Northwind Legal".to_owned(),
        title: if refused { "Certificate of refusal" } else { "Certificate of completion" }.to_owned(),
        subject: "Mutual non-disclosure agreement with Harbour & Co".to_owned(),
        outcome: if refused { mood("Refused", Tone::Bad) } else { mood("Completed", Tone::Good) },
        reference: "env_01k9x2m8r4f0v9a7c3b5d6e7f8".to_owned(),
        facts: vec![
            fact("Envelope", "env_01k9x2m8r4f0v9a7c3b5d6e7f8"),
            fact("Sent", "2026-03-14 09:12:03 UTC"),
            fact(if refused { "Refused" } else { "Completed" }, "2026-03-14 09:26:53 UTC"),
            fact("Documents", "1"),
        ],
        reason: refused.then(|| Reason {
            by: "Refused by Helena Marsh on 2026-03-14 09:26:53 UTC".to_owned(),
            words: "Clause 7 is missing. Please add the limitation of liability that we agreed on in February, and send \
                    the agreement again; the rest is fine."
                .to_owned(),
        }),
        documents: vec![Listed {
            name: sample.file_name.to_owned(),
            summary: "3 pages".to_owned(),
            facts: vec![fact("SHA-256", HASH), fact("Document", "doc_01k9x2m8r4f0v9a7c3b5d6e7f8")],
        }],
        people: signers.chain(names).enumerate().map(party).collect(),
        history: (1..60).map(step).collect(),
        chain: vec![fact("Events", "59"), fact("Final hash", HASH)],
        checks: vec![
            "The hashes above are those of the documents as they were shown to the recipients. Compare them with the \
             files that you have: any change, however small, gives another hash."
                .to_owned(),
            "Each line of the history holds the hash of the line before it. VerifyHistory recomputes the chain; its last \
             hash must be the one above."
                .to_owned(),
        ],
        note: Some("TEST".to_owned()),
    }
}
