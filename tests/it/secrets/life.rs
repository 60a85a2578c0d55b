//! A life in which every kind of secret is issued, and names, addresses and reasons are told wherever the contract takes them.

use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign::v1::{
    CreateAccountRequest, CreateApiKeyRequest, CreateEnvelopeRequest, CreateUserTokenRequest,
    CreateWebhookEndpointRequest, DeclineByUserRequest, DeclineRecipientRequest, DelegateSigningRequest, Envelope,
    Event, GetSigningLinkRequest, GrantCreditsRequest, MuteRemindersRequest, NewRecipient, Person,
    ReassignRecipientRequest, RemindRecipientsRequest, ReportBounceRequest, ResendEnvelopeRequest, RevokeApiKeyRequest,
    RotateApiKeyRequest, Routing, WatchStart, WatchStatusChangesRequest,
};
use countersign_test_support::client::{request, signature};
use countersign_test_support::notifier::authorised;
use countersign_test_support::service::{OPERATOR_KEY, SERVICE_TOKEN};
use countersign_test_support::{Caller, Notifier, Receiver, Service};
use sha2::{Digest as _, Sha256};

/// People of the life: name and address.
const PEOPLE: [(&str, &str); 5] = [
    ("Ottoline Quirk", "ottoline.quirk@hidden.example"),
    ("Barnaby Thistlewood", "b.thistlewood@hidden.example"),
    ("Dorothea Delegate", "dorothea@elsewhere.example"),
    ("Rufus Replacement", "rufus@elsewhere.example"),
    ("Wanda Watcher", "wanda.watcher@hidden.example"),
];
/// What they say.
const REASONS: [&str; 7] = [
    "Dorothea knows the cellar",
    "Barnaby has left for Lisbon",
    "The rent is far too dear",
    "Refused by the user herself",
    "Voided over the teapot",
    "Said so on the telephone",
    "Letter of the third of May",
];

/// What was issued and said in it.
#[derive(Default)]
pub struct Life {
    number: u32,
    account: String,
    live: Option<Caller>,
    test: Option<Caller>,
    /// What each is, and its text.
    pub secrets: Vec<(String, String)>,
    /// Signing tokens by recipient.
    pub links: Vec<(String, String)>,
    /// Names, addresses and reasons.
    pub personal: Vec<String>,
    envelopes: Vec<String>,
    mails: PathBuf,
}

impl Life {
    pub async fn lead(service: &Service, notifier: &Notifier, receiver: &Receiver) -> Self {
        let people = PEOPLE.iter().flat_map(|(name, email)| [*name, *email]);
        let mut life = Self {
            personal: people.chain(REASONS).map(str::to_owned).collect(),
            mails: notifier.mails.path().to_owned(),
            ..Self::default()
        };
        life.keep("the service token", SERVICE_TOKEN);
        life.keep("the operator's key", OPERATOR_KEY);
        life.open(service).await;
        life.keys(service, notifier, receiver).await;
        life.pass_on(service).await;
        life.refuse().await;
        life.complete(service).await;
        life.go_wrong(service).await;
        life
    }

    /// Another idempotency key; a secret as well, as far as the database and the logs go.
    fn once(&mut self) -> String {
        self.number += 1;
        let key = format!("idempotency-key-of-a-life-{:08}-{:016x}", self.number, rand::random::<u64>());
        self.secrets.push((format!("idempotency key {}", self.number), key[27..].to_owned()));
        key
    }

    fn keep(&mut self, name: &str, secret: &str) {
        self.secrets.push((name.to_owned(), secret.to_owned()));
    }

    fn live(&self) -> Caller {
        self.live.clone().unwrap()
    }

    fn test(&self) -> Caller {
        self.test.clone().unwrap()
    }

    /// An account, by the operator.
    async fn open(&mut self, service: &Service) {
        let name = "Hidden Holdings of Lisbon".to_owned();
        self.personal.push(name.clone());
        let nobody = service.operator("");
        let new = CreateAccountRequest { name, ..Default::default() };
        let account = nobody.accounts().create_account(new).await.unwrap().into_inner().account.unwrap();
        let operator = service.operator(&account.id);
        let amount = Some(countersign::v1::Amount { unit: "CREDIT".into(), value: 50 });
        let grant = GrantCreditsRequest { amount, reference: "Invoice 7".into(), idempotency_key: self.once() };
        operator.accounts().grant_credits(grant).await.unwrap();
        self.account = account.id;
        for livemode in [false, true] {
            let caller = self.new_key(&operator, livemode).await;
            if livemode {
                self.live = Some(caller);
            } else {
                self.test = Some(caller);
            }
        }
    }

    async fn new_key(&mut self, by: &Caller, livemode: bool) -> Caller {
        let new = CreateApiKeyRequest { livemode, idempotency_key: self.once(), ..Default::default() };
        let made = by.accounts().create_api_key(new.clone()).await.unwrap().into_inner();
        by.accounts().create_api_key(new).await.expect_err("shown once");
        self.keep(&format!("an API key {}", made.key.unwrap().id), &made.secret);
        by.with_token(&made.secret)
    }

    /// Keys made, rotated and ended; tokens of users; endpoints.
    async fn keys(&mut self, service: &Service, notifier: &Notifier, receiver: &Receiver) {
        let operator = service.operator(&self.account);
        for by in [self.test(), self.live(), operator] {
            let made = self.new_key(&by, false).await;
            let who = made.accounts().get_caller_identity(countersign::v1::GetCallerIdentityRequest {}).await.unwrap();
            let key_id = who.into_inner().key_id;
            let rotate = RotateApiKeyRequest { key_id: key_id.clone(), overlap: None, idempotency_key: self.once() };
            let rotated = by.accounts().rotate_api_key(rotate.clone()).await.unwrap().into_inner();
            by.accounts().rotate_api_key(rotate).await.expect_err("shown once");
            self.keep("a rotated key", &rotated.secret);
            let revoke = RevokeApiKeyRequest { key_id, idempotency_key: self.once() };
            by.accounts().revoke_api_key(revoke).await.unwrap();
        }
        for by in [self.test(), self.live()] {
            let url = format!("{}?of={}", receiver.url, by.token.len());
            let new = CreateWebhookEndpointRequest { url, idempotency_key: self.once(), ..Default::default() };
            let mut client = WebhookServiceClient::new(notifier.channel.clone());
            let made = client.create_webhook_endpoint(authorised(&by, new.clone())).await.unwrap().into_inner();
            client.create_webhook_endpoint(authorised(&by, new)).await.expect_err("shown once");
            self.keep("a webhook's secret", &made.secret);
        }
    }

    async fn user(&mut self, email: &str) -> String {
        let new = CreateUserTokenRequest { email: email.into(), idempotency_key: self.once() };
        let token = self.test().accounts().create_user_token(new).await.unwrap().into_inner().user_token;
        self.keep("a user's token", &token);
        token
    }

    /// A sent envelope for the first two people.
    async fn envelope(&mut self, by: &Caller) -> Envelope {
        let recipient = |(name, email): &(&str, &str)| NewRecipient {
            name: (*name).into(),
            email: (*email).into(),
            ..NewRecipient::default()
        };
        let new = CreateEnvelopeRequest {
            recipients: PEOPLE[..2].iter().map(recipient).collect(),
            watchers: vec![PEOPLE[4].1.into()],
            delegations_max: 1,
            idempotency_key: self.once(),
            ..request(2, Routing::Parallel, true)
        };
        let envelope = by.create(new.clone()).await.unwrap();
        assert_eq!(by.create(new).await.unwrap(), envelope, "the kept reply");
        self.envelopes.push(envelope.id.clone());
        self.until_invited(&envelope).await;
        envelope
    }

    /// Waits for the invitations: one that is overtaken by what comes next is not written.
    async fn until_invited(&self, envelope: &Envelope) {
        for recipient in &envelope.recipients {
            let is_theirs = |name: String| name.contains(&recipient.id) && name.ends_with(".invitation.eml");
            let names = || std::fs::read_dir(&self.mails).unwrap().map(|it| it.unwrap().file_name());
            let mut looks = 0;
            while !names().any(|name| is_theirs(name.to_string_lossy().into_owned())) {
                looks += 1;
                assert!(looks < 3_000, "waited for an invitation");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// The link of a recipient as it is now.
    async fn link(&mut self, by: &Caller, envelope: &Envelope, index: usize) -> Caller {
        let recipient_id = envelope.recipients[index].id.clone();
        let ask = GetSigningLinkRequest { envelope_id: envelope.id.clone(), recipient_id: recipient_id.clone() };
        let link = by.envelopes().get_signing_link(ask).await.unwrap().into_inner();
        assert!(link.url.ends_with(&link.token));
        self.keep("a signing token", &link.token);
        self.links.push((recipient_id, link.token.clone()));
        by.with_token(&link.token)
    }

    /// Links that are passed on, taken away and sent again.
    async fn pass_on(&mut self, service: &Service) {
        let test = self.test();
        let envelope = self.envelope(&test).await;
        let (first, _) = (self.link(&test, &envelope, 0).await, self.link(&test, &envelope, 1).await);
        let person = |index: usize| {
            Some(Person { name: PEOPLE[index].0.into(), email: PEOPLE[index].1.into(), ..Default::default() })
        };
        let (reason, idempotency_key) = (REASONS[0].into(), self.once());
        let delegate = DelegateSigningRequest { person: person(2), reason, idempotency_key };
        first.signer().delegate_signing(delegate).await.unwrap();
        let reassign = ReassignRecipientRequest {
            envelope_id: envelope.id.clone(),
            recipient_id: envelope.recipients[1].id.clone(),
            person: person(3),
            reason: REASONS[1].into(),
            idempotency_key: self.once(),
            ..Default::default()
        };
        test.envelopes().reassign_recipient(reassign).await.unwrap();
        self.link(&test, &envelope, 0).await;
        self.link(&test, &envelope, 1).await;
        service.clock.advance(TimeDelta::hours(2));
        let resend = ResendEnvelopeRequest {
            envelope_id: envelope.id.clone(),
            rotate: true,
            idempotency_key: self.once(),
            ..Default::default()
        };
        test.envelopes().resend_envelope(resend).await.unwrap();
        let (delegate, second) = (self.link(&test, &envelope, 0).await, self.link(&test, &envelope, 1).await);
        self.remind(service, &envelope.id, &delegate).await;
        crate::steps::view(&delegate).await.unwrap();
        let sign = countersign::v1::SignRequest {
            idempotency_key: self.once(),
            ..signature(&test.get(&envelope.id).await.unwrap())
        };
        delegate.signer().sign(sign).await.unwrap();
        second.decline(REASONS[2]).await.unwrap();
    }

    /// Reminders by hand, who wants none, and a mail that came back.
    async fn remind(&mut self, service: &Service, envelope_id: &str, muting: &Caller) {
        service.clock.advance(TimeDelta::hours(2));
        let (envelope_id, idempotency_key) = (envelope_id.to_owned(), self.once());
        let remind =
            RemindRecipientsRequest { envelope_id: envelope_id.clone(), idempotency_key, ..Default::default() };
        self.test().envelopes().remind_recipients(remind).await.unwrap();
        muting.signer().mute_reminders(MuteRemindersRequest { idempotency_key: self.once() }).await.unwrap();
        let envelope = self.test().get(&envelope_id).await.unwrap();
        let address_sha256 = hex::encode(Sha256::digest(&envelope.recipients[1].email));
        let (recipient_id, idempotency_key) = (envelope.recipients[1].id.clone(), self.once());
        let bounce = ReportBounceRequest { envelope_id, recipient_id, address_sha256, idempotency_key };
        let notifier = service.notifier(&self.account);
        assert!(notifier.envelopes().report_bounce(bounce).await.unwrap().into_inner().recorded);
    }

    /// The other doors to a refusal, and the sender's own end.
    async fn refuse(&mut self) {
        let test = self.test();
        let envelope = self.envelope(&test).await;
        let (user_token, signer) = (self.user(PEOPLE[0].1).await, self.link(&test, &envelope, 0).await);
        let (signing_token, reason, idempotency_key) = (signer.token.clone(), REASONS[3].into(), self.once());
        let decline = DeclineByUserRequest { user_token, signing_token, reason, idempotency_key };
        test.signer().decline_by_user(decline).await.unwrap();
        let envelope = self.envelope(&test).await;
        test.void(&envelope.id, REASONS[4]).await.unwrap();
        let envelope = self.envelope(&test).await;
        let decline = DeclineRecipientRequest {
            envelope_id: envelope.id.clone(),
            recipient_id: envelope.recipients[0].id.clone(),
            reason: REASONS[5].into(),
            evidence_note: REASONS[6].into(),
            idempotency_key: self.once(),
            ..Default::default()
        };
        test.envelopes().decline_recipient(decline).await.unwrap();
    }

    /// A live envelope that everybody signs.
    async fn complete(&mut self, service: &Service) {
        let (live, notifier) = (self.live(), service.notifier(&self.account));
        let envelope = self.envelope(&live).await;
        for index in 0..2 {
            let signer = self.link(&notifier, &envelope, index).await;
            signer.sign(&envelope).await.unwrap();
        }
    }

    /// What is refused is told, and logged, without what was refused.
    async fn go_wrong(&mut self, service: &Service) {
        let test = self.test();
        let envelope = self.envelope(&test).await;
        let signer = self.link(&test, &envelope, 0).await;
        let user = self.user(PEOPLE[4].1).await;
        let spoilt = format!("{}1", signer.token);
        for token in [&signer.token, &spoilt, &user, &OPERATOR_KEY.to_owned(), &test.token] {
            let wrong = Caller { token: token.clone(), account: "none".into(), ..test.clone() };
            let answers = [
                wrong.get(token).await.map(drop),
                wrong.session().await.map(drop),
                wrong.void(&envelope.id, &"x".repeat(20_000)).await.map(drop),
                crate::doors::by_user(&wrong, token, &signer.token, REASONS[2]).await.map(drop),
            ];
            for status in answers.into_iter().filter_map(Result::err) {
                let told = [status.message().as_bytes(), status.details()].concat();
                assert!(!super::search::holds(&told, &token[..24]), "{status:?}");
            }
        }
        let bad = CreateEnvelopeRequest { recipients: Vec::new(), ..request(1, Routing::Parallel, true) };
        test.create(bad).await.unwrap_err();
        let mut two = request(2, Routing::Parallel, true);
        two.recipients[0].email = PEOPLE[0].1.to_owned();
        two.recipients[1].email = PEOPLE[0].1.to_owned();
        two.fields[0].recipient = PEOPLE[0].1.to_owned();
        test.create(two).await.expect_err("an address that stands for two");
        let operator = service.operator(&self.account);
        operator.void(&envelope.id, REASONS[4]).await.unwrap();
    }

    /// Has the contents of all its envelopes removed, by the operator.
    pub async fn erase(&self, service: &Service) {
        let operator = service.operator(&self.account);
        for id in &self.envelopes {
            crate::steps::until(&operator, id, "its end", |envelope| envelope.terminal).await;
            crate::keeping::erase(&operator, id).await.unwrap();
            assert!(crate::keeping::is_intact(&operator, id).await, "{id}");
            let events = operator.history(id).await.unwrap();
            assert!(events.iter().all(|entry| entry.client_ip.is_empty() && entry.user_agent.is_empty()));
        }
    }

    /// All that a stream from the beginning tells of the account, both modes.
    pub async fn events(&self, service: &Service) -> Vec<Event> {
        let request = WatchStatusChangesRequest { start: WatchStart::Oldest.into(), ..Default::default() };
        let notifier = service.notifier(&self.account);
        let mut stream = notifier.envelopes().watch_status_changes(request).await.unwrap().into_inner();
        let (mut events, mut silent): (Vec<Event>, u32) = (Vec::new(), 0);
        // Two signs of life in a row after the last artefact: there is nothing more.
        let artefacts = |events: &[Event]| {
            events.iter().filter(|it| it.r#type() == countersign::v1::EventType::EnvelopeArtifactReady).count()
        };
        while silent < 2 || artefacts(&events) < 3 {
            match stream.message().await.unwrap().unwrap().item {
                Some(Item::Event(event)) => {
                    events.push(event);
                    silent = 0;
                }
                _ => silent += 1,
            }
        }
        events
    }

    /// Waits until everything has been delivered and mailed.
    pub async fn until_told(&self, notifier: &Notifier, receiver: &Receiver) {
        let waiting =
            "SELECT (SELECT count(*) FROM mail WHERE state = 1) + (SELECT count(*) FROM delivery WHERE state = 1)";
        let mut before = usize::MAX;
        for _ in 0..200 {
            let now = receiver.received().len();
            if notifier.database.number(waiting).await == 0 && now > 20 && now == before {
                return;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("waited for webhooks and mails");
    }
}
