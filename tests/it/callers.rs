//! Who is believed: by a token of an identity provider, by a certificate, and nobody by what they merely say.

mod certificates;
mod issuer;
mod tokens;

use countersign_test_support::Errors as _;
use tonic::{Code, Status};

/// That nobody was recognised.
fn assert_nobody(what: &str, status: &Status) {
    let told = (status.code(), status.reason());
    assert_eq!(told, (Code::Unauthenticated, "AUTHENTICATION_REQUIRED".into()), "{what}: {status:?}");
}

/// That somebody was recognised who may not do this.
fn assert_denied(what: &str, status: &Status) {
    let told = (status.code(), status.reason());
    assert_eq!(told, (Code::PermissionDenied, "PERMISSION_DENIED".into()), "{what}: {status:?}");
}
