//! Seals that bring along what they are checked by later hold in the eyes of others, and answers of `openssl` are believed only
//! where they have to be.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use std::sync::OnceLock;

use countersign_paper::{
    AlreadySigned, Finding, Issued, Level, Limits, Path, Policy, Prepared, Roots, SealOptions, Trust, Unfit, Unsealed,
    Validation, ingest, seal, verify,
};
use lopdf::{Document, Object, dictionary};
use odd::pki::Pki;
use odd::revocable::Revocable;
use odd::{Odd, Packing, judges};

fn revocable() -> &'static Revocable {
    static REVOCABLE: OnceLock<Revocable> = OnceLock::new();
    REVOCABLE.get_or_init(|| Revocable::at("http://localhost:1"))
}

/// From the key of the seals to the root.
fn steps() -> Vec<Issued> {
    let path = Path::of_identity(&revocable().sealer().identity, &[]);
    assert!(path.ends_at_root && path.steps.len() == 2);
    path.steps
}

fn now() -> u64 {
    Pki::clock_unix_s()
}

fn request(step: &Issued) -> Vec<u8> {
    step.ocsp_request().unwrap()
}

/// All that shows that the key's and the authority's certificates are good.
fn validation() -> Validation {
    let (pki, steps) = (revocable(), steps());
    let tsa = Revocable::chain(pki)[1..].iter().cloned().chain([pki.pki.der("tsa")]).collect::<Vec<_>>();
    let token = Path::of_token(&token(), &tsa).unwrap();
    let mut validation = Validation { certificates: tsa, ..Validation::default() };
    for (step, issuer) in steps.iter().chain(&token.steps).zip(["issuer", "root", "issuer"]) {
        let answer = pki.right_answer(issuer, &request(step));
        assert!(matches!(step.judge_ocsp(&answer, now()), Ok(Finding::Good(_))));
        validation.ocsps.push(answer);
    }
    validation
}

/// Any token of the authority.
fn token() -> Vec<u8> {
    let request = Unsealed::timestamp_request(b"anything", 7).unwrap();
    request.token(&revocable().pki.timestamp(&request.der), now(), None).unwrap()
}

fn with(validation: Validation) -> SealOptions {
    SealOptions { sealed_at_unix_s: now(), validation, timestamped: true, ..SealOptions::default() }
}

fn sealed(base: &[u8], options: &SealOptions) -> (Vec<u8>, Level) {
    let sealer = revocable().sealer();
    let done = sealer.finish_stamped_by(&revocable().pki, seal(base, &sealer.identity, options).unwrap());
    (done.whole(base), done.level)
}

fn expect_long_term(files: &[Vec<u8>]) {
    for said in judges::pyhanko_long_term(files, &revocable().path().join("root.pem")).into_iter().flatten() {
        assert_eq!(said, judges::LONG_TERM);
    }
    for file in files {
        assert_eq!(judges::qpdf(file).unwrap_or_default(), "");
        if let Some(said) = judges::pdfsig(file) {
            assert!(said.contains("Signature is Valid.") && said.contains("Total document signed"), "{said}");
        }
        let roots = Roots::new(&[revocable().pki.der("root")]);
        let found = verify(file, &Limits::default(), &roots, now()).unwrap().signatures;
        let last = found.last().unwrap();
        assert!(last.is_intact() && last.covers_whole_file && last.trust == Trust::Trusted);
    }
}

/// Without the network, by the root alone.
#[test]
fn a_seal_brings_along_what_it_is_checked_by_later() {
    if !judges::can_make_keys() {
        return;
    }
    let mut files = Vec::new();
    let mut bases = vec![odd::hybrid(), odd::many_pages(20)];
    bases.extend(
        [Packing::Table, Packing::XrefStream, Packing::ObjectStreams]
            .map(|packing| Odd { packing, ..Odd::plain() }.pdf()),
    );
    for base in &bases {
        let (file, level) = sealed(base, &with(validation()));
        assert_eq!(level, Level::LongTerm);
        files.push(file);
    }
    let lists = ["issuer", "root"].map(|issuer| revocable().list(issuer, &[])).to_vec();
    let by_lists = Validation { ocsps: Vec::new(), crls: lists, ..validation() };
    let (sealer, prepared) = (revocable().sealer(), Prepared::new(&bases[2]).unwrap().unwrap());
    let unsealed = prepared.seal(&sealer.identity, &with(by_lists)).unwrap();
    let done = sealer.finish_stamped_by(&revocable().pki, unsealed);
    assert_eq!(done.level, Level::LongTerm);
    files.push(done.whole(&bases[2]));
    expect_long_term(&files);
    let document = Document::load_mem(&files[1]).unwrap();
    let extension = document.catalog().unwrap().get(b"Extensions").and_then(Object::as_dict).unwrap();
    let extension = extension.get(b"ESIC").and_then(Object::as_dict).unwrap();
    assert_eq!(extension.get(b"ExtensionLevel").and_then(Object::as_i64).unwrap(), 5);
}

/// What is missing anywhere is missing: the level says what is there.
#[test]
fn the_level_is_what_the_file_brings_along() {
    if !judges::can_make_keys() {
        return;
    }
    let base = Odd::plain().pdf();
    let all = validation();
    assert_eq!(sealed(&base, &with(all.clone())).1, Level::LongTerm);
    let mut lesser = Vec::new();
    for left_out in 0..3 {
        let mut less = all.clone();
        less.ocsps.remove(left_out);
        // The key's and the authority's answers are of one issuer, but about one certificate each.
        let (file, level) = sealed(&base, &with(less));
        assert_eq!(level, Level::Timestamped, "without answer {left_out}");
        lesser.push(file);
    }
    for said in judges::pyhanko_long_term(&lesser, &revocable().path().join("root.pem")).into_iter().flatten() {
        assert!(said[0].starts_with("INVALID") && said[2] != "AdESPassed.OK", "others see that, too: {said:?}");
    }
    // A responder whose own certificate nobody answers for, and then somebody does.
    let mut asked = all.clone();
    asked.ocsps[0] = revocable().answer("issuer", "issuer-asked", &request(&steps()[0]), &["-ndays", "1"]);
    let Ok(Finding::Good(good)) = steps()[0].judge_ocsp(&asked.ocsps[0], now()) else { panic!("it is right") };
    assert_eq!(sealed(&base, &with(asked.clone())).1, Level::Timestamped);
    asked.ocsps.push(revocable().right_answer("issuer", &request(&good.responder.unwrap())));
    assert_eq!(sealed(&base, &with(asked)).1, Level::LongTerm);
    let sealer = revocable().sealer();
    let unstamped = sealer.finish(seal(&base, &sealer.identity, &with(all.clone())).unwrap());
    assert_eq!(unstamped.level, Level::Basic);
    let mut strange = all.clone();
    strange.ocsps[0] = revocable().answer("issuer", "stranger", &request(&steps()[0]), &["-ndays", "1"]);
    assert_eq!(sealed(&base, &with(strange)).1, Level::Timestamped);
    // A root that nobody named.
    let sealer = revocable().pki.sealer("p256");
    let certificates = all.certificates.iter().filter(|it| **it != revocable().pki.der("root")).cloned().collect();
    let rootless = Validation { certificates, ..all };
    let done = sealer.finish_stamped_by(&revocable().pki, seal(&base, &sealer.identity, &with(rootless)).unwrap());
    assert_eq!(done.level, Level::Timestamped);
}

/// What earlier signatures are checked by stays, and the seal's comes behind it.
#[test]
fn earlier_signatures_keep_what_they_are_checked_by() {
    if !judges::can_make_keys() {
        return;
    }
    let preserve = SealOptions { already_signed: AlreadySigned::Preserve, ..with(validation()) };
    let (once, _) = sealed(&Odd::plain().pdf(), &with(validation()));
    let unstored = sealed(&Odd::plain().pdf(), &with(Validation::default())).0;
    let count = |file: &[u8], key: &[u8]| {
        let document = Document::load_mem(file).unwrap();
        let store = document.catalog().unwrap().get(b"DSS").and_then(Object::as_reference).unwrap();
        let store = document.get_dictionary(store).unwrap();
        store.get(key).and_then(Object::as_array).map_or(0, Vec::len)
    };
    for (earlier, stored) in [(&once, 3), (&unstored, 0)] {
        let (twice, level) = sealed(earlier, &preserve);
        assert!(twice.starts_with(earlier));
        assert_eq!((level, count(&twice, b"OCSPs")), (Level::LongTerm, stored + 3));
        expect_long_term(std::slice::from_ref(&twice));
        let found = verify(&twice, &Limits::default(), &Roots::default(), now()).unwrap().signatures;
        assert!(found.len() == 2 && found.iter().all(countersign_paper::SignatureFacts::is_intact));
        for said in judges::pyhanko(&[twice]).into_iter().flatten() {
            assert!(
                said[0].contains("ENTIRE_REVISION FORM_FILLING") && said[1].contains("ENTIRE_FILE NONE"),
                "{said:?}"
            );
        }
    }
}

/// A paper may name as its store what is something else, or nothing of the kind.
#[test]
fn nothing_that_was_there_is_written_over() {
    if !judges::can_make_keys() {
        return;
    }
    for is_page in [true, false] {
        let mut document = Document::load_mem(&Odd::plain().pdf()).unwrap();
        let page = document.page_iter().next().unwrap();
        let levels = document.add_object(dictionary! { "ADBE" => dictionary! { "ExtensionLevel" => 8 } });
        let odd = dictionary! { "Certs" => vec![page.into(), 7.into()], "OCSPs" => 7, "VRI" => 7, "Other" => page };
        let catalog = document.catalog_mut().unwrap();
        catalog.set("DSS", if is_page { Object::Reference(page) } else { odd.into() });
        catalog.set("Extensions", levels);
        let mut base = Vec::new();
        document.save_to(&mut base).unwrap();
        let (file, level) = sealed(&base, &with(validation()));
        assert_eq!(level, Level::LongTerm);
        expect_long_term(std::slice::from_ref(&file));
        let after = Document::load_mem(&file).unwrap();
        let mut now = after.get_dictionary(page).unwrap().clone();
        now.remove(b"Annots");
        assert_eq!(&now, document.get_dictionary(page).unwrap(), "the page is still one");
        let extensions = after.catalog().unwrap().get(b"Extensions").and_then(Object::as_dict).unwrap();
        assert!(extensions.has(b"ADBE") && extensions.has(b"ESIC"));
        assert!(ingest(&file, &Limits::default(), &Policy::default()).is_ok());
    }
}

#[test]
fn answers_count_that_are_of_the_issuer_about_the_certificate_and_of_now() {
    if !judges::can_make_keys() {
        return;
    }
    let (pki, steps) = (revocable(), steps());
    let step = &steps[0];
    assert_eq!(step.ocsp_urls(), ["http://localhost:1/ocsp/issuer"]);
    assert_eq!(step.crl_urls(), ["http://localhost:1/crl/issuer"]);
    let day = ["-ndays", "1"];
    let right = pki.right_answer("issuer", &request(step));
    let Ok(Finding::Good(good)) = step.judge_ocsp(&right, now()) else { panic!("it is right") };
    assert!(good.responder.is_none() && good.until_unix_s.abs_diff(now() + 86_400) < 60);
    let by_issuer = pki.answer("issuer", "issuer", &request(step), &day);
    assert!(matches!(step.judge_ocsp(&by_issuer, now()), Ok(Finding::Good(good)) if good.responder.is_none()));
    let by_key = pki.answer("issuer", "issuer-ocsp", &request(step), &["-ndays", "1", "-resp_key_id"]);
    assert!(matches!(step.judge_ocsp(&by_key, now()), Ok(Finding::Good(_))));
    let by_asked = pki.answer("issuer", "issuer-asked", &request(step), &day);
    let Ok(Finding::Good(asked)) = step.judge_ocsp(&by_asked, now()) else { panic!("it is right") };
    let responder = asked.responder.expect("it has to be asked about, too");
    assert!(matches!(responder.judge_crl(&pki.list("issuer", &[]), now()), Ok(Finding::Good(_))));
    // The time of the answer, said otherwise: all else can still be read.
    let mut replaced = right.clone();
    let at = replaced.windows(2).position(|window| window == [0x18, 15]).unwrap() + 2;
    replaced[at + 3] = b'0' + (replaced[at + 3] - b'0' + 1) % 10;
    assert_eq!(step.judge_ocsp(&replaced, now()), Err(Unfit::Stranger));
    let of_root = Path::of_identity(&pki.sealer().identity, &[]).steps.remove(1);
    let unfit = [
        (step.judge_ocsp(&right, now() + 2 * 86_400), Unfit::Time),
        (step.judge_ocsp(&by_issuer, now() - 400), Unfit::Time),
        (step.judge_ocsp(&pki.answer("issuer", "stranger", &request(step), &day), now()), Unfit::Stranger),
        (step.judge_ocsp(&pki.answer("issuer", "other", &request(step), &day), now()), Unfit::Stranger),
        (step.judge_ocsp(&pki.answer("issuer", "root-ocsp", &request(step), &day), now()), Unfit::Stranger),
        (step.judge_ocsp(&pki.right_answer("issuer", &request(&responder)), now()), Unfit::Other),
        (of_root.judge_ocsp(&right, now()), Unfit::Stranger),
        (step.judge_ocsp(&pki.right_answer("root", &request(step)), now()), Unfit::Stranger),
        (step.judge_ocsp(b"nothing", now()), Unfit::Unreadable),
        (step.judge_ocsp(&[0x30, 3, 10, 1, 3], now()), Unfit::Refused),
    ];
    for (index, (found, why)) in unfit.into_iter().enumerate() {
        assert_eq!(found, Err(why), "{index}");
    }
}

#[test]
fn lists_count_that_are_the_whole_of_what_the_issuer_says_now() {
    if !judges::can_make_keys() {
        return;
    }
    let (pki, steps) = (revocable(), steps());
    let step = &steps[0];
    let judge = |more: &[&str]| step.judge_crl(&pki.list("issuer", more), now());
    for more in [&[][..], &["-crlexts", "here"]] {
        assert!(matches!(judge(more), Ok(Finding::Good(_))), "{more:?}");
    }
    let old = ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z"];
    assert_eq!(judge(&old), Err(Unfit::Time));
    for section in ["partial", "delta", "of_cas", "elsewhere"] {
        assert_eq!(judge(&["-crlexts", section]), Err(Unfit::Conditions), "{section}");
    }
    assert_eq!(step.judge_crl(&pki.list("root", &[]), now()), Err(Unfit::Other));
    let mut replaced = pki.list("issuer", &[]);
    let last = replaced.len() - 1;
    replaced[last] ^= 1;
    assert_eq!(step.judge_crl(&replaced, now()), Err(Unfit::Stranger));
    assert_eq!(step.judge_crl(b"nothing", now()), Err(Unfit::Unreadable));
}

#[test]
fn who_was_revoked_is_found_out_either_way() {
    if !judges::can_make_keys() {
        return;
    }
    // Others ask about the same certificates.
    let pki = Revocable::at("http://localhost:2");
    let step = Path::of_identity(&pki.sealer().identity, &[]).steps.remove(0);
    pki.revoke("p256", true);
    assert!(matches!(
        step.judge_ocsp(&pki.right_answer("issuer", &request(&step)), now()),
        Ok(Finding::Revoked { .. })
    ));
    assert!(matches!(step.judge_crl(&pki.list("issuer", &[]), now()), Ok(Finding::Revoked { .. })));
    pki.revoke("p256", false);
    pki.revoke("other", true);
    assert!(matches!(step.judge_crl(&pki.list("issuer", &[]), now()), Ok(Finding::Good(_))));
}
