//! Checks both signatures of a webhook as the documentation tells a receiver to.
//! Must never use anything of the notifier: it stands for somebody else's program.

use anyhow::{Context, Result, ensure};
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// How far the sender's clock may be from the receiver's.
const TOLERANCE_SECONDS: i64 = 5 * 60;

/// A header as text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str> {
    let value = headers.get(name).with_context(|| format!("the webhook has no header {name}"))?;
    value.to_str().with_context(|| format!("the webhook's header {name} is no text"))
}

/// `whsec_` and base64: the key in bytes.
fn key(secret: &str) -> Result<Vec<u8>> {
    let encoded = secret.strip_prefix("whsec_").context("the secret does not begin with whsec_")?;
    STANDARD.decode(encoded).context("the secret is no base64")
}

fn mac(secret: &str, parts: &[&[u8]]) -> Result<Hmac<Sha256>> {
    let mut mac = Hmac::new_from_slice(&key(secret)?).context("HMAC")?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(mac)
}

fn check_age(timestamp: &str, now: i64) -> Result<()> {
    let timestamp: i64 = timestamp.parse().context("the webhook's timestamp is no number")?;
    ensure!((now - timestamp).abs() <= TOLERANCE_SECONDS, "the webhook's timestamp is too far from now");
    Ok(())
}

/// Standard Webhooks: one of the signatures is the HMAC of `id.timestamp.body`, in base64 behind `v1,`.
pub(super) fn check_standard(secret: &str, headers: &HeaderMap, body: &[u8], now: i64) -> Result<()> {
    let (id, timestamp) = (header(headers, "webhook-id")?, header(headers, "webhook-timestamp")?);
    check_age(timestamp, now)?;
    let mac = mac(secret, &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body])?;
    let signatures = header(headers, "webhook-signature")?.split(' ').filter_map(|one| one.strip_prefix("v1,"));
    let good = signatures.filter_map(|one| STANDARD.decode(one).ok()).any(|one| mac.clone().verify_slice(&one).is_ok());
    ensure!(good, "the webhook-signature is wrong");
    Ok(())
}

/// `Countersign-Signature: t=…,v1=…`: one of the `v1` is the HMAC of `t.body`, in hexadecimal.
pub(super) fn check_countersign(secret: &str, headers: &HeaderMap, body: &[u8], now: i64) -> Result<()> {
    let header = header(headers, "countersign-signature")?;
    let parts: Vec<(&str, &str)> = header.split(',').filter_map(|part| part.split_once('=')).collect();
    let timestamp = parts.iter().find(|(name, _)| *name == "t").context("the countersign-signature has no t")?.1;
    check_age(timestamp, now)?;
    let mac = mac(secret, &[timestamp.as_bytes(), b".", body])?;
    let mut signatures = parts.iter().filter(|(name, _)| *name == "v1").filter_map(|(_, one)| hex::decode(one).ok());
    ensure!(signatures.any(|one| mac.clone().verify_slice(&one).is_ok()), "the countersign-signature is wrong");
    Ok(())
}

/// What the reference implementation of Standard Webhooks says.
pub(super) fn check_by_reference(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<()> {
    let verifier = standardwebhooks::Webhook::new(secret).context("the reference verifier refuses the secret")?;
    verifier.verify(body, headers).context("the reference verifier refuses the webhook-signature")
}

/// The answer to a challenge: the HMAC of its text, in hexadecimal.
pub(super) fn response(secret: &str, challenge: &str) -> Result<String> {
    Ok(hex::encode(mac(secret, &[challenge.as_bytes()])?.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const NOW: i64 = 1_614_265_330;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_example_of_standard_webhooks_is_accepted_and_a_changed_one_is_not() {
        let mut headers = headers(&[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,AAAA v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ]);
        check_standard(SECRET, &headers, BODY, NOW + 299).unwrap();
        check_standard(SECRET, &headers, BODY, NOW + 301).unwrap_err();
        check_standard(SECRET, &headers, b"{}", NOW).unwrap_err();
        headers.remove("webhook-id");
        let error = check_standard(SECRET, &headers, BODY, NOW).unwrap_err().to_string();
        assert_eq!(error, "the webhook has no header webhook-id");
    }

    #[test]
    fn the_own_signature_covers_time_and_body() {
        let signed = |at: i64, body: &[u8]| {
            let mac = mac(SECRET, &[at.to_string().as_bytes(), b".", body]).unwrap();
            let signature = hex::encode(mac.finalize().into_bytes());
            headers(&[("countersign-signature", &format!("t={at},v1=00,v1={signature}"))])
        };
        check_countersign(SECRET, &signed(NOW, BODY), BODY, NOW + 299).unwrap();
        check_countersign(SECRET, &signed(NOW, BODY), BODY, NOW + 301).unwrap_err();
        check_countersign(SECRET, &signed(NOW, b"{}"), BODY, NOW).unwrap_err();
    }
}
