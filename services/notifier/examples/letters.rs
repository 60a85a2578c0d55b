//! Writes a mail of every kind in every language into a folder, for looking at:
//! `cargo run -p countersign-notifier --example letters -- FOLDER`. Must never hold anybody's real name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::path::PathBuf;

use countersign_notifier::mail::color::Color;
use countersign_notifier::mail::compose::{Composed, compose};
use countersign_notifier::mail::language::Language;
use countersign_notifier::mail::letter::{Documents, Duty, Ending, Letter, Matter, Reader, Sender};
use countersign_notifier::mail::words::Words;
use countersign_notifier::store::Disabled;

/// Every kind of mail, by name.
pub fn letters() -> Vec<(&'static str, Letter)> {
    let link = || "https://sign.example.com/s#cst_example".into();
    let invitation = |duty| Letter::Invitation { duty, link: link() };
    let endpoint = |reason| Letter::EndpointDisabled {
        endpoint: "whe_01h455vb4pex5vsknk084sn02q".to_owned(),
        since: "2030-12-31T23:30:00Z".parse().unwrap(),
        reason,
    };
    vec![
        ("invitation_sign", invitation(Duty::Sign)),
        ("invitation_approve", invitation(Duty::Approve)),
        ("invitation_fill", invitation(Duty::Fill)),
        ("invitation_read", invitation(Duty::Read)),
        ("reminder_sign", Letter::Reminder { duty: Duty::Sign, link: link(), count: 2 }),
        ("reminder_approve", Letter::Reminder { duty: Duty::Approve, link: link(), count: 0 }),
        ("expiry_warning_sign", Letter::ExpiryWarning { duty: Duty::Sign, link: link() }),
        ("expiry_warning_approve", Letter::ExpiryWarning { duty: Duty::Approve, link: link() }),
        ("copy_attached", Letter::Copy(Documents::Attached)),
        ("copy_too_large", Letter::Copy(Documents::TooLarge)),
        ("fell_through_declined", Letter::FellThrough(Ending::SignatureRefused)),
        ("fell_through_not_approved", Letter::FellThrough(Ending::ApprovalRefused)),
        ("fell_through_voided", Letter::FellThrough(Ending::TakenBack)),
        ("fell_through_voided_by_operator", Letter::FellThrough(Ending::TakenBackByOperator)),
        ("fell_through_unreadable", Letter::FellThrough(Ending::DocumentUnreadable)),
        ("fell_through_expired", Letter::FellThrough(Ending::Expired)),
        ("completed_attached", Letter::Completed(Documents::Attached)),
        ("completed_too_large", Letter::Completed(Documents::TooLarge)),
        ("completed_withheld", Letter::Completed(Documents::Withheld)),
        ("endpoint_disabled_gone", endpoint(Disabled::Gone)),
        ("endpoint_disabled_failing", endpoint(Disabled::Failing)),
    ]
}

/// One of them as somebody reads it.
pub fn written(words: &Words, letter: &Letter, language: Language) -> Composed {
    let matter = Matter {
        subject: "Lease of 12 Quay Street".to_owned(),
        message: "Dear both,\nhere it is <at last> & \"complete\".".to_owned(),
        deadline: "2031-02-28T23:30:00Z".parse().ok(),
        test: false,
    };
    let reader = Reader {
        name: "Zoë O'Neill".to_owned(),
        email: "zoe@example.com".to_owned(),
        language,
        zone: "Europe/Lisbon".to_owned(),
    };
    let sender = Sender {
        name: "Quay & Partners".to_owned(),
        color: Color::of_brand("#ffcc00"),
        logo: "https://quay.example.com/logo.png".to_owned(),
    };
    compose(words, letter, &matter, &reader, &sender, "Countersign").unwrap()
}

#[allow(dead_code, reason = "a test has the same letters")]
fn main() {
    let folder: PathBuf = std::env::args().nth(1).expect("a folder to write into").into();
    let words = Words::load().unwrap();
    for language in Language::ALL {
        let folder = folder.join(language.tag());
        std::fs::create_dir_all(&folder).unwrap();
        for (name, letter) in letters() {
            let Composed { subject, text, html } = written(&words, &letter, language);
            std::fs::write(folder.join(format!("{name}.txt")), format!("{subject}\n\n{text}\n")).unwrap();
            std::fs::write(folder.join(format!("{name}.html")), html).unwrap();
        }
    }
    println!("{}", folder.display());
}
