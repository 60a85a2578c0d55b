//! The demo from start to end.

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::program::{command, entries, open_folder, processes};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn run(temporary: &Path, arguments: &[&str]) -> (Output, String, String) {
    let output = command(temporary, arguments).output().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    let complained = String::from_utf8(output.stderr.clone()).unwrap();
    (output, said, complained)
}

#[test]
fn plays_all_stories_and_says_so_in_one_json_document() {
    let (temporary, folder) = (open_folder(), open_folder());
    let (output, said, complained) =
        run(temporary.path(), &["demo", "--json", "--folder", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{said}\n{complained}");
    assert_eq!(processes(temporary.path()), []);
    assert_eq!(entries(temporary.path()), Vec::<std::path::PathBuf>::new());
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["ok"], true);

    let envelopes = list(&report["envelopes"]);
    let statuses: Vec<&str> = envelopes.iter().map(|envelope| text(&envelope["status"])).collect();
    assert_eq!(statuses, ["COMPLETED", "DECLINED", "VOIDED"]);
    let mut events = 0;
    for envelope in envelopes {
        assert!(text(&envelope["id"]).starts_with("env_"));
        let mut times = Vec::new();
        for (event, number) in list(&envelope["events"]).iter().zip(1_u64..) {
            assert_eq!(event["sequence"], number);
            times.push(text(&event["time"]));
            let delivered =
                list(&report["webhooks"]).iter().find(|webhook| webhook["event_id"] == event["id"]).unwrap();
            assert_eq!(delivered["type"], event["type"]);
            assert_eq!(delivered["envelope_id"], envelope["id"]);
            assert!(text(&delivered["webhook_id"]).len() > 4);
            events += 1;
        }
        assert!(times.is_sorted());
    }
    assert_eq!(events, 8 + 10 + 4);
    for webhook in list(&report["webhooks"]) {
        let signatures = webhook["signatures"].as_object().unwrap();
        assert_eq!(signatures.len(), 3);
        assert!(signatures.values().all(|found| found == "valid"), "{signatures:?}");
    }
    check_files(&report, folder.path());
}

fn check_files(report: &Value, folder: &Path) {
    let folder = folder.canonicalize().unwrap();
    let versions: Vec<&str> = list(&report["artefacts"]).iter().map(|file| text(&file["version"])).collect();
    assert_eq!(versions, ["SIGNED", "DECLINED"]);
    for file in list(&report["artefacts"]) {
        let path = Path::new(text(&file["path"]));
        assert!(path.starts_with(&folder));
        let bytes = std::fs::read(path).unwrap();
        assert!(bytes.starts_with(b"%PDF-"));
        assert_eq!(file["size_bytes"], bytes.len());
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text(&file["sha256"]), digest);
    }
    let mails = list(&report["mails"]);
    let to = |kind: &str| mails.iter().filter(|mail| mail["kind"] == kind).count();
    assert_eq!((to("invitation"), to("completed"), to("fell_through")), (6, 2, 3));
    for mail in mails {
        let path = Path::new(text(&mail["file"]));
        assert_eq!(path.parent().unwrap(), folder.join("mail"));
        assert!(std::fs::read_to_string(path).unwrap().contains(text(&mail["recipient"])));
    }
}

#[test]
fn tells_people_where_the_files_are_and_leaves_nothing_else() {
    let temporary = open_folder();
    let (output, said, complained) = run(temporary.path(), &["demo"]);
    assert!(output.status.success(), "{said}\n{complained}");
    let [folder] = &entries(temporary.path())[..] else { panic!("{:?}", entries(temporary.path())) };
    for name in ["mutual-nda.signed.pdf", "services-agreement.declined.pdf", "mail"] {
        let path = folder.join(name);
        assert!(path.exists());
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
    assert!(said.contains("Everything happened as expected"), "{said}");
    assert_eq!(complained, "");
    assert_eq!(processes(temporary.path()), []);
}

#[test]
fn fails_with_one_sentence_and_leaves_nothing() {
    let temporary = open_folder();
    let file = temporary.path().join("file");
    std::fs::write(&file, "").unwrap();
    let folder = file.join("folder");
    let (output, said, complained) = run(temporary.path(), &["demo", "--json", "--folder", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{said}\n{complained}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["ok"], false);
    assert!(text(&report["error"]).contains("cannot make the folder"), "{report}");
    assert_eq!(complained.lines().count(), 1, "{complained}");
    assert_eq!(entries(temporary.path()), [file]);
}
