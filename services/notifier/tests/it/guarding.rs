//! Where webhooks may go: the edges of every special block, and every way to write an address, against a canary that
//! listens on all addresses of this machine.
//! Must never connect to, or resolve, anything outside this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::Utc;
use countersign::v1::EventType;
use countersign_chassis::guard::{Guard, Lookup, is_public};
use countersign_chassis::keys::Key;
use countersign_notifier::id::{AccountId, EndpointId};
use countersign_notifier::webhook::courier::{Bounds, Courier, Letter};
use countersign_notifier::webhook::headers::Seal;
use ipnet::IpNet;
use reqwest::dns::Resolve as _;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::receiver::{Answer, Receiver};
use crate::spellings::{odd_hosts, odd_urls, spellings};
use crate::stand::Stand;

/// Networks that are not public, as the registries list them: a list of its own, not the guard's.
const SPECIAL_V4: [&str; 15] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
const SPECIAL_V6: [&str; 20] = [
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "::/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001::/32",
    "2001:2::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

/// Names found as a test says, one answer after the other, the last for ever.
struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Lookup for Scripted {
    async fn lookup(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        let place = self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(self.answers[place.min(self.answers.len() - 1)].clone())
    }
}

fn guard(allow_private: bool, ports: Vec<u16>, answers: Vec<Vec<IpAddr>>) -> (Guard, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let lookup = Scripted { answers, asked: Arc::clone(&asked) };
    (Guard::with(allow_private, ports, Vec::new(), Box::new(lookup)), asked)
}

/// Counts whoever connects to any address of this machine.
struct Canary {
    port: u16,
    connected: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Canary {
    async fn start() -> Self {
        let listener = TcpListener::bind("[::]:0").await.unwrap();
        let (port, connected) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
        let count = Arc::clone(&connected);
        let task = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { port, connected, _task: AbortOnDropHandle::new(task) }
    }

    fn count(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }
}

fn seal() -> Arc<Seal> {
    Arc::new(Seal::new(&Key::master(&"07".repeat(32).into()).unwrap().into()).unwrap())
}

/// Posts once, as it would be posted to an endpoint with that address.
async fn post(guard: &Guard, url: &str) -> Result<u16, &'static str> {
    countersign_chassis::grpc::install_tls_provider();
    let bounds = Bounds { total: Duration::from_millis(500), ..Bounds::default() };
    let courier = Courier::new(guard.clone(), seal(), bounds).unwrap();
    let letter = Letter {
        account: AccountId::new(),
        endpoint: EndpointId::new(),
        url,
        id: "evt_1",
        body: b"{}",
        secrets: &[],
        headers_sealed: None,
        at: Utc::now(),
    };
    courier.post(&letter).await.map(|answer| answer.status)
}

/// The first and the last address of a network, and those next to them on either side.
fn edges(network: &str) -> Vec<IpAddr> {
    let network: IpNet = network.parse().unwrap();
    let around = |address: IpAddr| -> Vec<IpAddr> {
        match address {
            IpAddr::V4(address) => {
                let at = u32::from(address);
                let near = [at.checked_sub(1), Some(at), at.checked_add(1)];
                near.into_iter().flatten().map(|at| Ipv4Addr::from(at).into()).collect()
            }
            IpAddr::V6(address) => {
                let at = u128::from(address);
                let near = [at.checked_sub(1), Some(at), at.checked_add(1)];
                near.into_iter().flatten().map(|at| Ipv6Addr::from(at).into()).collect()
            }
        }
    };
    let mut edges = [around(network.network()), around(network.broadcast())].concat();
    edges.sort_unstable();
    edges.dedup();
    edges
}

/// What stands in the registries, and that IPv6 is allowed only within what is given out to the public.
fn may_be_reached(address: IpAddr) -> bool {
    let special = SPECIAL_V4.iter().chain(&SPECIAL_V6).map(|it| it.parse::<IpNet>().unwrap());
    let given_out = match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(_) => "2000::/3".parse::<IpNet>().unwrap().contains(&address),
    };
    given_out && !special.into_iter().any(|network| network.contains(&address))
}

/// Every form in which an IPv6 address holds an IPv4 address.
fn embedding(address: Ipv4Addr) -> Vec<IpAddr> {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    [
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, !high, !low),
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5efe, high, low),
    ]
    .map(IpAddr::from)
    .to_vec()
}

/// T-34: names that lead to each of these addresses.
#[tokio::test(flavor = "multi_thread")]
async fn t34_every_edge_of_every_special_block() {
    let canary = Canary::start().await;
    let mut cases: Vec<IpAddr> = SPECIAL_V4.iter().chain(&SPECIAL_V6).flat_map(|network| edges(network)).collect();
    cases.extend(edges("2000::/3"));
    for network in SPECIAL_V4 {
        let IpNet::V4(network) = network.parse().unwrap() else { panic!() };
        cases.extend(embedding(network.network()));
    }
    cases.extend(embedding(Ipv4Addr::new(169, 254, 169, 254)));
    cases.sort_unstable();
    cases.dedup();
    let (mut refused, mut allowed) = (0, 0);
    for address in &cases {
        let expected = may_be_reached(*address);
        assert_eq!(is_public(*address), expected, "{address}");
        let (guard, _) = guard(false, vec![canary.port], vec![vec![*address]]);
        if expected {
            // Not connected to: it is somebody's.
            assert!(guard.resolve("hooks.example.com".parse().unwrap()).await.is_ok(), "{address}");
            allowed += 1;
        } else {
            let posted = post(&guard, &format!("https://hooks.example.com:{}/", canary.port)).await;
            assert_eq!(posted, Err("address_not_allowed"), "{address}");
            refused += 1;
        }
    }
    println!("{} addresses: {refused} refused, {allowed} allowed", cases.len());
    assert!(cases.len() >= 250 && refused > 150 && allowed > 30, "{} {refused} {allowed}", cases.len());
    assert_eq!(canary.count(), 0, "the canary was connected");
}

/// T-34: addresses that are refused as they stand. The names in them all lead to this machine.
#[tokio::test(flavor = "multi_thread")]
async fn t34_every_spelling_of_an_address() {
    let canary = Canary::start().await;
    let mut cases = odd_urls(canary.port);
    let inside =
        ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.0.1", "172.16.0.1", "0.0.0.0", "100.64.0.1", "8.8.8.8"];
    let hosts = inside.iter().flat_map(|address| spellings(address.parse().unwrap())).chain(odd_hosts());
    cases.extend(hosts.map(|host| format!("https://{host}:{}/hook", canary.port)));
    cases.sort_unstable();
    cases.dedup();
    let (strict, asked) = guard(false, vec![canary.port], vec![vec![Ipv4Addr::LOCALHOST.into()]]);
    for url in &cases {
        assert!(strict.check(url).is_err(), "{url:?} passed");
        assert_eq!(post(&strict, url).await, Err("address_not_allowed"), "{url:?}");
    }
    println!("{} spellings refused", cases.len());
    assert!(cases.len() >= 250, "{}", cases.len());
    assert_eq!((canary.count(), asked.load(Ordering::Relaxed)), (0, 0), "nothing was looked up or connected");
}

#[test]
fn t34_what_is_public_passes() {
    let guard = Guard::new(false, vec![443, 8443], Vec::new());
    for good in [
        "https://example.com/hook",
        "https://EXAMPLE.com",
        "https://example.com.:443/",
        "https://example.com:8443/?a=b",
        "https://hooks.local.example.com/",
        "https://b\u{fc}cher.example/",
        "https://xn--bcher-kva.example/",
        "https://a-1.b.example.co.uk/%20x",
        "https://1.example.com/",
        "https://internal.example/",
    ] {
        assert!(guard.check(good).is_ok(), "{good}: {:?}", guard.check(good));
    }
    assert!(Guard::new(false, vec![9443], Vec::new()).check("https://example.com:9443/").is_ok());
    assert!(
        Guard::new(false, vec![9443], Vec::new()).check("https://example.com/").is_err(),
        "only the operator's ports"
    );
    let free = Guard::new(true, vec![443], Vec::new());
    assert!(free.check("http://127.0.0.1:8080/hook").is_ok());
    assert!(free.check(&format!("http://a.example/{}", "x".repeat(2048))).is_err());
    assert!(free.check("http://u:p@127.0.0.1/").is_err() && free.check("file:///etc/passwd").is_err());
}

/// T-34: the operator's own networks.
#[tokio::test(flavor = "multi_thread")]
async fn t34_the_operators_networks_are_refused_too() {
    let own: Vec<IpNet> = vec!["93.184.216.0/24".parse().unwrap(), "2606:2800::/32".parse().unwrap()];
    for (address, allowed) in [
        ("93.184.215.255", true),
        ("93.184.216.0", false),
        ("93.184.216.255", false),
        ("93.184.217.0", true),
        ("2606:2800:1::1", false),
        ("2606:2801::1", true),
    ] {
        let lookup = Scripted { answers: vec![vec![address.parse().unwrap()]], asked: Arc::default() };
        let guard = Guard::with(false, vec![443], own.clone(), Box::new(lookup));
        assert_eq!(guard.resolve("hooks.example.com".parse().unwrap()).await.is_ok(), allowed, "{address}");
    }
}

/// T-34: one address that is not public among those of a name is enough; none at all, and far too many, are too.
#[tokio::test(flavor = "multi_thread")]
async fn t34_every_address_of_a_name_must_be_public() {
    let public = |last: u8| IpAddr::from(Ipv4Addr::new(93, 184, 216, last));
    let resolve = async |addresses: Vec<IpAddr>| {
        let (guard, _) = guard(false, vec![443], vec![addresses]);
        let found = guard.resolve("hooks.example.com".parse().unwrap()).await;
        found.map(|found| found.collect::<Vec<SocketAddr>>()).ok()
    };
    assert_eq!(resolve(vec![public(1), public(2)]).await.unwrap().len(), 2);
    assert!(resolve(vec![public(1), Ipv4Addr::LOCALHOST.into()]).await.is_none());
    assert!(resolve(vec![Ipv4Addr::new(10, 0, 0, 1).into(), public(1)]).await.is_none());
    assert!(resolve(vec![public(1), Ipv6Addr::LOCALHOST.into()]).await.is_none());
    assert!(resolve(Vec::new()).await.is_none());
    assert!(resolve((0..=64).map(public).collect()).await.is_none());
}

/// T-34: a name that was public when it was registered and leads inside at the attempt; and one that changes between the
/// look and the connection: there is only one look.
#[tokio::test(flavor = "multi_thread")]
async fn t34_a_name_that_changes_its_answer_leads_nowhere_else() {
    let canary = Canary::start().await;
    let url = format!("https://hooks.example.com:{}/", canary.port);
    let answers = vec![vec![Ipv4Addr::new(93, 184, 216, 34).into()], vec![Ipv4Addr::LOCALHOST.into()]];
    let (rebound, _) = guard(false, vec![canary.port], answers);
    assert!(rebound.check(&url).is_ok());
    assert!(rebound.resolve("hooks.example.com".parse().unwrap()).await.is_ok(), "public at first");
    assert_eq!(post(&rebound, &url).await, Err("address_not_allowed"));

    let receiver = Receiver::start([]).await;
    let port = receiver.url.split(':').nth(2).unwrap().split('/').next().unwrap().to_owned();
    let answers = vec![vec![Ipv4Addr::LOCALHOST.into()], vec![Ipv4Addr::new(127, 0, 0, 2).into()]];
    let (pinned, asked) = guard(true, Vec::new(), answers);
    assert_eq!(post(&pinned, &format!("http://hooks.example.com:{port}/")).await, Ok(204));
    assert_eq!((asked.load(Ordering::Relaxed), receiver.kept().len(), canary.count()), (1, 1, 0));
}

/// T-34: nobody is sent on.
#[tokio::test(flavor = "multi_thread")]
async fn t34_redirects_lead_nowhere() {
    let canary = Canary::start().await;
    let (free, _) = guard(true, Vec::new(), vec![vec![Ipv4Addr::LOCALHOST.into()]]);
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://127.0.0.1:{}/", canary.port);
        let receiver = Receiver::start([Answer::of(status).with("location", &location)]).await;
        assert_eq!(post(&free, &receiver.url).await, Ok(status));
    }
    assert_eq!(canary.count(), 0);
}

/// Whatever stands in the database is checked again at each attempt.
#[tokio::test(flavor = "multi_thread")]
async fn t34_a_private_address_is_not_reached_whatever_is_registered() {
    let canary = Canary::start().await;
    let stand = Stand::with(|config| {
        config.webhook_allow_private = false;
        config.webhook_ports = vec![canary.port];
    })
    .await;
    stand.endpoint_of(stand.account, "https://hooks.example.com/").await;
    stand.happens(EventType::EnvelopeSent, 1);
    stand.follow().await;
    for host in [
        "http://127.0.0.1",
        "https://127.0.0.1",
        "https://[::ffff:127.0.0.1]",
        "https://2130706433",
        "https://localhost.",
    ] {
        let url = format!("{host}:{}", canary.port);
        stand
            .sql(&format!(
                "UPDATE endpoint SET url = '{url}', resting_until = NULL; UPDATE delivery SET next_at = created_at"
            ))
            .await;
        stand.deliver().await;
    }
    assert_eq!(stand.number("SELECT count(*) FROM attempt WHERE failure = 'address_not_allowed'").await, 5);
    assert_eq!(canary.count(), 0);
}

/// This machine's own resolver, for a name that it knows without asking anybody.
#[tokio::test(flavor = "multi_thread")]
async fn t34_a_name_that_leads_inside_has_no_address() {
    let resolve =
        |allow_private| Guard::new(allow_private, vec![443], Vec::new()).resolve("localhost".parse().unwrap());
    assert!(resolve(false).await.is_err());
    assert!(resolve(true).await.is_ok_and(|found| found.count() > 0));
}
