//! Seals that bring along what they are checked by later, and what happens where that is not to be had.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use countersign_chassis::clock::Clock;
use countersign_envelope::domain::envelope::SealLevel;
use countersign_envelope::seal::{RevocationPolicy, SealConfig, Sealer, TsaPolicy};

use crate::responder::{Responder, Say};
use crate::{judges, sealed};

async fn open(config: &SealConfig) -> (Sealer, Clock) {
    let clock = Clock::manual(Utc::now());
    (config.open(&clock).await.unwrap().0.unwrap(), clock)
}

async fn level(sealer: &Sealer) -> SealLevel {
    sealed(sealer).await.unwrap().1
}

fn expect_long_term(responder: &Responder, file: &[u8]) {
    let root = responder.revocable().path().join("root.pem");
    for said in judges::pyhanko_long_term(&[file.to_vec()], &root).into_iter().flatten() {
        assert_eq!(said, judges::LONG_TERM);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seals_are_for_the_long_term_from_the_first_on_and_answers_are_kept() {
    let responder = Responder::start().await;
    let (sealer, clock) = open(&responder.config()).await;
    let (file, level_of_first) = sealed(&sealer).await.unwrap();
    assert_eq!(level_of_first, SealLevel::LongTerm);
    expect_long_term(&responder, &file);
    // Of the key, the issuer, and the authority; the first document was timestamped twice.
    assert_eq!(responder.asked(), [3, 0, 2]);
    assert_eq!(level(&sealer).await, SealLevel::LongTerm);
    assert_eq!(responder.asked(), [3, 0, 3], "nobody is asked again");
    clock.advance(TimeDelta::hours(1));
    // An hour later by this clock alone: no timestamp is of that time.
    assert!(sealed(&sealer).await.is_err());
    assert_eq!(responder.asked()[0], 6, "answers are kept for an hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_come_at_once_ask_once() {
    let responder = Responder::start().await;
    let (sealer, _) = open(&responder.config()).await;
    let levels = futures_util::future::join_all((0..6).map(|_| level(&sealer))).await;
    assert_eq!(levels, [SealLevel::LongTerm; 6]);
    assert_eq!(responder.asked()[..2], [3, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_taken_where_no_responder_answers() {
    let responder = Responder::start().await;
    responder.tell(Say::Down, Say::Right);
    let (sealer, _) = open(&responder.config()).await;
    let (file, level) = sealed(&sealer).await.unwrap();
    assert_eq!(level, SealLevel::LongTerm);
    expect_long_term(&responder, &file);
}

/// Who is asked in vain is not asked again at once, and later is.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_does_not_wait_for_what_cannot_be_had() {
    let responder = Responder::start().await;
    responder.tell(Say::Down, Say::Down);
    let (sealer, clock) = open(&responder.config()).await;
    assert_eq!(level(&sealer).await, SealLevel::Timestamped);
    let asked = responder.asked();
    responder.tell(Say::Right, Say::Right);
    assert_eq!(level(&sealer).await, SealLevel::Timestamped);
    assert_eq!(responder.asked()[..2], asked[..2]);
    clock.advance(TimeDelta::minutes(1));
    assert_eq!(level(&sealer).await, SealLevel::LongTerm);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_count_as_none() {
    let responder = Responder::start().await;
    let wrong = [Say::Strange, Say::Other, Say::Replaced, Say::Garbage, Say::Endless, Say::Elsewhere];
    let cases = wrong.map(|say| (say, say)).into_iter().chain([(Say::Down, Say::Stale)]);
    for (ocsp, crl) in cases {
        responder.tell(ocsp, crl);
        let started = Instant::now();
        let (sealer, _) = open(&responder.config()).await;
        assert_eq!(level(&sealer).await, SealLevel::Timestamped, "{ocsp:?} {crl:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{ocsp:?}");
    }
    // Three answers and three lists, each as far as it may be long and what was on its way: in five seconds it would be more.
    assert!(responder.sent_bytes() < 6 * 16 * 1024 * 1024, "{}", responder.sent_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sealed_by_a_revoked_certificate() {
    let responder = Responder::start().await;
    for (name, whose) in
        [("p256", "of the seals"), ("issuer", "of the seals"), ("tsa", "of the timestamping authority")]
    {
        for (ocsp, crl) in [(Say::Right, Say::Right), (Say::Down, Say::Right)] {
            responder.tell(ocsp, crl);
            responder.revocable().revoke(name, true);
            let (sealer, clock) = open(&responder.config()).await;
            let refused = sealed(&sealer).await.unwrap_err().to_string();
            assert_eq!(refused, format!("a certificate {whose} is revoked: no document is sealed by it"));
            responder.tell(Say::Down, Say::Down);
            clock.advance(TimeDelta::minutes(2));
            // That nobody answers any more excuses nothing.
            let still = sealed(&sealer).await.map(|(_, level)| level);
            assert_eq!(still.map_err(|error| error.to_string()).unwrap_err(), refused, "{name}");
            responder.tell(ocsp, crl);
            responder.revocable().revoke(name, false);
            // What counts against it has to be said later; it is said to the second.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
            clock.advance(TimeDelta::minutes(1));
            // A list that is still kept may name the authority's.
            let expected = if name == "tsa" { SealLevel::Timestamped } else { SealLevel::LongTerm };
            assert!(level(&sealer).await >= expected, "{name}");
        }
    }
}

/// The first timestamp tells whom to ask; a second one is only for more.
#[tokio::test(flavor = "multi_thread")]
async fn a_seal_is_not_lost_with_a_second_timestamp() {
    let responder = Responder::start().await;
    responder.stamp_at_most(1);
    let (sealer, _) = open(&responder.config()).await;
    assert_eq!(level(&sealer).await, SealLevel::Timestamped);
    assert_eq!(responder.asked()[2], 2);
}

/// Whoever gives timestamps could have any address asked.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_authorities_that_nobody_vouches_for_are_not_asked() {
    let responder = Responder::start().await;
    let (sealer, _) = open(&SealConfig { seal_trust: None, ..responder.config() }).await;
    assert_eq!(level(&sealer).await, SealLevel::Timestamped);
    assert_eq!(responder.asked(), [2, 0, 1], "of the key and its issuer");
}

/// What was known of an authority's last certificate says nothing of the next.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_may_have_another_certificate() {
    let responder = Responder::start().await;
    responder.tell(Say::Down, Say::Down);
    let (sealer, clock) = open(&responder.config()).await;
    assert_eq!(level(&sealer).await, SealLevel::Timestamped);
    responder.tell(Say::Right, Say::Right);
    responder.revocable().renew_authority();
    clock.advance(TimeDelta::minutes(1));
    assert_eq!(level(&sealer).await, SealLevel::LongTerm);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_says_whether_documents_wait_for_it() {
    let responder = Responder::start().await;
    responder.tell(Say::Down, Say::Down);
    let with = |seal_revocation| SealConfig { seal_revocation, ..responder.config() };
    let (sealer, clock) = open(&with(RevocationPolicy::Require)).await;
    let refused = sealed(&sealer).await.unwrap_err().to_string();
    assert_eq!(refused, "it cannot be shown now that no certificate is revoked");
    responder.tell(Say::Right, Say::Right);
    clock.advance(TimeDelta::minutes(1));
    assert_eq!(level(&sealer).await, SealLevel::LongTerm);
    let asked = responder.asked();
    let (sealer, _) = open(&with(RevocationPolicy::Off)).await;
    assert_eq!(level(&sealer).await, SealLevel::Timestamped);
    assert_eq!(responder.asked()[..2], asked[..2], "nobody is asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_had_cannot_be_required() {
    let responder = Responder::start().await;
    let required = SealConfig { seal_revocation: RevocationPolicy::Require, ..responder.config() };
    let unstamped = SealConfig { seal_tsa_urls: Vec::new(), ..required.clone() };
    let degrading = SealConfig { seal_tsa_policy: TsaPolicy::Degrade, ..required.clone() };
    let nowhere =
        SealConfig { seal_pkcs12: Some(crate::pem(&["p256.key", "p256.pem", "issuer.pem"])), ..required.clone() };
    let known = SealConfig { seal_trust: Some(crate::Pki::get().path().join("root.pem")), ..nowhere.clone() };
    let untrusting = SealConfig { seal_trust: None, ..required.clone() };
    let cases = [
        (untrusting, "cannot be required without --seal-trust"),
        (unstamped, "cannot be required without --seal-tsa-urls"),
        (degrading, "cannot be required of seals without a timestamp"),
        (nowhere, "cannot be required: the certificates do not lead to a root"),
        (known, "cannot be required: a certificate names neither a responder (OCSP) nor a revocation list"),
    ];
    for (config, why) in cases {
        let refused = config.open(&Clock::manual(crate::now())).await.err().unwrap().to_string();
        assert!(refused.starts_with("--seal-revocation (COUNTERSIGN_SEAL_REVOCATION): "), "{refused}");
        assert!(refused.contains(why), "{refused}");
    }
}
