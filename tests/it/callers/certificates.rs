//! Callers known by a certificate: the service with TLS and a client CA, and the real notifier before it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign::v1::account_service_client::AccountServiceClient;
use countersign::v1::envelope_service_client::EnvelopeServiceClient;
use countersign::v1::signer_service_client::SignerServiceClient;
use countersign::v1::watch_status_changes_response::Item;
use countersign::v1::{
    ActorType, CreateAccountRequest, EventType, GetCallerIdentityRequest, GetEnvelopeRequest, GetSigningLinkRequest,
    GetSigningSessionRequest, MarkViewedRequest, Routing, WatchStart, WatchStatusChangesRequest,
};
use countersign_chassis::clock::Clock;
use countersign_chassis::config::TlsConfig;
use countersign_envelope::config::Config;
use countersign_notifier::config::EnvelopeTlsConfig;
use countersign_test_support::certificates::{Authority, Issued, Use, write};
use countersign_test_support::client::request;
use countersign_test_support::notifier::{self, register};
use countersign_test_support::service::{OPERATOR_KEY, config};
use countersign_test_support::{Caller, Database, Errors as _, Notifier, Service, Story};
use tempfile::TempDir;
use tokio_stream::StreamExt as _;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};

use super::{assert_denied, assert_nobody};

const NOTIFIER: &str = "spiffe://corp/notifier";
const OPERATOR: &str = "dns:ops.corp";
const PORTAL: &str = "spiffe://corp/portal";
const IDENTITIES: &str = "spiffe://corp/notifier=notifier, dns:ops.corp=operator, spiffe://corp/portal=portal";
/// Where somebody says that they are.
const FAR: &str = "203.0.113.9";
/// Whatever is refused is refused within this time, and does not hang.
const SOON: Duration = Duration::from_secs(20);

/// A service with TLS that believes the certificates of a CA, and an account's test key.
struct Stand {
    ca: Authority,
    folder: TempDir,
    service: Service,
    sender: Caller,
}

impl Stand {
    /// No peer is trusted for its address, and no token makes a notifier.
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with further settings.
    async fn start_with(set: impl FnOnce(&mut Config)) -> Self {
        countersign_chassis::grpc::install_tls_provider();
        let (ca, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
        let (database, documents) = (Database::envelope().await, tempfile::tempdir().unwrap());
        let mut config = Config {
            service_identities: IDENTITIES.parse().unwrap(),
            service_token: None,
            trusted_peers: Vec::new(),
            ..config(&database, &documents)
        };
        config.listen.tls = tls(&ca, folder.path());
        set(&mut config);
        config.check_identities().unwrap();
        let mut service = Service::start_with(database, Clock::database(), documents, config).await;
        service.channel = connect(&service.address, &ca, None);
        let sender = service.account(false).await;
        Self { ca, folder, service, sender }
    }

    /// A connection with a certificate of those names.
    fn named(&self, names: &[&str]) -> Channel {
        self.with(&self.ca.issue(Use::Client, names))
    }

    fn with(&self, certificate: &Issued) -> Channel {
        connect(&self.service.address, &self.ca, Some(certificate))
    }

    fn anonymous(&self) -> Channel {
        self.service.channel.clone()
    }

    async fn story(&self, signers: usize) -> Story {
        self.sender.story(signers, Routing::Parallel).await
    }

    /// The real notifier without a service token.
    async fn notifier(&self) -> Notifier {
        let (database, mails) = (notifier::database().await, tempfile::tempdir().unwrap());
        let mut config = notifier::config(&database, &self.service.address, &mails);
        config.envelope_url = format!("https://{}", self.service.address);
        config.service_token = None;
        let (ca, (cert, key)) = self.certify_notifier();
        config.envelope_tls =
            EnvelopeTlsConfig { envelope_ca: Some(ca), client_cert: Some(cert), client_key: Some(key) };
        Notifier::start_with(database, mails, config).await
    }

    /// Writes what the notifier believes and shows.
    fn certify_notifier(&self) -> (PathBuf, (PathBuf, PathBuf)) {
        let folder = self.folder.path();
        let own = self.ca.issue(Use::Client, &[NOTIFIER]).write(folder, "notifier");
        (write(folder, "envelope-ca.pem", &self.ca.pem), own)
    }

    /// Has another CA, and writes anew all that was of the former, for both services. Returns when the server uses it.
    async fn renew(&mut self) {
        self.ca = Authority::new("ours");
        let _ = (tls(&self.ca, self.folder.path()), self.certify_notifier());
        self.service.channel = connect(&self.service.address, &self.ca, None);
        self.sender.channel = self.service.channel.clone();
        let answered = async {
            while identity(&self.service.channel).await.is_err_and(|status| status.reason().is_empty()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(SOON, answered).await.expect("the files are read again");
    }
}

fn tls(ca: &Authority, folder: &Path) -> TlsConfig {
    let (cert, key) = ca.issue(Use::Server, &["127.0.0.1"]).write(folder, "server");
    let client_ca = write(folder, "ca.pem", &ca.pem);
    TlsConfig { tls_cert: Some(cert), tls_key: Some(key), tls_client_ca: Some(client_ca) }
}

fn connect(address: &str, ca: &Authority, certificate: Option<&Issued>) -> Channel {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca.pem));
    let tls = match certificate {
        Some(Issued { cert, key }) => tls.identity(Identity::from_pem(cert, key)),
        None => tls,
    };
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect_lazy()
}

/// A request that names an account and bears no token.
fn naming<T>(account: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("countersign-account", account.parse().unwrap());
    request
}

fn bearing<T>(authorization: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    request
}

fn link_of(story: &Story) -> GetSigningLinkRequest {
    let (envelope_id, recipient_id) = (story.envelope.id.clone(), story.envelope.recipients[0].id.clone());
    GetSigningLinkRequest { envelope_id, recipient_id }
}

async fn link(channel: &Channel, request: Request<GetSigningLinkRequest>) -> Result<String, Status> {
    Ok(EnvelopeServiceClient::new(channel.clone()).get_signing_link(request).await?.into_inner().token)
}

async fn create(channel: &Channel, account: &str) -> Result<String, Status> {
    let request = naming(account, request(1, Routing::Parallel, false));
    Ok(EnvelopeServiceClient::new(channel.clone()).create_envelope(request).await?.into_inner().envelope.unwrap().id)
}

async fn new_account(channel: &Channel, authorization: Option<&str>) -> Result<String, Status> {
    let message = CreateAccountRequest { name: "Tests Ltd".into(), ..Default::default() };
    let request = match authorization {
        Some(authorization) => bearing(authorization, message),
        None => Request::new(message),
    };
    let answer = AccountServiceClient::new(channel.clone()).create_account(request).await?;
    Ok(answer.into_inner().account.unwrap().id)
}

/// That these envelopes are on the stream of all accounts.
async fn watch(channel: &Channel, mut envelopes: Vec<String>) -> Result<(), Status> {
    let request = WatchStatusChangesRequest { start: WatchStart::Oldest.into(), ..Default::default() };
    let mut stream = EnvelopeServiceClient::new(channel.clone()).watch_status_changes(request).await?.into_inner();
    let look = async {
        while !envelopes.is_empty() {
            if let Some(Item::Event(event)) = stream.next().await.unwrap().unwrap().item {
                envelopes.retain(|envelope| *envelope != event.envelope_id);
            }
        }
    };
    tokio::time::timeout(SOON, look).await.expect("all events");
    Ok(())
}

async fn session(channel: &Channel) -> Result<(), Status> {
    SignerServiceClient::new(channel.clone()).get_signing_session(GetSigningSessionRequest {}).await.map(drop)
}

async fn identity(channel: &Channel) -> Result<(), Status> {
    AccountServiceClient::new(channel.clone()).get_caller_identity(GetCallerIdentityRequest {}).await.map(drop)
}

/// S2.20, T-55: the notifier's certificate follows all accounts and gets links, for the account that it names.
#[tokio::test(flavor = "multi_thread")]
async fn a_notifiers_certificate_watches_and_gets_links_and_no_more() {
    let stand = Stand::start().await;
    let channel = stand.named(&[NOTIFIER]);
    let other = stand.service.account(true).await;
    let (story, foreign) = (stand.story(1).await, other.create(request(1, Routing::Parallel, true)).await.unwrap());
    watch(&channel, vec![story.envelope.id.clone(), foreign.id]).await.unwrap();
    let account = &stand.sender.account;
    let token = link(&channel, naming(account, link_of(&story))).await.unwrap();
    assert_eq!(token, story.signer(0).token);
    let status = link(&channel, naming(&other.account, link_of(&story))).await.unwrap_err();
    assert_eq!((status.code(), status.reason().as_str()), (Code::NotFound, "NOT_FOUND"), "of another account");
    assert_denied("without an account", &link(&channel, Request::new(link_of(&story))).await.unwrap_err());
    assert_denied("creating an envelope", &create(&channel, account).await.unwrap_err());
    assert_denied("creating an account", &new_account(&channel, None).await.unwrap_err());
    assert_denied("a recipient's session", &session(&channel).await.unwrap_err());
    assert_denied("whose key it is", &identity(&channel).await.unwrap_err());
    for channel in [stand.anonymous(), stand.named(&["spiffe://corp/notifier/x"]), stand.named(&[])] {
        assert_nobody("watching", &watch(&channel, Vec::new()).await.unwrap_err());
        assert_nobody("a link", &link(&channel, naming(account, link_of(&story))).await.unwrap_err());
    }
}

/// The operator's certificate does what the operator's key does.
#[tokio::test(flavor = "multi_thread")]
async fn an_operators_certificate_makes_accounts() {
    let stand = Stand::start().await;
    let channel = stand.named(&["dns:OPS.corp", "spiffe://corp/unheard-of"]);
    let account = new_account(&channel, None).await.unwrap();
    assert!(account.starts_with("acc_") && account != stand.sender.account);
    let story = stand.story(1).await;
    let get = GetEnvelopeRequest { envelope_id: story.envelope.id.clone(), ..Default::default() };
    let get = naming(&stand.sender.account, get);
    EnvelopeServiceClient::new(channel.clone()).get_envelope(get).await.expect("the operator looks at envelopes");
    assert_denied("creating an envelope", &create(&channel, &stand.sender.account).await.unwrap_err());
    assert_denied("watching", &watch(&channel, Vec::new()).await.unwrap_err());
    let link = link(&channel, naming(&stand.sender.account, link_of(&story))).await;
    assert_denied("a link", &link.unwrap_err());
    for channel in [stand.anonymous(), stand.named(&[PORTAL]), stand.named(&["uri=dns:ops.corp"])] {
        assert_nobody("creating an account", &new_account(&channel, None).await.unwrap_err());
    }
}

/// Says as a signer that one looks, through a connection and with a forged or true address; what the history keeps of it.
async fn viewed_through(stand: &Stand, story: &Story, index: usize, channel: Channel) -> (String, String) {
    let mut request = Request::new(MarkViewedRequest::default());
    request.metadata_mut().insert("x-forwarded-for", FAR.parse().unwrap());
    request.metadata_mut().insert("x-forwarded-user-agent", "Firefox/140".parse().unwrap());
    let signer = Caller { channel, ..story.signer(index).clone() };
    signer.signer().mark_viewed(request).await.unwrap();
    let history = stand.sender.history(&story.envelope.id).await.unwrap();
    let entry = history.last().unwrap();
    let event = entry.event.as_ref().unwrap();
    let recipient = &story.envelope.recipients[index].id;
    assert_eq!((event.r#type(), &event.recipient_id), (EventType::RecipientViewed, recipient));
    let actor = event.actor.as_ref().unwrap();
    assert_eq!((actor.r#type(), &actor.id), (ActorType::Recipient, recipient));
    (entry.client_ip.clone(), entry.user_agent.clone())
}

/// T-59: a portal is believed about where its people are, by its certificate alone; nobody else is.
#[tokio::test(flavor = "multi_thread")]
async fn t59_only_a_portals_certificate_is_believed_about_addresses() {
    let stand = Stand::start().await;
    let story = stand.story(5).await;
    let told = (FAR.to_owned(), "Firefox/140".to_owned());
    for (index, (what, channel, kept)) in [
        ("no certificate", stand.anonymous(), Default::default()),
        ("a portal", stand.named(&[PORTAL]), told),
        ("the notifier", stand.named(&[NOTIFIER]), Default::default()),
        ("the operator", stand.named(&[OPERATOR]), Default::default()),
        ("portal and notifier", stand.named(&[PORTAL, NOTIFIER]), Default::default()),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(viewed_through(&stand, &story, index, channel).await, kept, "{what}");
    }
}

/// A portal's certificate is nobody's credential: each of its people brings their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_portal_is_nobody_without_its_peoples_tokens() {
    let stand = Stand::start().await;
    let (channel, story) = (stand.named(&[PORTAL]), stand.story(2).await);
    let account = &stand.sender.account;
    assert_nobody("a session", &session(&channel).await.unwrap_err());
    assert_nobody("whose key it is", &identity(&channel).await.unwrap_err());
    assert_nobody("creating an envelope", &create(&channel, account).await.unwrap_err());
    assert_nobody("a link", &link(&channel, naming(account, link_of(&story))).await.unwrap_err());
    assert_nobody("watching", &watch(&channel, Vec::new()).await.unwrap_err());
    assert_nobody("creating an account", &new_account(&channel, None).await.unwrap_err());
    let through = |caller: &Caller| Caller { channel: channel.clone(), ..caller.clone() };
    let signer = through(story.signer(0));
    let seen = signer.session().await.unwrap().recipient.unwrap();
    assert_eq!(seen.id, story.envelope.recipients[0].id);
    signer.sign(&story.envelope).await.expect("the recipient signs");
    assert_denied("a recipient", &signer.get(&story.envelope.id).await.unwrap_err());
    let now = through(&stand.sender).get(&story.envelope.id).await.expect("an API key is one here too");
    assert!(now.recipients[0].signed_at.is_some() && now.recipients[1].signed_at.is_none());
}

/// A bearer token alone decides: who passes on somebody's token is never taken for themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_decides_whatever_the_certificate() {
    let stand = Stand::start().await;
    let (notifier, operator) = (stand.named(&[NOTIFIER]), stand.named(&[OPERATOR]));
    let story = stand.story(1).await;
    let asked = |authorization: &str| {
        let mut request = bearing(authorization, link_of(&story));
        request.metadata_mut().insert("countersign-account", stand.sender.account.parse().unwrap());
        request
    };
    for bad in ["Bearer cs_test_garbage", "Bearer a.b.c", "Bearer ", "Bearer", "Basic Zm9vOmJhcg==", ""] {
        assert_nobody(bad, &link(&notifier, asked(bad)).await.unwrap_err());
        assert_nobody(bad, &new_account(&operator, Some(bad)).await.unwrap_err());
    }
    let key = format!("Bearer {}", stand.sender.token);
    assert_denied("an API key", &new_account(&operator, Some(&key)).await.unwrap_err());
    let signing = format!("Bearer {}", story.signer(0).token);
    assert_denied("a signing token", &link(&notifier, asked(&signing)).await.unwrap_err());
    let operators = format!("Bearer {OPERATOR_KEY}");
    new_account(&notifier, Some(&operators)).await.expect("the operator's key");
    assert_denied("the operator's key", &link(&notifier, asked(&operators)).await.unwrap_err());
    assert_eq!(link(&notifier, asked(&key)).await.unwrap(), story.signer(0).token, "the sender's key");
}

/// A certificate of another CA ends the connection, even for who has a good key.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_ca_cannot_connect() {
    let stand = Stand::start().await;
    let story = stand.story(1).await;
    for (what, certificate) in [
        ("another CA's", Authority::new("ours").issue(Use::Client, &[NOTIFIER])),
        ("expired", stand.ca.issue(Use::ExpiredClient, &[NOTIFIER])),
        ("a server's", stand.ca.issue(Use::Server, &[NOTIFIER])),
    ] {
        let channel = stand.with(&certificate);
        let sender = Caller { channel: channel.clone(), ..stand.sender.clone() };
        let look = tokio::time::timeout(SOON, sender.get(&story.envelope.id));
        for status in [look.await.expect("soon").unwrap_err(), watch(&channel, Vec::new()).await.unwrap_err()] {
            // Which of them, depends on how far the call had come when the connection ended.
            let ended = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled);
            assert!(ended, "{what}: {status:?}");
            assert_eq!(status.reason(), "", "{what}: the service itself said nothing");
        }
    }
    let plain = Endpoint::from_shared(format!("http://{}", stand.service.address)).unwrap().connect_lazy();
    let sender = Caller { channel: plain, ..stand.sender.clone() };
    let look = tokio::time::timeout(SOON, sender.get(&story.envelope.id)).await.expect("soon");
    assert_eq!(look.expect_err("no plain text").reason(), "");
}

/// Names of two roles make nobody, not the greater or the first of the two.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_two_roles_is_nobody() {
    let stand = Stand::start().await;
    let story = stand.story(1).await;
    for names in [[NOTIFIER, OPERATOR], [OPERATOR, NOTIFIER], [PORTAL, OPERATOR], [NOTIFIER, PORTAL]] {
        let channel = stand.named(&names);
        let what = names.join(" and ");
        assert_nobody(&what, &watch(&channel, Vec::new()).await.unwrap_err());
        assert_nobody(&what, &new_account(&channel, None).await.unwrap_err());
        let asked = naming(&stand.sender.account, link_of(&story));
        assert_nobody(&what, &link(&channel, asked).await.unwrap_err());
        let sender = Caller { channel, ..stand.sender.clone() };
        sender.get(&story.envelope.id).await.expect("with a key they are its bearer");
    }
}

/// The notifier without a service token: its certificate follows and writes for it, and never answers for its callers.
#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_works_by_its_certificate_alone() {
    let stand = Stand::start().await;
    let notifier = stand.notifier().await;
    let story = stand.story(1).await;
    let recipient = &story.envelope.recipients[0].id;
    let mail = invitation(&notifier, recipient).await;
    let unfolded = mail.replace("=\r\n", "").replace("=\n", "");
    let (_, link) = unfolded.split_once("https://sign.example.com/s#").expect("the link");
    assert!(link.starts_with(&story.signer(0).token), "the link is the recipient's");
    let url = "http://127.0.0.1:9/hook";
    register(&notifier.channel, &stand.sender, url).await.expect("an API key is recognised");
    for bad in ["cs_test_garbage", "a.b.c", &story.signer(0).token] {
        let refused = register(&notifier.channel, &stand.sender.with_token(bad), url).await.expect_err(bad);
        assert!(matches!(refused.code(), Code::Unauthenticated | Code::PermissionDenied), "{bad}: {refused:?}");
    }
    notifier.stop().await;
}

/// All certificates are renewed by another CA while both services run: the notifier goes on by the new ones alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_notifier_goes_on_when_all_certificates_are_renewed() {
    let mut stand = Stand::start_with(|config| config.listen.connection_age_seconds = 1).await;
    let notifier = stand.notifier().await;
    let before = stand.story(1).await;
    invitation(&notifier, &before.envelope.recipients[0].id).await;
    let former = stand.ca.issue(Use::Client, &[NOTIFIER]);
    stand.renew().await;
    watch(&stand.with(&former), Vec::new()).await.expect_err("the former CA is believed no longer");
    // No connection is as old as that.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = stand.story(1).await;
    invitation(&notifier, &after.envelope.recipients[0].id).await;
    notifier.stop().await;
}

/// Waits for the invitation of a recipient.
async fn invitation(notifier: &Notifier, recipient: &str) -> String {
    for _ in 0..600 {
        let mut mails = notifier.mails().into_iter();
        let found = mails.find(|(name, _)| name.contains(recipient) && name.ends_with(".invitation.eml"));
        if let Some((_, text)) = found.filter(|(_, text)| text.contains("sign.example.com")) {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited for the invitation of {recipient}");
}
