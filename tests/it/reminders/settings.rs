//! Languages, time zones, brands and addresses: taken, kept, shown to those who need them.

use countersign::v1::{
    Account, AccountSettings, Brand, CreateEnvelopeRequest, EnvelopeChanges, GetAccountRequest, Person,
    ReassignRecipientRequest, ReminderPolicy, ReplaceEnvelopeRequest, Routing, UpdateAccountSettingsRequest,
    UpdateEnvelopeRequest,
};
use countersign_test_support::client::request;
use countersign_test_support::{Caller, Errors as _, Service};
use prost_types::FieldMask;
use tonic::{Code, Status};

use crate::steps::{send, until};

/// Sets as the operator does, for whom there is no test mode.
async fn set(service: &Service, account: &str, settings: AccountSettings, paths: &[&str]) -> Result<Account, Status> {
    let update_mask = Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    let request = UpdateAccountSettingsRequest { settings: Some(settings), update_mask, ..Default::default() };
    let mut operator = service.operator(account).accounts();
    Ok(operator.update_account_settings(request).await?.into_inner().account.unwrap())
}

fn all() -> AccountSettings {
    AccountSettings {
        reminder_policy: Some(ReminderPolicy { at_most: 2, ..ReminderPolicy::default() }),
        brand: Some(Brand {
            name: "Hidden Holdings".into(),
            color: "#1A2b3c".into(),
            logo_url: "https://cdn.example.com/logo.png?v=2".into(),
        }),
        locale: "pt-BR".into(),
        time_zone: "America/Sao_Paulo".into(),
        contact_email: "ops@example.com".into(),
        ..AccountSettings::default()
    }
}

const ALL: [&str; 5] = ["reminder_policy", "brand", "locale", "time_zone", "contact_email"];

/// The account with its new settings, as far as this process believes old ones.
async fn settled(service: &Service, sender: &Caller) -> Account {
    set(service, &sender.account, all(), &ALL).await.unwrap()
}

/// S3.57, S2.44: settings for notices are taken, checked, and shown to the notifier, which acts on them.
#[tokio::test(flavor = "multi_thread")]
async fn s3_57_the_notifier_reads_what_mails_need() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let before = set(&service, &sender.account, AccountSettings::default(), &["locale"]).await.unwrap();
    let usual = before.settings.unwrap();
    assert_eq!((usual.locale.as_str(), usual.time_zone.as_str(), usual.contact_email.as_str()), ("", "", ""));
    assert_eq!((usual.brand.unwrap(), usual.reminder_policy.unwrap().at_most), (Brand::default(), 5));
    let account = settled(&service, &sender).await;
    let read = service.notifier(&sender.account).accounts().get_account(GetAccountRequest {}).await;
    assert_eq!(read.unwrap().into_inner().account, Some(account.clone()));
    let settings = account.settings.unwrap();
    assert_eq!(settings.brand.clone().unwrap().color, "#1a2b3c");
    let given = AccountSettings { brand: settings.brand.clone(), ..all() };
    assert_eq!(settings.reminder_policy.unwrap().at_most, 2);
    assert_eq!(
        (&settings.brand, &settings.locale, &settings.time_zone),
        (&given.brand, &given.locale, &given.time_zone)
    );
    assert_eq!(settings.contact_email, "ops@example.com");
    let nobody = service.notifier("").accounts().get_account(GetAccountRequest {}).await.unwrap_err();
    assert_eq!(nobody.code(), Code::PermissionDenied);
    let brand = |brand: Brand| AccountSettings { brand: Some(brand), ..all() };
    let logo = |logo_url: &str| brand(Brand { logo_url: logo_url.into(), ..Brand::default() });
    let color = |color: &str| brand(Brand { color: color.into(), ..Brand::default() });
    for (wrong, field) in [
        (color("#12345"), "brand.color"),
        (color("#12345g"), "brand.color"),
        (color("123456"), "brand.color"),
        (logo("http://cdn.example.com/logo.png"), "brand.logo_url"),
        (logo("https://user@cdn.example.com/logo.png"), "brand.logo_url"),
        (logo("https:/logo.png"), "brand.logo_url"),
        (logo(&format!("https://cdn.example.com/{}", "x".repeat(2_048))), "brand.logo_url"),
        (brand(Brand { name: "x".repeat(101), ..Brand::default() }), "brand.name"),
        (AccountSettings { locale: "p".into(), ..all() }, "locale"),
        (AccountSettings { locale: "pt_BR".into(), ..all() }, "locale"),
        (AccountSettings { locale: "pt-".into(), ..all() }, "locale"),
        (AccountSettings { locale: "de-CH-1996-x-private-more-than-35-characters".into(), ..all() }, "locale"),
        (AccountSettings { time_zone: "Europe/Atlantis".into(), ..all() }, "time_zone"),
        (AccountSettings { time_zone: "+01:00".into(), ..all() }, "time_zone"),
        (AccountSettings { contact_email: "nobody".into(), ..all() }, "contact_email"),
    ] {
        let refused = set(&service, &sender.account, wrong, &ALL).await.unwrap_err();
        assert_eq!(refused.fields(), [format!("settings.{field}")]);
    }
    for kept in ["zh-Hant-TW", "sl-rozaj-biske", "tlh", "en-GB-u-ca-gregory"] {
        set(&service, &sender.account, AccountSettings { locale: kept.into(), ..all() }, &["locale"]).await.unwrap();
    }
}

/// A recipient's own language and zone, else the account's as they were when the envelope was made; they go with the person.
#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_reads_and_lives_by_their_own() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    settled(&service, &sender).await;
    let mut new = request(2, Routing::Parallel, true);
    new.recipients[0].locale = "fr".into();
    new.recipients[0].time_zone = "Europe/Paris".into();
    new.reminder_policy = None;
    let sent = sender.create(new.clone()).await.unwrap();
    let own = |index: usize, envelope: &countersign::v1::Envelope| {
        let recipient = &envelope.recipients[index];
        (recipient.locale.clone(), recipient.time_zone.clone())
    };
    let (french, brazilian) = (("fr".into(), "Europe/Paris".into()), ("pt-BR".into(), "America/Sao_Paulo".into()));
    assert_eq!((own(0, &sent), own(1, &sent)), (french, brazilian));
    assert_eq!(sent.reminder_policy.unwrap().at_most, 2, "the account's");
    let other = AccountSettings { locale: "de".into(), time_zone: "Europe/Berlin".into(), ..all() };
    set(&service, &sender.account, other, &["locale", "time_zone"]).await.unwrap();
    assert_eq!(sender.get(&sent.id).await.unwrap(), sent, "what is on its way stays as it was");
    let person = Person {
        name: "Heir".into(),
        email: "heir@example.com".into(),
        locale: "es-419".into(),
        time_zone: "America/Bogota".into(),
    };
    let (envelope_id, recipient_id) = (sent.id.clone(), sent.recipients[0].id.clone());
    let person = Some(person);
    let reassign = ReassignRecipientRequest { envelope_id, recipient_id, person: person.clone(), ..Default::default() };
    let now = sender.envelopes().reassign_recipient(reassign).await.unwrap().into_inner().envelope.unwrap();
    assert_eq!(own(0, &now), ("es-419".into(), "America/Bogota".into()));
    let entry = sender.history(&sent.id).await.unwrap().pop().unwrap();
    assert_eq!((entry.after, entry.before.unwrap().locale.as_str()), (person, "fr"));
    sender.void(&sent.id, "").await.unwrap();
    let replace = ReplaceEnvelopeRequest { envelope_id: sent.id.clone(), ..Default::default() };
    let draft = sender.envelopes().replace_envelope(replace).await.unwrap().into_inner().envelope.unwrap();
    assert_eq!((own(0, &draft), own(1, &draft)), (own(0, &now), own(1, &now)));
    new.recipients[0].locale = "french!".into();
    new.recipients[1].time_zone = "Mars/Olympus".into();
    let refused = sender.create(new).await.unwrap_err();
    assert_eq!(refused.fields(), ["recipients[0].locale", "recipients[1].time_zone"]);
}

/// S1.31: where an envelope's events are posted besides; the sender and the notifier see it, events say that there is one.
#[tokio::test(flavor = "multi_thread")]
async fn s1_31_an_envelope_has_an_address_of_its_own() {
    let service = Service::start().await;
    let sender = service.account(false).await;
    let with =
        |url: &str, send| CreateEnvelopeRequest { webhook_url: url.into(), ..request(1, Routing::Parallel, send) };
    let url = "https://hooks.example.com:8443/countersign?tenant=7";
    let draft = sender.create(with(url, false)).await.unwrap();
    assert_eq!(draft.webhook_url, url);
    let seen = service.notifier(&sender.account).get(&draft.id).await.unwrap();
    assert_eq!(seen.webhook_url, url);
    let changed = async |url: &str, policy: Option<ReminderPolicy>| {
        let changes =
            EnvelopeChanges { webhook_url: url.into(), reminder_policy: policy, ..EnvelopeChanges::default() };
        let paths = vec!["webhook_url".to_owned(), "reminder_policy".to_owned()];
        let (envelope_id, update_mask) = (draft.id.clone(), Some(FieldMask { paths }));
        let request = UpdateEnvelopeRequest { envelope_id, changes: Some(changes), update_mask, ..Default::default() };
        sender.envelopes().update_envelope(request).await.map(|it| it.into_inner().envelope.unwrap())
    };
    let has = async |id: &str| {
        let last = sender.history(id).await.unwrap().pop().unwrap();
        (last.event.unwrap().state.unwrap().has_webhook, last.changed)
    };
    let names = vec!["reminder_policy".to_owned(), "webhook_url".to_owned()];
    let own = ReminderPolicy { at_most: 7, ..ReminderPolicy::default() };
    let now = changed("", Some(own)).await.unwrap();
    assert_eq!((now.webhook_url.as_str(), now.reminder_policy.unwrap().at_most), ("", 7));
    assert_eq!(has(&draft.id).await, (false, names.clone()));
    let now = changed("http://127.0.0.1:9/hook", None).await.unwrap();
    assert_eq!((now.webhook_url.as_str(), now.reminder_policy.unwrap().at_most), ("http://127.0.0.1:9/hook", 5));
    assert_eq!(has(&draft.id).await, (true, names));
    send(&sender, &draft.id).await.unwrap();
    assert_eq!(changed("", None).await.unwrap_err().reason(), "INVALID_STATE_TRANSITION", "T-42: frozen");
    sender.void(&draft.id, "").await.unwrap();
    until(&sender, &draft.id, "its end", |it| it.terminal).await;
    let replace = ReplaceEnvelopeRequest { envelope_id: draft.id.clone(), ..Default::default() };
    let copy = sender.envelopes().replace_envelope(replace).await.unwrap().into_inner().envelope.unwrap();
    assert_eq!(copy.webhook_url, "http://127.0.0.1:9/hook");
    for wrong in [
        "hooks.example.com/x",
        "/x",
        "ftp://hooks.example.com/x",
        "https://user@hooks.example.com/",
        "https://user:secret@hooks.example.com/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com/a b",
        "https://hooks.exa\tmple.com/",
        "https:\\\\hooks.example.com/",
        "https:hooks.example.com",
        "https://",
        &format!("https://hooks.example.com/{}", "x".repeat(2_048)),
    ] {
        let refused = sender.create(with(wrong, true)).await.unwrap_err();
        assert_eq!(
            (refused.reason(), refused.fields()),
            ("INVALID_FIELD".into(), vec!["webhook_url".to_owned()]),
            "{wrong}"
        );
    }
}
