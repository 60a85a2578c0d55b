//! The three doors to a refusal: the recipient's own link, the sender on their behalf, a user of the account as themselves.

use countersign::v1::{
    ActorType, CreateEnvelopeRequest, CreateUserTokenRequest, DeclineByUserRequest, DeclineByUserResponse,
    DeclineChannel, DeclineRecipientRequest, DeclineRecipientResponse, DelegateSigningRequest, Envelope,
    EnvelopeStatus, EventType, Person, RecipientStatus, RevokeUserTokenRequest, Routing,
};
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Errors as _, Service, Story};
use tonic::{Code, Status};

/// The second door.
pub async fn on_behalf(
    story: &Story,
    index: usize,
    reason: &str,
    note: &str,
) -> Result<DeclineRecipientResponse, Status> {
    let request = DeclineRecipientRequest {
        envelope_id: story.envelope.id.clone(),
        recipient_id: story.envelope.recipients[index].id.clone(),
        reason: reason.into(),
        evidence_note: note.into(),
        if_revision: 0,
        ..Default::default()
    };
    Ok(story.sender.envelopes().decline_recipient(request).await?.into_inner())
}

/// A user of the account: id and token.
pub async fn user(sender: &Caller, email: &str) -> (String, String) {
    let request = CreateUserTokenRequest { email: email.into(), ..Default::default() };
    let made = sender.accounts().create_user_token(request).await.unwrap().into_inner();
    assert!(made.user_id.starts_with("usr_") && made.user_token.starts_with("csu_"));
    (made.user_id, made.user_token)
}

pub async fn by_user(
    sender: &Caller,
    user: &str,
    signing: &str,
    reason: &str,
) -> Result<DeclineByUserResponse, Status> {
    let (user_token, signing_token) = (user.to_owned(), signing.to_owned());
    let request = DeclineByUserRequest { user_token, signing_token, reason: reason.into(), ..Default::default() };
    Ok(sender.signer().decline_by_user(request).await?.into_inner())
}

/// Through which door somebody refused, and why.
pub fn decline_of(envelope: &Envelope, index: usize) -> (DeclineChannel, String) {
    let decline = envelope.recipients[index].decline.as_ref().expect("declined");
    (decline.channel(), decline.reason.clone())
}

/// S4.1 to S4.8, S4.23, S4.25, T-23: a user refuses as themselves if the address is theirs, however it is spelt.
#[tokio::test(flavor = "multi_thread")]
async fn s4_1_a_user_refuses_as_themselves() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    for (recipient, own) in [
        ("signer@example.com", "signer@example.com"),
        ("Signer.One@Example.COM", " signer.ONE@example.com  "),
        ("vera@b\u{fc}cher.example", "Vera@xn--bcher-kva.example"),
        ("vera@xn--bcher-kva.example", "vera@B\u{dc}CHER.example"),
    ] {
        let mut new = request(2, Routing::Parallel, true);
        new.recipients[1].email = recipient.into();
        let story = sender.story_of(new).await;
        let (user_id, token) = user(&sender, own).await;
        let answer = by_user(&sender, &token, &story.signer(1).token, "No, thank you").await;
        let answer = answer.unwrap_or_else(|status| panic!("{recipient} is {own}: {status:?}"));
        assert!(!answer.already_declined);
        let now = answer.envelope.unwrap();
        assert_eq!(now, story.now().await, "the answer is the envelope as it is");
        assert_eq!(now.status(), EnvelopeStatus::Declined);
        assert_eq!(decline_of(&now, 1), (DeclineChannel::User, "No, thank you".into()));
        let history = sender.history(&now.id).await.unwrap();
        let entry = &history[4];
        let event = entry.event.as_ref().unwrap();
        assert_eq!(event.r#type(), EventType::RecipientDeclined);
        let actor = event.actor.as_ref().unwrap();
        assert_eq!((actor.r#type(), &actor.id), (ActorType::User, &user_id), "who did it");
        assert_eq!(event.recipient_id, now.recipients[1].id, "for whom");
        assert_eq!((entry.channel(), entry.reason.as_str()), (DeclineChannel::User, "No, thank you"));
    }
    // S4.7: the empty reason is one.
    let story = sender.story(1, Routing::Parallel).await;
    let (_, token) = user(&sender, "signer0@example.com").await;
    let now = by_user(&sender, &token, &story.signer(0).token, "").await.unwrap().envelope.unwrap();
    assert_eq!(decline_of(&now, 0), (DeclineChannel::User, String::new()));
}

/// S4.22, S4.23, T-23: somebody else's address is refused, and neither address is told.
#[tokio::test(flavor = "multi_thread")]
async fn t23_another_users_address_is_refused_without_a_word_about_it() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(1, Routing::Parallel).await;
    for own in ["mallory@example.com", "signer0+x@example.com", "signer0@example.org", "signer.0@example.com"] {
        let (_, token) = user(&sender, own).await;
        let status = by_user(&sender, &token, &story.signer(0).token, "no").await.unwrap_err();
        assert_eq!((status.code(), status.reason().as_str()), (Code::InvalidArgument, "ACTOR_SUBJECT_MISMATCH"));
        assert_eq!(status.message(), "The signer's email and the user's email are different.");
        assert_eq!(status.fact("http_status"), "400");
        let details = String::from_utf8_lossy(status.details()).to_lowercase();
        for secret in [own, "signer0@", "@example", "mallory"] {
            assert!(!status.message().contains(secret) && !details.contains(secret), "{secret} in {details}");
        }
    }
    assert_eq!(story.now().await, story.envelope, "nothing happened");
}

/// S4.3 to S4.5, S4.8: each token has to be good, and of this account.
#[tokio::test(flavor = "multi_thread")]
async fn s4_8_a_user_refuses_with_good_tokens_only() {
    let service = Service::start().await;
    let (sender, other) = (service.account(false).await, service.account(false).await);
    let new = CreateEnvelopeRequest { delegations_max: 1, ..request(1, Routing::Parallel, true) };
    let story = sender.story_of(new).await;
    let signing = story.signer(0).token.clone();
    let (user_id, good) = user(&sender, "signer0@example.com").await;
    let (revoked_id, revoked) = user(&sender, "signer0@example.com").await;
    let revoke = RevokeUserTokenRequest { user_id: revoked_id, ..Default::default() };
    sender.accounts().revoke_user_token(revoke.clone()).await.unwrap();
    sender.accounts().revoke_user_token(revoke).await.expect("ending it twice is a success");
    let foreign_revoke = RevokeUserTokenRequest { user_id, ..Default::default() };
    assert_eq!(other.accounts().revoke_user_token(foreign_revoke).await.unwrap_err().reason(), "NOT_FOUND");
    let (_, of_other) = user(&other, "signer0@example.com").await;
    let foreign = other.story(1, Routing::Parallel).await.signer(0).token.clone();
    let mut spoilt = good.clone();
    spoilt.replace_range(30..31, if &spoilt[30..31] == "x" { "y" } else { "x" });
    let cases = [
        ("a revoked user token", &sender, revoked.as_str(), signing.as_str()),
        ("another account's user token", &sender, &of_other, &signing),
        ("a spoilt user token", &sender, &spoilt, &signing),
        ("no user token", &sender, "", &signing),
        ("a signing token for a user token", &sender, &signing, &signing),
        ("no signing token", &sender, &good, ""),
        ("another account's signing token", &sender, &good, &foreign),
        ("a user token for a signing token", &sender, &good, &good),
        ("all of another account", &other, &good, &signing),
    ];
    for (name, caller, user_token, signing_token) in cases {
        let status = by_user(caller, user_token, signing_token, "no").await.unwrap_err();
        assert_eq!((status.code(), status.reason().as_str()), (Code::NotFound, "NOT_FOUND"), "{name}");
    }
    // A link that was passed on is dead at this door too.
    let person = Person { name: "Dora".into(), email: "dora@example.com".into(), ..Default::default() };
    let delegate = DelegateSigningRequest { person: Some(person), reason: String::new(), ..Default::default() };
    story.signer(0).signer().delegate_signing(delegate).await.unwrap();
    assert_eq!(by_user(&sender, &good, &signing, "no").await.unwrap_err().reason(), "NOT_FOUND");
    let signer = story.signer(0).clone();
    let by_recipient = by_user(&signer, &good, &signing, "no").await.unwrap_err();
    assert_eq!(by_recipient.code(), Code::PermissionDenied, "an API key is needed");
    assert_eq!(story.now().await.status(), EnvelopeStatus::Sent);
}

/// C-3, T-9: on behalf, with a note; who had signed has signed, to no effect.
#[tokio::test(flavor = "multi_thread")]
async fn c3_a_refusal_on_behalf_is_recorded_with_its_proof() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let story = sender.story(3, Routing::Parallel).await;
    story.signer(0).sign(&story.envelope).await.unwrap();
    let signed_at = story.now().await.recipients[0].signed_at;
    let answer = on_behalf(&story, 1, "Too dear", "Letter of 3 May").await.unwrap();
    let now = answer.envelope.unwrap();
    assert!(!answer.already_declined);
    assert_eq!(now.status(), EnvelopeStatus::Declined);
    let decline = now.recipients[1].decline.clone().unwrap();
    assert_eq!(decline.channel(), DeclineChannel::OnBehalf);
    assert_eq!((decline.reason.as_str(), decline.evidence_note.as_str()), ("Too dear", "Letter of 3 May"));
    assert_eq!((now.recipients[0].status(), now.recipients[0].signed_at), (RecipientStatus::Signed, signed_at));
    assert!(now.recipients[0].not_effective, "T-9: kept as evidence, binds nobody");
    let own = now.fields.iter().find(|field| field.recipient_id == now.recipients[0].id).unwrap();
    assert!(own.value.is_some(), "what was signed stays");
    let history = sender.history(&now.id).await.unwrap();
    let entry = history.iter().find(|it| it.channel() != DeclineChannel::Unspecified).unwrap();
    let event = entry.event.as_ref().unwrap();
    assert_eq!(event.actor.as_ref().unwrap().r#type(), ActorType::Sender);
    assert!(event.actor.as_ref().unwrap().id.starts_with("key_"));
    assert_eq!(event.recipient_id, now.recipients[1].id);
    assert_eq!((entry.reason.as_str(), entry.evidence_note.as_str()), ("Too dear", "Letter of 3 May"));
    // The note is the sender's: the recipient who asks again does not see it.
    let again = story.signer(1).signer().decline(countersign::v1::DeclineRequest::default()).await;
    let again = again.unwrap().into_inner();
    assert!(again.already_declined);
    let seen = again.session.unwrap().recipient.unwrap().decline.unwrap();
    assert_eq!((seen.reason.as_str(), seen.evidence_note.as_str()), ("Too dear", ""));
}

/// T-6, C-23, T-5: the same recipient again, through any door; then another one.
#[tokio::test(flavor = "multi_thread")]
async fn t6_a_repeat_through_another_door_changes_nothing() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let (_, token) = user(&sender, "signer0@example.com").await;
    let (_, second) = user(&sender, "signer1@example.com").await;
    for first in 0..3 {
        let story = sender.story(2, Routing::Parallel).await;
        let signing = story.signer(0).token.clone();
        let channel = match first {
            0 => story.signer(0).decline("first").await.map(|_| DeclineChannel::SigningToken).unwrap(),
            1 => on_behalf(&story, 0, "first", "").await.map(|_| DeclineChannel::OnBehalf).unwrap(),
            _ => by_user(&sender, &token, &signing, "first").await.map(|_| DeclineChannel::User).unwrap(),
        };
        let ended = story.until_artifact().await;
        let events = sender.history(&ended.id).await.unwrap().len();
        assert!(story.signer(0).decline("second").await.unwrap());
        assert!(on_behalf(&story, 0, "third", "note").await.unwrap().already_declined);
        let third = by_user(&sender, &token, &signing, "fourth").await.unwrap();
        assert!(third.already_declined);
        assert_eq!(third.envelope.unwrap(), ended, "as it was");
        assert_eq!(story.now().await, ended);
        assert_eq!(decline_of(&ended, 0), (channel, "first".into()), "the first reason stands");
        assert_eq!(sender.history(&ended.id).await.unwrap().len(), events, "no event");
        // T-5: the other is told what came first.
        for status in [
            story.signer(1).decline("me too").await.unwrap_err(),
            on_behalf(&story, 1, "me too", "").await.unwrap_err(),
            by_user(&sender, &second, &story.signer(1).token, "me too").await.unwrap_err(),
        ] {
            assert_eq!(status.reason(), "INVALID_STATE_TRANSITION");
            assert_eq!(
                (status.fact("current_state"), status.fact("allowed_transitions")),
                ("DECLINED".into(), "".into())
            );
            assert_eq!(status.fact("cause"), "SIGNATURE_REFUSED");
        }
    }
}
