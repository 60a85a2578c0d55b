//! Signatures and timestamps of others that are nearly right.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod odd;

use countersign_paper::{
    Fault, Limits, Roots, SealOptions, SignatureFacts, TokenFault, Trust, Unsealed, samples, seal, verify,
};
use lopdf::{Document, IncrementalDocument};
use odd::judges;
use odd::pki::Pki;

fn roots() -> Roots {
    Roots::new(&[Pki::get().der("root")])
}

fn sealed() -> Vec<u8> {
    let (sealer, base) = (Pki::get().sealer("p256"), samples::nda().unwrap().bytes);
    // What others put into its place is longer.
    let options = SealOptions { timestamped: true, ..SealOptions::default() };
    sealer.finish(seal(&base, &sealer.identity, &options).unwrap()).whole(&base)
}

fn only(file: &[u8]) -> SignatureFacts {
    let mut found = verify(file, &Limits::default(), &roots(), Pki::clock_unix_s()).unwrap().signatures;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// A signature has to say by which certificate it is where its kind demands that, and the certificate what it is for.
#[test]
fn signers_are_who_they_say() {
    if !judges::can_make_keys() {
        return;
    }
    let file = sealed();
    let signed = |file: &[u8], key: &str, options: &[&str]| only(&judges::signed_by_openssl(file, key, options));
    assert_eq!(signed(&file, "p256", &[]).fault, Some(Fault::NotBound));
    let named = signed(&file, "p256", &["-cades"]);
    assert_eq!((named.fault, named.trust), (None, Trust::Trusted));
    let mut older = file.clone();
    let name = older.windows(20).rposition(|window| window == b"/ETSI.CAdES.detached").unwrap() + 1;
    older[name..name + 19].copy_from_slice(b"adbe.pkcs7.detached");
    assert_eq!(signed(&older, "p256", &[]).fault, None);
    let server = signed(&file, "server", &["-cades"]);
    assert_eq!((server.fault, server.trust), (None, Trust::NotForThis));
}

/// The digits in the gap are those of another word than the one that counts.
#[test]
fn the_gap_is_where_the_signature_is() {
    if !judges::can_make_keys() {
        return;
    }
    let mut file = sealed();
    let [opens, _, _] = judges::byte_range(&file);
    let word = file[..opens].windows(9).rposition(|window| window == b"/Contents").unwrap();
    file[word + 8] = b'x';
    let signed = judges::signed_by_openssl(&file, "p256", &["-cades"]);
    let mut document = IncrementalDocument::create_from(signed.clone(), Document::load_mem(&signed).unwrap());
    let objects = &document.get_prev_documents().objects;
    let mut found = objects.iter().filter(|(_, object)| object.as_dict().is_ok_and(|it| it.has(b"ByteRange")));
    let (id, mut value) = found.next().map(|(id, object)| (*id, object.as_dict().unwrap().clone())).unwrap();
    let digits = value.remove(b"Contentx").unwrap();
    value.set("Contents", digits);
    document.new_document.set_object(id, value);
    let mut renamed = Vec::new();
    document.save_to(&mut renamed).unwrap();
    assert_eq!(only(&renamed).fault, Some(Fault::Range));
}

/// A token for which a seal has no room is no answer: another authority may give a shorter one.
#[test]
fn timestamps_of_any_length_are_not_taken() {
    let request = Unsealed::timestamp_request(b"a signature", 7).unwrap();
    // Granted, and a sequence of zeros.
    let taken = |bytes: u16| {
        let token = [&[0x30, 0x82][..], &(bytes - 4).to_be_bytes(), &vec![0; usize::from(bytes - 4)]].concat();
        let response = [&[0x30, 0x82][..], &(bytes + 5).to_be_bytes(), &[0x30, 3, 2, 1, 0], &token].concat();
        request.token(&response, Pki::clock_unix_s(), None).map(drop)
    };
    assert_eq!(taken(16_384), Err(TokenFault::Unreadable));
    assert_eq!(taken(16_385), Err(TokenFault::TooLarge(16_385)));
}

/// A token is taken only of about our own time, and of an authority that leads where we trust.
#[test]
fn timestamps_of_anybody_are_not_taken() {
    if !judges::can_make_keys() {
        return;
    }
    let request = Unsealed::timestamp_request(b"a signature", 7).unwrap();
    let (response, now) = (Pki::get().timestamp(&request.der), Pki::clock_unix_s());
    let taken = |now, roots: Option<&Roots>| request.token(&response, now, roots).map(drop);
    assert_eq!((taken(now, None), taken(now, Some(&roots()))), (Ok(()), Ok(())));
    let strangers = Roots::new(&[Pki::get().der("stranger")]);
    assert_eq!(taken(now, Some(&strangers)), Err(TokenFault::Untrusted));
    for other in [now - 600, now + 600] {
        assert_eq!(taken(other, Some(&roots())), Err(TokenFault::Time));
    }
}
