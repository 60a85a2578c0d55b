//! Real and odd documents on their whole way: created, filled in, sealed, verified, and looked at page by page.
//!
//! It must never take our own word for a seal: other programs judge it, and the pages are compared with pictures that
//! somebody has looked at.

#[path = "corpus/golden.rs"]
mod golden;
#[path = "corpus/papers.rs"]
mod papers;

use std::sync::Arc;

use countersign::v1::document_source::Source;
use countersign::v1::{
    CreateEnvelopeRequest, DocumentSignature, DocumentSource, DocumentVersion, DownloadDocumentRequest, EnvelopeStatus,
    FieldEntry, FieldType, NewField, Placement, Routing, SealVerdict, VerifyDocumentRequest, VerifyDocumentResponse,
};
use countersign_paper::{Limits, Mark, MarkContent, PageSize, Policy, StampOptions, ingest, samples, stamp};
use countersign_test_support::client::{request, signature};
use countersign_test_support::docx::docx;
use countersign_test_support::{Caller, Errors as _, Notifier, Service};
use tonic::Status;

use self::golden::{Area, Grey};
use self::papers::Paper;
use crate::certificates::words;
use crate::downloads::{hash, of, whole};
use crate::steps::{entry, field, until_status};
use crate::{judges, seals};

/// The files of other programs, for those who damage them.
pub fn committed() -> Vec<Vec<u8>> {
    papers::committed().into_iter().map(|paper| paper.bytes).collect()
}

/// What is put in on each page that is looked at, and where; the signature stands on the first.
const VALUE: &str = "Керівниця 山田 №7";
const TEXT_AREA: Area = [55.0, 80.0, 95.0, 88.0];
const SIGNATURE_AREA: Area = [5.0, 85.0, 45.0, 93.0];
/// Every page of a test says so, in its top margin of so many points.
const NOTE_PT: f64 = 20.0;
/// Papers of more pages are looked at on the first and the last.
const LOOKED_AT_MAX: usize = 24;
/// What has to be refused, and as what.
const REFUSED: [(&str, &str); 2] = [("certified", "CERTIFIED_FINAL"), ("page-in-its-tree", "BROKEN")];
/// Bytes of one message.
const CHUNK_BYTES: usize = 256 * 1024;

async fn verify(caller: &Caller, bytes: &[u8]) -> Result<VerifyDocumentResponse, Status> {
    let chunks: Vec<VerifyDocumentRequest> =
        bytes.chunks(CHUNK_BYTES).map(|chunk| VerifyDocumentRequest { chunk: chunk.to_vec().into() }).collect();
    Ok(caller.envelopes().verify_document(tokio_stream::iter(chunks)).await?.into_inner())
}

/// A paper that went the whole way.
struct Done {
    name: String,
    upload: Vec<u8>,
    /// What was shown and signed.
    base: Vec<u8>,
    sealed: Vec<u8>,
    pages: Vec<PageSize>,
    /// Signatures that it bore when it came.
    earlier: Vec<DocumentSignature>,
}

/// The pages that are filled in and looked at.
fn looked_at(pages: &[PageSize]) -> impl Iterator<Item = u32> {
    let (last, is_small) = (pages.len(), pages.len() <= LOOKED_AT_MAX);
    (1..=last).filter(move |page| is_small || [1, last].contains(page)).map(|page| page as u32)
}

/// One envelope with these papers, signed by one person: a signature on the first page of each, a text on all that are looked
/// at.
async fn envelope(service: &Service, sender: &Caller, papers: Vec<Paper>) -> Vec<Done> {
    let (mut new, mut pages) = (request(1, Routing::Parallel, true), Vec::new());
    (new.documents, new.fields) = Default::default();
    for (index, paper) in (0..).zip(&papers) {
        let found = ingest(&paper.bytes, &Limits::default(), &Policy::default());
        let sizes = found.unwrap_or_else(|why| panic!("{}: {why}", paper.name)).pages;
        let source = if paper.bytes.len() > 1 << 20 {
            Source::UploadId(crate::intake::upload(sender, &paper.bytes).await.unwrap().upload_id)
        } else {
            Source::Content(paper.bytes.clone().into())
        };
        new.documents.push(DocumentSource { name: paper.name.clone(), source: Some(source), ..Default::default() });
        new.fields.push(placed(FieldType::Signature, (index, 1), SIGNATURE_AREA));
        new.fields.extend(looked_at(&sizes).map(|page| placed(FieldType::Text, (index, page), TEXT_AREA)));
        pages.push(sizes);
    }
    let done = signed(service, sender, new).await;
    let mut all = Vec::new();
    for ((paper, pages), document) in papers.into_iter().zip(pages).zip(&done.documents) {
        let one = |version| DownloadDocumentRequest { document_id: document.id.clone(), ..of(&done, version) };
        let sealed = whole(sender, one(DocumentVersion::Signed)).await.unwrap().1;
        let kept = service.documents.path().join(&document.sha256[..2]).join(&document.sha256[2..]);
        // What is encrypted is not looked at before it was decrypted.
        let earlier = verify(sender, &paper.bytes).await.map_or_else(|_| Vec::new(), |said| said.signatures);
        let (name, base) = (paper.name, std::fs::read(kept).unwrap());
        all.push(Done { name, upload: paper.bytes, base, sealed, pages, earlier });
    }
    all
}

/// A field that fills an area of a page of a document.
fn placed(kind: FieldType, (document_index, page): (u32, u32), [left, top, right, bottom]: Area) -> NewField {
    let placement =
        Placement { page, x_percent: left, y_percent: top, width_percent: right - left, height_percent: bottom - top };
    NewField { document_index, required: true, placement: Some(placement), ..field(kind, 0, 0) }
}

/// Created, filled in and signed.
async fn signed(service: &Service, sender: &Caller, new: CreateEnvelopeRequest) -> countersign::v1::Envelope {
    let sent = sender.create(new).await.unwrap();
    // A sender has links of test envelopes only.
    let links = service.notifier(&sender.account);
    let signer = links.signer_of(&sent.id, &sent.recipients[0].id).await.unwrap();
    let texts = sent.fields.iter().filter(|field| field.r#type() == FieldType::Text);
    let values: Vec<FieldEntry> = texts.map(|field| entry(&field.id, VALUE)).collect();
    signer.signer().sign(countersign::v1::SignRequest { values, ..signature(&sent) }).await.unwrap();
    until_status(sender, &sent.id, EnvelopeStatus::Completed).await
}

/// Our own judgement, over the wire: the seal is the last of the signatures, and the earlier ones are as good as they were.
async fn judge(sender: &Caller, done: &Done) {
    let name = &done.name;
    let said = verify(sender, &done.sealed).await.unwrap();
    assert_eq!(said.verdict(), SealVerdict::Intact, "{name}");
    let (seal, earlier) = said.signatures.split_last().unwrap();
    assert!(seal.is_ours && seal.covers_whole_file && seal.is_intact, "{name}: {seal:?}");
    assert_eq!(earlier.len(), done.earlier.len(), "{name}: signatures that it bore");
    for (after, before) in earlier.iter().zip(&done.earlier) {
        assert_eq!((after.is_intact, after.fault), (before.is_intact, before.fault), "{name}: {after:?}");
        assert_eq!(after.signed_bytes, before.signed_bytes, "{name}");
    }
    assert!(done.sealed.starts_with(&done.base), "{name}: what was signed is its beginning");
    let (came, kept) = (hash(&done.upload), hash(&done.base));
    assert!(done.earlier.is_empty() || came == kept, "{name}: signed before, and not kept as it came");
}

/// Whether another program says of a signature the same as before but that something harmless follows it.
fn stays(before: &str, after: &str) -> bool {
    // It has no judgement of timestamps that stand for themselves.
    if before == after {
        return true;
    }
    let [before, after] = [before, after].map(|said| said.split(' ').collect::<Vec<_>>());
    let ([valid, trusted, _, level, ..], [still, trusted_still, coverage, level_now, ..]) = (&before[..], &after[..])
    else {
        return false;
    };
    let is_harmless = ["NONE", "LTA_UPDATES", "FORM_FILLING"].contains(level_now) || level == level_now;
    valid == still && trusted == trusted_still && *coverage == "ENTIRE_REVISION" && is_harmless
}

/// What others say of all of them.
fn others_judge(all: &[Done]) {
    let uploads: Vec<Vec<u8>> = all.iter().map(|done| done.upload.clone()).collect();
    let sealed: Vec<Vec<u8>> = all.iter().map(|done| done.sealed.clone()).collect();
    if let (Some(before), Some(after)) = (judges::pyhanko(&uploads), judges::pyhanko(&sealed)) {
        for (done, (before, after)) in all.iter().zip(before.iter().zip(&after)) {
            let name = &done.name;
            let (seal, earlier) = after.split_last().unwrap();
            assert_eq!(seal, "valid trusted ENTIRE_FILE NONE unstamped", "{name}");
            if done.earlier.is_empty() {
                assert_eq!(earlier.len(), 0, "{name}");
                continue;
            }
            assert_eq!(earlier.len(), before.len(), "{name}");
            assert!(
                before.iter().zip(earlier).all(|(before, after)| stays(before, after)),
                "{name}: {before:?} {after:?}"
            );
        }
    }
    for done in all {
        let was_sound = judges::qpdf(&done.base).unwrap_or_default().is_empty();
        let said = judges::qpdf(&done.sealed).unwrap_or_default();
        assert!(said.is_empty() || !was_sound, "{}: {said}", done.name);
        let holds = judges::pdfsig_holds(&done.sealed).unwrap_or(true);
        assert!(holds, "{}: {:?}", done.name, judges::pdfsig(&done.sealed));
        assert!(judges::mutool(&done.sealed).unwrap_or(true), "{}", done.name);
        let Some(text) = words(&done.sealed) else { continue };
        let is_drawn_on = ["Certificate of completion", "Signed by Signer 0"].map(|words| text.contains(words));
        assert_eq!(is_drawn_on, [done.earlier.is_empty(); 2], "{}: {text:.300}", done.name);
        let values = if done.earlier.is_empty() { looked_at(&done.pages).count() } else { 0 };
        assert_eq!(text.matches("№7").count(), values, "{}", done.name);
    }
}

/// Compares what its pages look like. Those of a paper that was signed before are as they came.
fn look(done: &Done) -> Result<(), String> {
    let drawn = |page: u32| {
        let margin = 100.0 * NOTE_PT / done.pages[page as usize - 1].height_pt;
        let areas = [Some(TEXT_AREA), Some([0.0, 0.0, 100.0, margin]), (page == 1).then_some(SIGNATURE_AREA)];
        areas.into_iter().flatten().filter(|_| done.earlier.is_empty()).collect()
    };
    let pages: Vec<(u32, Vec<Area>)> = looked_at(&done.pages).map(|page| (page, drawn(page))).collect();
    golden::compare(&done.name, (&done.base, &done.sealed), &pages)
}

/// Every paper of the corpus goes the whole way, and stays what it was: byte for byte, signature for signature, and to look at.
#[tokio::test(flavor = "multi_thread")]
async fn s1_35_a_corpus_of_odd_papers_is_signed_sealed_and_verified() {
    let service = seals::start(None).await;
    // On those that were signed before nothing may be drawn, and a test says so on every page.
    let (sender, live) = (service.account(false).await, service.account(true).await);
    let mut papers: Vec<Paper> = papers::committed();
    papers.extend(papers::made());
    assert!(papers.len() >= 25, "{} papers", papers.len());
    let share = format!("{} of {} papers", papers.len() - REFUSED.len(), papers.len());
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/documents.md")).unwrap();
    assert!(page.contains(&share), "docs/documents.md does not say that {share} are taken");
    for (name, fault) in REFUSED {
        let paper = papers.remove(papers.iter().position(|paper| paper.name == name).unwrap());
        let new = crate::intake::new(Source::Content(paper.bytes.into()), true);
        let refused = sender.create(new).await.unwrap_err();
        let said = (refused.reason(), refused.fact("fault"));
        assert_eq!(said, ("UNREADABLE_DOCUMENT".to_owned(), fault.to_owned()), "{name}");
    }
    let is_signed =
        |paper: &Paper| ingest(&paper.bytes, &Limits::default(), &Policy::default()).is_ok_and(|it| it.is_signed);
    let (signed, mut papers): (Vec<Paper>, Vec<Paper>) = papers.into_iter().partition(is_signed);
    let mut waiting = Vec::new();
    if !signed.is_empty() {
        waiting.push(envelope(&service, &live, signed));
    }
    while !papers.is_empty() {
        let some: Vec<Paper> = papers.drain(..papers.len().min(10)).collect();
        waiting.push(envelope(&service, &sender, some));
    }
    let all: Vec<Done> = futures_util::future::join_all(waiting).await.into_iter().flatten().collect();
    futures_util::future::join_all(all.iter().map(|done| judge(&sender, done))).await;
    let all = Arc::new(all);
    let looked_at = tokio::task::spawn_blocking({
        let all = Arc::clone(&all);
        move || all.iter().filter_map(|done| look(done).err()).collect::<Vec<_>>()
    });
    tokio::task::spawn_blocking(move || others_judge(&all)).await.unwrap();
    let differing = looked_at.await.unwrap();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// What the pictures are for: a value three points off, or short of a letter, is not the picture that it was.
#[test]
fn a_stamp_that_moved_and_a_letter_that_is_gone_are_seen() {
    let paper = samples::nda().unwrap().bytes;
    let drawn = |x_pct: f64, y_pct: f64, words: &str| {
        let content = MarkContent::Paragraph(words.to_owned());
        let mark = Mark { page: 1, x_pct, y_pct, width_pct: 40.0, height_pct: 8.0, content };
        Grey::of(&stamp(&paper, &[mark], &StampOptions::default()).unwrap(), 1)
    };
    let [left, top, ..] = TEXT_AREA;
    let as_it_was = drawn(left, top, VALUE);
    assert_eq!(as_it_was.difference(&drawn(left, top, VALUE)), 0, "the same twice");
    let [across, down] = [595.0, 842.0].map(|side| 100.0 * 3.0 / side);
    for (what, other) in [
        ("three points to the right", drawn(left + across, top, VALUE)),
        ("three points down", drawn(left, top + down, VALUE)),
        ("a letter at the end", drawn(left, top, &VALUE[..VALUE.len() - 1])),
        ("a letter in the middle", drawn(left, top, &VALUE.replace('р', " "))),
        ("a name of another script", drawn(left, top, &VALUE.replace("山田", "  "))),
    ] {
        eprintln!("{what}: {} shades", as_it_was.difference(&other));
        assert!(!as_it_was.looks_like(&other), "{what}: {} shades", as_it_was.difference(&other));
    }
}

/// A DOCX goes the same way, by the PDF that is made of it.
#[tokio::test(flavor = "multi_thread")]
async fn s1_36_a_converted_docx_is_sealed_for_others_to_take() {
    if !crate::intake::converts() {
        return;
    }
    let service = seals::start(None).await;
    let sender = service.account(false).await;
    let text = docx(&["Lease of the flat at Kirkegata 5", "Signed:"]);
    let created = sender.create(crate::intake::new(Source::Content(text.into()), true)).await.unwrap();
    let sent = until_status(&sender, &created.id, EnvelopeStatus::Sent).await;
    let signer = sender.signer_of(&sent.id, &sent.recipients[0].id).await.unwrap();
    signer.sign(&sent).await.unwrap();
    let done = until_status(&sender, &sent.id, EnvelopeStatus::Completed).await;
    let (_, sealed) = whole(&sender, of(&done, DocumentVersion::Signed)).await.unwrap();
    for said in judges::pyhanko(std::slice::from_ref(&sealed)).into_iter().flatten() {
        assert_eq!(said, ["valid trusted ENTIRE_FILE NONE unstamped"]);
    }
    assert_eq!(judges::qpdf(&sealed).unwrap_or_default(), "");
    let text = words(&sealed).unwrap_or_else(|| "Kirkegata 5 Signed by Signer 0".to_owned());
    assert!(text.contains("Kirkegata 5") && text.contains("Signed by Signer 0"), "{text}");
}

/// What was put into a document that bears signatures stands on the certificate; refused, it says so on its pages all the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_before_is_not_drawn_on() {
    let Some(paper) = judges::signed_by_pyhanko(&samples::nda().unwrap().bytes, "p256", "PADES") else { return };
    let service = seals::start(None).await;
    let notifier = Notifier::start(&service).await;
    let (sender, tester) = (service.account(true).await, service.account(false).await);
    let new = |bytes: &[u8]| {
        let mut new = crate::intake::new(Source::Content(bytes.to_vec().into()), true);
        new.fields.push(NewField { required: true, ..placed(FieldType::Text, (0, 2), TEXT_AREA) });
        new
    };
    let done = signed(&service, &sender, new(&paper)).await;
    let certificate = whole(&sender, of(&done, DocumentVersion::Certificate)).await.unwrap().1;
    if let Some(text) = words(&certificate) {
        for wanted in ["signed before it came", "Page 2", "№7", "Signature: Signer 0"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
    let completed = crate::webhooks::until("the completed mail", || {
        notifier.mails().into_iter().find_map(|(name, text)| name.ends_with(".completed.eml").then_some(text))
    });
    let completed = completed.await;
    for version in ["-signed.pdf", "-certificate.pdf"] {
        assert!(completed.contains(version), "{version} is attached");
    }
    notifier.stop().await;
    let drawn_on = signed(&service, &tester, new(&paper)).await;
    let test = whole(&tester, of(&drawn_on, DocumentVersion::Signed)).await.unwrap().1;
    assert!(words(&test).is_none_or(|text| text.contains("TEST") && text.contains("№7")), "a test says so");
    assert_eq!(verify(&tester, &test).await.unwrap().signatures.len(), 1);
    // Another version in the first line, which is signed as well: what holds no more is not worth an undrawn page.
    let mut broken = paper.clone();
    broken[7] = if broken[7] == b'7' { b'6' } else { b'7' };
    let drawn_on = signed(&service, &sender, new(&broken)).await;
    let flat = whole(&sender, of(&drawn_on, DocumentVersion::Signed)).await.unwrap().1;
    assert_eq!(verify(&sender, &flat).await.unwrap().signatures.len(), 1, "the seal alone is left");
    let story = tester.story_of(new(&paper)).await;
    story.signer(0).decline("No").await.unwrap();
    story.until_artifact().await;
    let refused = whole(&tester, of(&story.envelope, DocumentVersion::Declined)).await.unwrap().1;
    assert!(words(&refused).is_none_or(|text| text.matches("Document refused").count() >= 2));
    let said = verify(&tester, &refused).await.unwrap();
    assert_eq!((said.verdict(), said.signatures.len()), (SealVerdict::Intact, 1), "the seal alone is left");
}

/// A signature that holds says nothing of a service that does not seal.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_signed_is_no_seal_of_this_service() {
    let Some(paper) = judges::signed_by_pyhanko(&samples::nda().unwrap().bytes, "p256", "PADES") else { return };
    let service = Service::start().await;
    let sender = service.account(true).await;
    let done = signed(&service, &sender, crate::intake::new(Source::Content(paper.into()), true)).await;
    let unsealed = whole(&sender, of(&done, DocumentVersion::Signed)).await.unwrap().1;
    let said = verify(&sender, &unsealed).await.unwrap();
    assert!(said.document.is_some() && said.signatures[0].is_intact, "{said:?}");
    assert_eq!(said.verdict(), SealVerdict::NotSealed);
}
