//! A certificate stands behind its paper, says all that it was given in any script, and looks as it did before.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{
    Certificate, Completion, Fact, Limits, Listed, Mark, MarkContent, Mood, Party, Reason, Refusal, Rotation, Step,
    Tone, certificate, complete, inspect, samples,
};
use odd::Odd;
use odd::tools::{Picture, available, golden, run};

const NAMES: [&str; 7] =
    ["Ada Lovelace", "Ганна Ковальчук", "Γιώργος Παπαδόπουλος", "山田太郎", "홍길동", "דוד לוי", "عمر خيام"];

fn fact(label: &str, value: &str) -> Fact {
    Fact { label: label.to_owned(), value: value.to_owned() }
}

fn mood(word: &str, tone: Tone) -> Mood {
    Mood { word: word.to_owned(), tone }
}

fn party(name: &str) -> Party {
    Party {
        name: name.to_owned(),
        role: "Signer".to_owned(),
        state: mood("Signed", Tone::Good),
        facts: vec![
            fact("E-mail", "somebody@example.com"),
            fact("Opened", "2026-03-14 09:20:31 UTC"),
            fact("Signed", "2026-03-14 09:26:53 UTC"),
            fact("IP address", "203.0.113.24"),
            fact("Program", "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0"),
        ],
        signature: Some(MarkContent::Signature { name: name.to_owned() }),
    }
}

fn said(people: usize, events: usize) -> Certificate {
    let step = |number: usize| Step {
        number: number as u64,
        at: "2026-03-14 09:26:53.120".to_owned(),
        what: format!("Event {number:03}."),
        who: NAMES[number % NAMES.len()].to_owned(),
        hash: "9f2c4e0d7a51".to_owned(),
    };
    Certificate {
        issuer: "Northwind Legal".to_owned(),
        title: "Certificate of completion".to_owned(),
        subject: "Agreement about 山田".to_owned(),
        outcome: mood("Completed", Tone::Good),
        reference: "env_01k9x2m8r4f0v9a7c3b5d6e7f8".to_owned(),
        facts: vec![fact("Sent", "2026-03-14 09:12:03 UTC")],
        reason: None,
        documents: vec![Listed {
            name: "Agreement.pdf".to_owned(),
            summary: "3 pages".to_owned(),
            facts: vec![fact("SHA-256", &"9f2c4e0d".repeat(8))],
        }],
        people: (0..people).map(|index| party(NAMES[index % NAMES.len()])).collect(),
        history: (1..=events).map(step).collect(),
        chain: vec![fact("Hash of the last", &"0123abcd".repeat(8))],
        checks: vec!["How to check it.".to_owned()],
        note: None,
    }
}

fn text(pdf: &[u8]) -> Vec<String> {
    let found = String::from_utf8(run("pdftotext", &["{}", "-"], pdf)).unwrap();
    found.trim_end_matches('\u{c}').split('\u{c}').map(str::to_owned).collect()
}

fn completion(certificate: Certificate) -> Completion {
    let marks = vec![Mark {
        page: 1,
        x_pct: 10.0,
        y_pct: 10.0,
        width_pct: 40.0,
        height_pct: 10.0,
        content: MarkContent::Text("stamped".to_owned()),
    }];
    Completion { marks, certificate: Some(certificate), ..Completion::default() }
}

/// It is A4 and upright, whatever the paper is, and the paper stays what it was.
#[test]
fn a_certificate_stands_behind_every_paper() {
    let mut papers: Vec<Vec<u8>> = odd::matrix().iter().map(Odd::pdf).collect();
    papers.extend(samples::all().unwrap().into_iter().map(|sample| sample.bytes));
    papers.push(odd::page_in_place_of_its_tree());
    let alone = inspect(&certificate(&said(3, 20)).unwrap(), &Limits::default()).unwrap().pages.len();
    let has_qpdf = available("qpdf", "qpdf");
    for paper in papers {
        let before = inspect(&paper, &Limits::default()).unwrap();
        let file = complete(&paper, &completion(said(3, 20))).unwrap();
        assert!(file.starts_with(&paper));
        let after = inspect(&file, &Limits::default()).unwrap();
        assert_eq!(after.pages[..before.pages.len()], before.pages);
        let behind = &after.pages[before.pages.len()..];
        assert_eq!(behind.len(), alone);
        for page in behind {
            assert_eq!((page.width_pt.round(), page.height_pt.round(), page.rotation), (595.0, 842.0, Rotation::None));
        }
        if has_qpdf {
            let checked = String::from_utf8(run("qpdf", &["--check", "{}"], &file)).unwrap();
            assert!(checked.contains("No syntax or stream encoding errors found"), "{checked}");
        }
        if available("pdftotext", "poppler-utils") {
            let pages = text(&file);
            assert_eq!(pages.len(), after.pages.len());
            assert!(pages[0].contains("stamped"));
            assert!(pages[before.pages.len()].contains("Certificate of completion"));
        }
    }
}

#[test]
fn names_are_found_in_every_script() {
    if !available("pdftotext", "poppler-utils") {
        return;
    }
    let found = text(&certificate(&said(NAMES.len(), 14)).unwrap()).concat();
    for wanted in NAMES.iter().chain(&["Northwind Legal", "Agreement.pdf", "203.0.113.24", &"9f2c4e0d".repeat(8)]) {
        assert!(found.contains(wanted), "lacks {wanted:?}: {found}");
    }
    if available("pdffonts", "poppler-utils") {
        let fonts = String::from_utf8(run("pdffonts", &["{}"], &certificate(&said(7, 9)).unwrap())).unwrap();
        assert!(fonts.lines().skip(2).all(|line| line.contains("yes yes yes")), "{fonts}");
    }
}

/// Ten people and three hundred events: each is there once, and each page says which of how many it is.
#[test]
fn long_histories_flow_over_pages() {
    if !available("pdftotext", "poppler-utils") {
        return;
    }
    let pages = text(&certificate(&said(10, 300)).unwrap());
    let whole = pages.concat();
    for number in 1..=300 {
        assert_eq!(whole.matches(&format!("Event {number:03}.")).count(), 1, "event {number}");
    }
    for (index, page) in pages.iter().enumerate() {
        assert!(page.contains(&format!("Page {} of {}", index + 1, pages.len())), "{page}");
        assert!(page.contains("env_01k9x2m8r4f0v9a7c3b5d6e7f8"));
    }
    assert!(pages.len() > 8 && pages.len() < 16, "{} pages", pages.len());
    let with_events = pages.iter().filter(|page| page.contains("Event "));
    assert!(with_events.into_iter().all(|page| page.contains("Time (UTC)")), "the head of the table is on every page");
    assert!(pages.last().unwrap().contains("How to check it."));
}

/// S4.11: each page says who and when, and the certificate in which words.
#[test]
fn s4_11_a_refusal_is_on_every_page_and_its_reason_on_the_certificate() {
    if !available("pdftotext", "poppler-utils") {
        return;
    }
    let reason = Reason {
        by: "Refused by Ганна Ковальчук (Signer) on 2026-03-14 09:26:53 UTC".to_owned(),
        words: "第7条がありません。".to_owned(),
    };
    let refusal = Refusal {
        line: Some("by Ганна Ковальчук on 2026-03-14 09:26:53 UTC".to_owned()),
        ..Refusal::default()
    };
    let certificate = Certificate { reason: Some(reason), ..said(2, 5) };
    let completion = Completion {
        refusal: Some(refusal),
        certificate: Some(certificate),
        note: Some("TEST".to_owned()),
        ..Completion::default()
    };
    let base = samples::services_agreement().unwrap().bytes;
    let pages = text(&complete(&base, &completion).unwrap());
    for page in &pages[..5] {
        assert!(page.contains("Document refused · by Ганна Ковальчук on 2026-03-14 09:26:53 UTC"), "{page}");
        assert!(page.contains("TEST"));
    }
    assert!(
        pages[5].contains("Refused by Ганна Ковальчук (Signer) on 2026-03-14")
            && pages[5].contains("第7条がありません。")
    );
}

/// D10: a job that is done twice stores one result.
#[test]
fn d10_the_same_completion_gives_the_same_bytes() {
    let base = samples::nda().unwrap().bytes;
    let once = complete(&base, &completion(said(4, 40))).unwrap();
    assert_eq!(once, complete(&base, &completion(said(4, 40))).unwrap());
    assert_eq!(certificate(&said(4, 40)).unwrap(), certificate(&said(4, 40)).unwrap());
    assert_ne!(once, complete(&base, &completion(said(4, 41))).unwrap());
}

/// Whatever people write, there are pages, and nothing is drawn outside them.
#[test]
fn hostile_words_break_nothing() {
    let words = [
        "w".repeat(100_000),
        "山".repeat(20_000),
        "\u{202e}\u{2067}rtl \u{200f}\u{200e}".repeat(900),
        "🖋️👩‍👩‍👧‍👦🇺🇦 ".repeat(500),
        "\u{200b}\u{200d}\u{feff}".repeat(3_000),
        "line\r\n\u{2028}\u{85}\t".repeat(2_000),
        "a\u{301}\u{302}\u{303}\u{304}".repeat(2_000),
        "(unbalanced) Tj ET Q \\ <</A 1>>".repeat(500),
        "مرحبا שלום abc 123 ".repeat(600),
        String::new(),
    ];
    for words in words {
        let mut said = said(1, 1);
        // One of them in full; the others as long as nothing that a service takes.
        let strange = || words.chars().take(1_500).collect::<String>();
        (said.issuer, said.title, said.subject, said.reference) = (strange(), strange(), strange(), strange());
        said.outcome.word = strange();
        said.reason = Some(Reason { by: strange(), words: words.clone() });
        said.documents[0].name = strange();
        said.people[0].name = strange();
        said.people[0].facts[0].value = strange();
        said.people[0].signature = Some(MarkContent::Signature { name: strange() });
        said.history[0] = Step { number: 1, at: strange(), what: strange(), who: strange(), hash: strange() };
        let file = certificate(&said).unwrap();
        let pages = inspect(&file, &Limits::default()).unwrap().pages.len();
        assert!((1..=120).contains(&pages), "{pages} pages of {:?}", words.chars().take(9).collect::<String>());
        if available("pdftoppm", "poppler-utils") {
            let picture = Picture::of(&file, (596.0, 842.0));
            let [left, top, right, bottom] = picture.bounds_darker_than(200).unwrap();
            assert!(left >= 40 && right <= 556 && top >= 8 && bottom <= 830, "{left},{top} to {right},{bottom}");
        }
    }
}

/// Against pictures that somebody has looked at; `UPDATE=1` draws them anew.
#[test]
fn a_certificate_looks_as_it_did() {
    if !available("pdftoppm", "poppler-utils") {
        return;
    }
    golden("certificate", &certificate(&said(3, 6)).unwrap(), (596.0, 842.0));
    let refused = Certificate {
        title: "Certificate of refusal".to_owned(),
        outcome: mood("Refused", Tone::Bad),
        reason: Some(Reason { by: "Refused by Ada".to_owned(), words: "Not these terms. ".repeat(20) }),
        note: Some("TEST".to_owned()),
        ..said(2, 6)
    };
    golden("certificate-refused", &certificate(&refused).unwrap(), (596.0, 842.0));
}
