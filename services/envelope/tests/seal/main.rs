//! Keys of every make and in every place, what is wrong with one, and authorities that answer rightly, wrongly, late or not
//! at all. Keys, certificates and timestamps are those of `openssl`.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod authority;
#[path = "../../../paper/tests/odd/judges.rs"]
mod judges;
mod long_term;
mod outside;
#[path = "../../../paper/tests/odd/pki.rs"]
mod pki;
mod responder;
#[path = "../../../paper/tests/odd/revocable.rs"]
mod revocable;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use countersign_chassis::clock::Clock;
use countersign_envelope::domain::envelope::SealLevel;
use countersign_envelope::seal::{self, Recognised, SealConfig, Sealer, TsaPolicy};
use countersign_paper::{Completion, Limits, SignatureFacts, Trust, samples, verify};
use sha2::{Digest as _, Sha256};

use crate::authority::{Answer, Authority};
use crate::pki::{Pki, openssl};

const PASSPHRASE: &str = "Fähre-7531 passphrase";

/// The time of the machine that made the certificates, and a little.
fn now() -> DateTime<Utc> {
    let since = Pki::get().sealer("rsa").identity.validity_unix_s().0;
    DateTime::from_timestamp(i64::try_from(since).unwrap(), 0).unwrap() + TimeDelta::minutes(1)
}

fn pkcs12(name: &str, more: &[&str]) -> PathBuf {
    let pki = Pki::get().path();
    let file = format!("{name}{}.p12", more.join(""));
    let (key, cert, pass) = (format!("{name}.key"), format!("{name}.pem"), format!("pass:{PASSPHRASE}"));
    let base = ["pkcs12", "-export", "-inkey", &key, "-in", &cert, "-certfile", "issuer.pem", "-passout", &pass];
    openssl(pki, &[&base[..], &["-out", &file], more].concat());
    pki.join(file)
}

/// A PEM file of these parts; a key is turned into PKCS#8.
fn pem(parts: &[&str]) -> PathBuf {
    let pki = Pki::get().path();
    let file = format!("{}.all.pem", parts.join("-"));
    let read = |part: &&str| match part.strip_suffix(".key") {
        Some(_) => openssl(pki, &["pkcs8", "-topk8", "-nocrypt", "-in", part]),
        None => std::fs::read(pki.join(part)).unwrap(),
    };
    std::fs::write(pki.join(&file), parts.iter().map(read).collect::<Vec<_>>().concat()).unwrap();
    pki.join(file)
}

fn config(path: &Path) -> SealConfig {
    SealConfig { seal_pkcs12: Some(path.to_owned()), seal_passphrase: Some(PASSPHRASE.into()), ..SealConfig::default() }
}

async fn opened(config: &SealConfig, at: DateTime<Utc>) -> Result<(Option<Sealer>, Recognised), String> {
    config.open(&Clock::manual(at)).await.map_err(|error| error.to_string())
}

async fn sealer(config: &SealConfig) -> Sealer {
    opened(config, now()).await.unwrap().0.unwrap()
}

async fn sealed(sealer: &Sealer) -> anyhow::Result<(Bytes, SealLevel)> {
    let base = samples::nda().unwrap().bytes.into();
    let sealed = sealer.complete(&base, Completion::default()).await?;
    assert_eq!(sealed.sha256, <[u8; 32]>::from(Sha256::digest(sealed.whole(&base))));
    Ok((sealed.whole(&base).into(), seal::level(sealed.level)))
}

fn only(file: &[u8], recognised: &Recognised) -> SignatureFacts {
    let at = u64::try_from(now().timestamp()).unwrap();
    let mut found = verify(file, &Limits::default(), recognised.roots(), at).unwrap().signatures;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

#[tokio::test]
async fn keys_are_read_from_pkcs12_old_and_new_and_from_pem() {
    for name in ["rsa", "p256"] {
        let parts = [format!("{name}.key"), format!("{name}.pem"), "issuer.pem".to_owned()];
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        for path in [pkcs12(name, &[]), pkcs12(name, &["-legacy"]), pem(&parts)] {
            let (sealer, recognised) = opened(&config(&path), now()).await.unwrap();
            let (file, level) = sealed(&sealer.unwrap()).await.unwrap();
            assert_eq!(level, SealLevel::Basic);
            let facts = only(&file, &recognised);
            assert!(facts.is_intact() && facts.covers_whole_file);
            // By the last certificate of the chain, without any other setting.
            assert_eq!(facts.trust, Trust::Trusted, "{}", path.display());
            assert!(recognised.is_ours(&facts.signer.unwrap().sha256));
        }
    }
}

#[tokio::test]
async fn a_passphrase_can_stand_in_a_file() {
    let passphrase = Pki::get().path().join("passphrase");
    std::fs::write(&passphrase, format!("{PASSPHRASE}\n")).unwrap();
    let path = pkcs12("p256", &[]);
    let config = SealConfig { seal_passphrase: None, seal_passphrase_file: Some(passphrase), ..config(&path) };
    assert!(opened(&config, now()).await.is_ok());
    let none = SealConfig { seal_passphrase_file: None, ..config };
    let refused = opened(&none, now()).await.err().unwrap();
    assert!(refused.starts_with("--seal-passphrase (COUNTERSIGN_SEAL_PASSPHRASE): is needed"), "{refused}");
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_told_by_its_setting_and_never_quoted() {
    let (good, folder) = (pkcs12("p256", &[]), Pki::get().path());
    std::fs::write(folder.join("garbage"), "not a key").unwrap();
    let wrong = SealConfig { seal_passphrase: Some("something else".into()), ..config(&good) };
    let cases = [
        (wrong, "is no PKCS#12 file that opens with that passphrase"),
        (config(&folder.join("missing")), "cannot be read"),
        (config(&folder.join("garbage")), "is no PKCS#12 file"),
        (config(&pem(&["p256.key"])), "a chain of 1 to 8 certificates is needed"),
        (config(&pem(&["p256.pem"])), "must hold one key"),
        (config(&pem(&["p256.key", "rsa.key", "p256.pem"])), "must hold one key"),
        (config(&pem(&["stranger.key", "p256.pem", "issuer.pem"])), "the key is not the one of the first certificate"),
        (config(&pem(&["rsa.key", "p256.pem", "issuer.pem"])), "the key is not one of the kind"),
        (config(&pem(&["p256.key", "issuer.pem", "p256.pem"])), "did not issue the one before it"),
        (config(&pem(&["p256.key", "p256.pem", "root.pem"])), "certificate 2 of the chain did not issue"),
        (
            config(&pem(&["p256.key", "p256.pem", "issuer.pem", "root.pem", "root.pem"])),
            "certificate 4 of the chain stands",
        ),
        (config(&pem(&["issuer.key", "issuer.pem"])), "not one for signatures"),
    ];
    for (config, why) in cases {
        let refused = opened(&config, now()).await.err().unwrap();
        assert!(refused.starts_with("--seal-pkcs12 (COUNTERSIGN_SEAL_PKCS12): "), "{refused}");
        assert!(refused.contains(why), "{refused}");
        assert!(!refused.contains(PASSPHRASE) && !refused.contains("something else"), "{refused}");
    }
    let told = format!("{:?}", config(&good));
    assert!(!told.contains(PASSPHRASE), "{told}");
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused_at_the_start_and_at_each_seal() {
    let config = config(&pkcs12("p256", &[]));
    for (at, why) in [(now() - TimeDelta::days(2), "is not valid yet"), (now() + TimeDelta::days(31), "has ended")] {
        let refused = opened(&config, at).await.err().unwrap();
        assert!(refused.contains(why), "{refused}");
    }
    let clock = Clock::manual(now());
    let (sealer, _) = config.open(&clock).await.unwrap();
    let sealer = sealer.unwrap();
    assert!(sealed(&sealer).await.is_ok());
    clock.advance(TimeDelta::days(31));
    assert!(sealed(&sealer).await.unwrap_err().to_string().contains("has ended"));
}

#[tokio::test]
async fn whether_documents_are_sealed_has_to_be_said() {
    let nothing = opened(&SealConfig::default(), now()).await.err().unwrap();
    assert!(nothing.contains("unless --unsealed (COUNTERSIGN_UNSEALED) says so"), "{nothing}");
    let both = SealConfig { unsealed: true, ..config(&pkcs12("p256", &[])) };
    let both = opened(&both, now()).await.err().unwrap();
    assert!(both.starts_with("--unsealed (COUNTERSIGN_UNSEALED): contradicts"), "{both}");
    let unsealed = SealConfig { unsealed: true, ..SealConfig::default() };
    assert!(opened(&unsealed, now()).await.unwrap().0.is_none());
}

#[tokio::test]
async fn seals_of_former_keys_are_known_and_other_cas_can_be_trusted() {
    let stranger = pem(&["stranger.key", "stranger.pem"]);
    let (file, _) = sealed(&sealer(&config(&stranger)).await).await.unwrap();
    let now_config = config(&pkcs12("p256", &[]));
    let (_, recognised) = opened(&now_config, now()).await.unwrap();
    let signer = only(&file, &recognised).signer.unwrap().sha256;
    assert!(!recognised.is_ours(&signer));
    let former = SealConfig { seal_former: Some(Pki::get().path().join("stranger.pem")), ..now_config.clone() };
    let (_, recognised) = opened(&former, now()).await.unwrap();
    assert!(recognised.is_ours(&signer));
    assert_eq!(only(&file, &recognised).trust, Trust::UnknownIssuer);
    let trusting = SealConfig { seal_trust: former.seal_former, ..now_config.clone() };
    let (_, recognised) = opened(&trusting, now()).await.unwrap();
    assert_eq!(only(&file, &recognised).trust, Trust::Trusted);
    let empty = SealConfig { seal_trust: Some(Pki::get().path().join("p256.key")), ..now_config };
    let refused = opened(&empty, now()).await.err().unwrap();
    assert!(refused.starts_with("--seal-trust (COUNTERSIGN_SEAL_TRUST): holds no certificate"), "{refused}");
}

fn stamping(authorities: &[&Authority], policy: TsaPolicy) -> SealConfig {
    SealConfig {
        seal_tsa_urls: authorities.iter().map(|authority| authority.url.parse().unwrap()).collect(),
        seal_tsa_policy: policy,
        ..config(&pkcs12("p256", &[]))
    }
}

#[tokio::test]
async fn a_seal_bears_the_time_of_an_authority() {
    let authority = Authority::start(Answer::Right).await;
    let config = stamping(&[&authority], TsaPolicy::Fail);
    let (sealer, recognised) = opened(&config, now()).await.unwrap();
    let (file, level) = sealed(&sealer.unwrap()).await.unwrap();
    assert_eq!((level, authority.asked()), (SealLevel::Timestamped, 1));
    let stamp = only(&file, &recognised).timestamp.unwrap();
    assert_eq!((stamp.fault, stamp.trust), (None, Trust::Trusted));
    assert!(stamp.authority.subject.starts_with("CN=tsa"));
}

/// D10: without an authority nothing is sealed, or without a time, as the operator says.
#[tokio::test]
async fn an_authority_that_answers_wrongly_counts_as_none() {
    let wrong = Authority::start(Answer::Right).await;
    let failing = sealer(&stamping(&[&wrong], TsaPolicy::Fail)).await;
    let degrading = sealer(&stamping(&[&wrong], TsaPolicy::Degrade)).await;
    let answers = [
        (Answer::OtherNonce, "the timestamp answers another request"),
        (Answer::Stale, "the timestamp answers another request"),
        (Answer::OtherImprint, "the timestamp is about something else"),
        (Answer::Broken, "the timestamp's signature does not hold"),
        (Answer::Garbage, "the timestamp is unreadable"),
        (Answer::Rejected, "the authority did not grant a timestamp: status 2"),
        (Answer::LongToken, "the timestamp has 17000 bytes"),
        (Answer::TooLong, "its answer is longer than 65536 bytes"),
        (Answer::Failing, "it answered with HTTP 500"),
        (Answer::Elsewhere, "it answered with HTTP 307"),
    ];
    for (answer, why) in answers {
        wrong.tell(answer);
        let refused = format!("{:#}", sealed(&failing).await.unwrap_err());
        assert!(refused.contains(why) && refused.starts_with("no timestamp"), "{answer:?}: {refused}");
        let (_, level) = sealed(&degrading).await.unwrap();
        assert_eq!(level, SealLevel::Basic, "{answer:?}");
    }
    wrong.tell(Answer::Right);
    assert_eq!(sealed(&failing).await.unwrap().1, SealLevel::Timestamped);
}

/// Anybody can make a certificate for timestamps, and set a clock.
#[tokio::test]
async fn an_authority_of_nobody_and_one_of_another_time_count_as_none() {
    let authority = Authority::start(Answer::Right).await;
    let config = stamping(&[&authority], TsaPolicy::Fail);
    let with = |name: &str| SealConfig { seal_trust: Some(Pki::get().path().join(name)), ..config.clone() };
    assert_eq!(sealed(&sealer(&with("root.pem")).await).await.unwrap().1, SealLevel::Timestamped);
    let stranger = pem(&["stranger.key", "stranger.pem"]);
    let strange = SealConfig { seal_pkcs12: Some(stranger), ..with("rsa.pem") };
    let refused = format!("{:#}", sealed(&sealer(&strange).await).await.unwrap_err());
    assert!(refused.contains("leads to no CA that is trusted"), "{refused}");
    let early = opened(&config, now() + TimeDelta::hours(1)).await.unwrap().0.unwrap();
    let refused = format!("{:#}", sealed(&early).await.unwrap_err());
    assert!(refused.contains("more than five minutes from ours"), "{refused}");
}

#[tokio::test]
async fn authorities_are_asked_in_order_and_none_is_waited_for_long() {
    let (slow, right) = (Authority::start(Answer::Slow).await, Authority::start(Answer::Right).await);
    let mut down = Authority::start(Answer::Right).await;
    down.url = "http://127.0.0.1:9/".to_owned();
    let long = Authority::start(Answer::LongToken).await;
    let sealer = sealer(&stamping(&[&slow, &down, &long, &right], TsaPolicy::Fail)).await;
    let started = Instant::now();
    assert_eq!(sealed(&sealer).await.unwrap().1, SealLevel::Timestamped);
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!((slow.asked(), long.asked(), right.asked()), (1, 1, 1));
    assert_eq!(sealed(&sealer).await.unwrap().1, SealLevel::Timestamped);
    assert_eq!(
        (slow.asked(), long.asked(), right.asked()),
        (1, 1, 2),
        "the next document does not wait for any of them"
    );
}

#[tokio::test]
async fn addresses_of_authorities_are_checked_at_the_start() {
    for url in ["ftp://tsa.example.com/", "file:///etc/passwd"] {
        let config = SealConfig { seal_tsa_urls: vec![url.parse().unwrap()], ..config(&pkcs12("p256", &[])) };
        let refused = opened(&config, now()).await.err().unwrap();
        assert!(refused.starts_with("--seal-tsa-urls (COUNTERSIGN_SEAL_TSA_URLS): must be"), "{refused}");
    }
}
