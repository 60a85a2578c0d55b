//! Every kind of mail in every language, word by word, and the page that says what follows from which event. Rewritten with
//! `UPDATE=1`. Must never be rewritten without being read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use countersign::v1::EventType;
use countersign_notifier::mail::compose::Composed;
use countersign_notifier::mail::language::Language;
use countersign_notifier::mail::notice::{Notice, notice};
use countersign_notifier::mail::plan::MailKind;
use countersign_notifier::mail::words::Words;

#[path = "../../examples/letters.rs"]
mod letters;

fn updates() -> bool {
    std::env::vars().any(|(name, value)| name == "UPDATE" && value == "1")
}

fn golden(language: Language) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(language.tag())
}

#[test]
fn every_mail_says_what_it_said() {
    let words = Words::load().unwrap();
    for language in Language::ALL {
        let folder = golden(language);
        let mut expected = BTreeSet::new();
        for (name, letter) in letters::letters() {
            let Composed { subject, text, html } = letters::written(&words, &letter, language);
            for (file, now) in
                [(format!("{name}.txt"), format!("{subject}\n\n{text}\n")), (format!("{name}.html"), html)]
            {
                let path = folder.join(&file);
                if updates() {
                    std::fs::create_dir_all(&folder).unwrap();
                    std::fs::write(&path, &now).unwrap();
                }
                let golden = std::fs::read_to_string(&path).unwrap_or_default();
                assert!(golden == now, "{} is not what is written: UPDATE=1\n{now}", path.display());
                expected.insert(file);
            }
        }
        let files = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        assert_eq!(files.collect::<BTreeSet<_>>(), expected, "{language:?}: no more and no fewer");
    }
}

/// What holds for all of them, whatever they say.
#[test]
fn every_mail_can_be_read_by_everybody() {
    let words = Words::load().unwrap();
    for language in Language::ALL {
        for (name, letter) in letters::letters() {
            let Composed { subject, text, html } = letters::written(&words, &letter, language);
            let asks = ["invitation", "reminder", "expiry_warning"].iter().any(|kind| name.starts_with(kind));
            assert!(!subject.is_empty() && !subject.contains(['\r', '\n']), "{name}");
            assert!(html.starts_with("<!doctype html>\n<html lang=\"") && html.contains(" dir=\"ltr\">"), "{name}");
            assert!(html.contains(&format!("<html lang=\"{}\"", language.tag())), "{name}");
            assert_eq!(html.matches("<img ").count(), 1, "{name}: the logo and nothing that counts readers");
            assert!(html.contains("alt=\"Quay &amp; Partners\""), "{name}: the logo has words");
            let tables = html.matches("<table").count();
            assert_eq!(tables, html.matches("<table role=\"presentation\"").count(), "{name}: tables are no data");
            assert_eq!(html.matches("href=").count(), usize::from(asks), "{name}: the signing link is the only link");
            assert_eq!(text.contains("cst_example"), asks, "{name}");
            assert!(!html.contains("<script") && !html.contains("<at last>"), "{name}");
            assert!(!text.contains("{{") && !html.contains("{{"), "{name}");
            if asks {
                assert!(text.contains("23:30 ") && text.contains("(Europe/Lisbon, UTC+0)"), "{name}: {text}");
                assert!(html.contains("color:#000000;text-decoration:none"), "{name}: black on yellow");
            }
        }
    }
}

fn page() -> String {
    let types = (1..).map_while(|number| EventType::try_from(number).ok());
    let row = |kind: EventType| {
        let name = kind.as_str_name().trim_start_matches("EVENT_TYPE_").to_lowercase().replacen('_', ".", 1);
        let what = match notice(kind) {
            Notice::Mails(kinds) => {
                kinds.iter().map(|kind: &MailKind| format!("`{}`", kind.name())).collect::<Vec<_>>().join(", ")
            }
            Notice::Nothing(why) => format!("none: {why}"),
        };
        format!("| `{name}` | {what} |\n")
    };
    types.map(row).collect()
}

/// Every type of the contract is in the table, and the table says what the notifier does.
#[test]
fn the_page_says_what_follows_from_every_event() {
    const BEGIN: &str = "| event | mails |\n|---|---|\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/mail.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table");
    let (_, after) = rest.split_once("\n\n").expect("something behind it");
    let now = format!("{before}{BEGIN}{}\n{after}", page());
    if updates() {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    assert!(text == now, "docs/mail.md is not what the notifier does: UPDATE=1");
}
