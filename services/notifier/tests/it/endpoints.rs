//! WebhookService over the wire, served as in production. Must never let one account see or touch another's.

use chrono::TimeDelta;
use countersign::v1;
use countersign::v1::webhook_service_client::WebhookServiceClient;
use countersign_notifier::config::Config;
use countersign_notifier::id::{AccountId, EndpointId};
use countersign_notifier::serve::serve;
use countersign_notifier::store::Endpoint;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::receiver::{Receiver, SOON, until};
use crate::stand::Stand;

const URL: &str = "https://hooks.example.com/countersign";

/// The notifier as it serves.
pub struct Serving {
    pub stand: Stand,
    pub client: WebhookServiceClient<Channel>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Serving {
    async fn start(allow_private: bool) -> Self {
        Self::with(|config| config.webhook_allow_private = allow_private).await
    }

    /// With other settings than the usual.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        // It looks for leases at the start and not again for a while: `follow` takes them from it.
        let patient = |config: &mut Config| {
            config.lease_seconds = 300;
            change(config);
        };
        let stand = Stand::with(patient).await;
        stand.double.script().hold = true;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(serve(stand.config.clone(), stand.clock.clone(), listener, stand.stop.clone()));
        let client = WebhookServiceClient::new(Channel::from_shared(url).unwrap().connect_lazy());
        let held = "SELECT count(*) FROM feed_partition WHERE owner IS NOT NULL";
        crate::receiver::until(async || stand.number(held).await == 16).await;
        Self { stand, client, task }
    }

    /// A new API key of an account.
    pub fn key(&self, account: AccountId, livemode: bool) -> String {
        let mut script = self.stand.double.script();
        let key = format!("Bearer key-{}", script.keys.len());
        let identity = v1::GetCallerIdentityResponse {
            account_id: account.to_string(),
            key_id: "key_x".to_owned(),
            livemode,
            scopes: vec![8, 9],
            ..Default::default()
        };
        script.keys.insert(key.clone(), identity);
        key
    }

    pub async fn create(&self, key: &str, url: &str) -> Result<v1::CreateWebhookEndpointResponse, Status> {
        let request = by(key, v1::CreateWebhookEndpointRequest { url: url.to_owned(), ..Default::default() });
        self.client.clone().create_webhook_endpoint(request).await.map(tonic::Response::into_inner)
    }

    async fn list(&self, key: &str) -> Result<Vec<v1::WebhookEndpoint>, Status> {
        let request = by(key, v1::ListWebhookEndpointsRequest::default());
        self.client.clone().list_webhook_endpoints(request).await.map(|listed| listed.into_inner().endpoints)
    }

    async fn delete(&self, key: &str, id: &str) -> Result<(), Status> {
        let request = by(key, v1::DeleteWebhookEndpointRequest { endpoint_id: id.to_owned(), ..Default::default() });
        self.client.clone().delete_webhook_endpoint(request).await.map(|_| ())
    }

    /// Plans what has happened; the stream that is held open tells nothing.
    pub async fn follow(&self) {
        self.stand.sql("DELETE FROM follower; UPDATE feed_partition SET owner = NULL, lease_until = NULL").await;
        self.stand.double.script().hold = false;
        self.stand.follow().await;
        self.stand.double.script().hold = true;
    }

    pub async fn stop(self) {
        self.stand.stop.cancel();
        let ended = tokio::time::timeout(SOON, self.task).await.expect("ends soon");
        ended.unwrap().unwrap();
    }
}

pub fn by<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !key.is_empty() {
        request.metadata_mut().insert("authorization", key.parse().unwrap());
    }
    request
}

pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_registered_listed_and_removed() {
    let serving = Serving::start(false).await;
    let key = serving.key(AccountId::new(), true);
    let created = serving.create(&key, URL).await.unwrap();
    let endpoint = created.endpoint.unwrap();
    assert!(endpoint.id.starts_with("whe_") && endpoint.livemode && endpoint.url == URL);
    assert_eq!(created.secret.strip_prefix("whsec_").unwrap().len(), 44, "32 bytes in base64");
    serving.stand.later(TimeDelta::milliseconds(1));
    let other = serving.create(&key, URL).await.unwrap();
    assert_ne!(other.secret, created.secret);
    let listed = serving.list(&key).await.unwrap();
    assert_eq!(listed, [endpoint.clone(), other.endpoint.unwrap()], "oldest first");
    serving.delete(&key, &endpoint.id).await.unwrap();
    assert_eq!(serving.list(&key).await.unwrap().len(), 1);
    assert_eq!(serving.delete(&key, &endpoint.id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(endpoint.state(), v1::WebhookEndpointState::Active, "where no challenge is asked for");
    let kept = "SELECT count(*) FROM endpoint WHERE endpoint::text LIKE '%wh' || 'sec%'";
    assert_eq!(serving.stand.number(kept).await, 0, "no secret is kept");
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_may_not_be_posted_to_is_refused_by_its_field() {
    let serving = Serving::start(false).await;
    let key = serving.key(AccountId::new(), true);
    let long = format!("https://hooks.example.com/{}", "x".repeat(2_048));
    for url in [
        "",
        "hooks",
        "http://hooks.example.com/",
        "https://u:p@hooks.example.com/",
        "https://10.0.0.1/",
        "https://8.8.8.8/",
        &long,
    ] {
        let status = serving.create(&key, url).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{url}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "url");
    }
    assert!(serving.list(&key).await.unwrap().is_empty());
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_modes_do_not_see_each_other() {
    let serving = Serving::start(false).await;
    let account = AccountId::new();
    let keys = [serving.key(account, true), serving.key(account, false), serving.key(AccountId::new(), true)];
    let endpoint = serving.create(&keys[0], URL).await.unwrap().endpoint.unwrap();
    for key in &keys[1..] {
        assert!(serving.list(key).await.unwrap().is_empty());
        let foreign = serving.delete(key, &endpoint.id).await.unwrap_err();
        let absent = serving.delete(key, &EndpointId::new().to_string()).await.unwrap_err();
        assert_eq!((foreign.code(), reason(&foreign)), (Code::NotFound, "NOT_FOUND".to_owned()));
        assert_eq!((foreign.code(), foreign.message()), (absent.code(), absent.message()));
    }
    assert_eq!(serving.list(&keys[0]).await.unwrap().len(), 1);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_twenty_first_endpoint_is_refused() {
    let serving = Serving::start(false).await;
    let key = serving.key(AccountId::new(), true);
    for _ in 0..20 {
        serving.create(&key, URL).await.unwrap();
    }
    let status = serving.create(&key, URL).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "OUT_OF_SCOPE_V1"));
    let facts = status.get_details_error_info().unwrap().metadata;
    assert_eq!((facts["actual"].as_str(), facts["allowed"].as_str()), ("21", "20"));
    assert!(facts.contains_key("limit"));
    serving.stop().await;
}

/// Two calls for the last place, both held at the lock until it is let go.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_holds_for_calls_at_once() {
    let serving = Serving::start(false).await;
    let (account, store) = (serving.stand.account, serving.stand.notifier.store.clone());
    let key = serving.key(account, true);
    for _ in 0..19 {
        serving.create(&key, URL).await.unwrap();
    }
    let holder = serving.stand.database.connect().await;
    let lock = "SELECT pg_advisory_lock(hashtextextended('endpoint/' || $1::text, 0))::text";
    holder.query(lock, &[&account.uuid().to_string()]).await.unwrap();
    let now = serving.stand.clock.now();
    let endpoint = || Endpoint::new(account, EndpointId::new(), true, URL.to_owned(), serving.stand.newest_key(), now);
    let (first, second) = (endpoint(), endpoint());
    let creating =
        async { tokio::join!(store.create_endpoint(&first, 20, None), store.create_endpoint(&second, 20, None)) };
    let releasing = async {
        let waiting = "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
            WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()";
        until(async || serving.stand.number(waiting).await == 2).await;
        holder.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    };
    let ((one, two), ()) = tokio::join!(creating, releasing);
    one.and(two).unwrap();
    assert_eq!(serving.stand.number("SELECT count(*) FROM endpoint").await, 20);
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_known_callers_are_served_and_they_are_remembered() {
    let serving = Serving::start(false).await;
    for key in ["", "Bearer unknown"] {
        let status = serving.list(key).await.unwrap_err();
        let is = (status.code(), reason(&status));
        assert_eq!(is, (Code::Unauthenticated, "AUTHENTICATION_REQUIRED".to_owned()), "{key}");
    }
    let key = serving.key(AccountId::new(), true);
    serving.list(&key).await.unwrap();
    let asked = serving.stand.double.script().identified;
    serving.list(&key).await.unwrap();
    assert_eq!(serving.stand.double.script().identified, asked);
    serving.stand.double.script().away = true;
    serving.list(&key).await.unwrap();
    let unknown = serving.key(AccountId::new(), true);
    assert_eq!(serving.list(&unknown).await.unwrap_err().code(), Code::Unavailable);
    serving.stop().await;
}

/// What cannot be an id is a fault of the request, as everywhere; absent and foreign ids look the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_id_is_named() {
    let serving = Serving::start(false).await;
    let key = serving.key(AccountId::new(), true);
    for id in ["", "whe_", "acc_01h455vb4pex5vsknk084sn02q", "whe_zzzzzzzzzzzzzzzzzzzzzzzzzz"] {
        assert_eq!(serving.delete(&key, id).await.unwrap_err().code(), Code::InvalidArgument, "{id}");
    }
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_runs_by_itself_from_the_event_to_the_webhook() {
    let serving = Serving::start(true).await;
    let receiver = Receiver::start([]).await;
    let key = serving.key(serving.stand.account, true);
    let created = serving.create(&key, &receiver.url).await.unwrap();
    serving.stand.happens(countersign::v1::EventType::EnvelopeSent, 1);
    // The stream that is open does not see it; the next one does.
    serving.stand.double.script().hold = false;
    serving.stand.stop.cancel();
    serving.task.await.unwrap().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let again = tokio::spawn(serve(serving.stand.config.clone(), serving.stand.clock.clone(), listener, stop.clone()));
    receiver.wait_for(1).await;
    let [kept] = &receiver.kept()[..] else { panic!("not one request") };
    standardwebhooks::Webhook::new(&created.secret).unwrap().verify(&kept.body, &kept.headers).unwrap();
    stop.cancel();
    tokio::time::timeout(SOON, again).await.expect("ends soon").unwrap().unwrap();
}
