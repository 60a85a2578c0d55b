//! What is done to a paper at the end of an envelope, in each of the ways in which the service does it.
//!
//! It must never leave a page alone that the service would draw on.

#![allow(dead_code)]

use countersign_paper::{Certificate, Completion, Fact, Mark, MarkContent, Mood, Refusal, Tone};

/// How an envelope ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Values stand where they were put in, and the certificate behind the last page.
    Signed,
    /// The same, and a word on every page.
    SignedInTest,
    /// Words across every page, and the certificate.
    Refused,
}

impl Ending {
    /// Each in turn.
    pub fn of(number: u64) -> Self {
        [Self::Signed, Self::SignedInTest, Self::Refused][(number % 3) as usize]
    }

    /// All that is drawn on a paper of so many pages, and behind it.
    pub fn completion(self, pages: usize) -> Completion {
        let last = pages as u32;
        let marks = [
            (1, 5.0, MarkContent::Signature { name: "Anna Ünal".to_owned() }),
            (last, 55.0, MarkContent::Paragraph("Керівниця 山田 №7".to_owned())),
            (last, 30.0, MarkContent::Check(true)),
        ];
        let mark =
            |(page, x_pct, content)| Mark { page, x_pct, y_pct: 80.0, width_pct: 20.0, height_pct: 8.0, content };
        let is_refused = self == Self::Refused;
        Completion {
            marks: if is_refused { Vec::new() } else { marks.map(mark).to_vec() },
            refusal: is_refused.then(|| Refusal { line: Some("by Anna Ünal".to_owned()), ..Refusal::default() }),
            note: (self != Self::Signed).then(|| "TEST".to_owned()),
            certificate: Some(certificate()),
        }
    }
}

fn certificate() -> Certificate {
    Certificate {
        issuer: "Countersign tests".to_owned(),
        title: "Certificate".to_owned(),
        subject: "Damaged papers".to_owned(),
        outcome: Mood { word: "Ended".to_owned(), tone: Tone::Good },
        reference: "env_1".to_owned(),
        facts: vec![Fact { label: "Documents".to_owned(), value: "1".to_owned() }],
        reason: None,
        documents: Vec::new(),
        people: Vec::new(),
        history: Vec::new(),
        chain: Vec::new(),
        checks: Vec::new(),
        note: None,
    }
}
