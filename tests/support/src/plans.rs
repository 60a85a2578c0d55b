//! Listens in on a service and its database for the plan of every statement that was run, those inside of functions, triggers and
//! foreign keys among them: Postgres tells them to whoever runs the statement (`auto_explain`), and this stands between the two.
//!
//! It must not change a byte, and must not take a statement of a caller for one of the service's own loops.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::database::{Database, postgres};

/// Of what a client says, the beginning is kept: there sessions are set up.
const BEGINNING_BYTES: usize = 4_096;
/// By which the sessions of loops are known, which see the rows of all accounts.
const ACROSS_ACCOUNTS: &[u8] = b"SET countersign.across_accounts = on";

/// A statement that was run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its text.
    pub statement: String,
    /// Where its plan looks.
    pub looks: BTreeSet<Look>,
    /// How many rows it looked at.
    pub rows: f64,
    /// Whether its session sees the rows of all accounts.
    pub is_across_accounts: bool,
}

/// A table, or a partition of one, in a plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Look {
    /// Its name.
    pub relation: String,
    /// As what it stands in the statement.
    pub alias: String,
    /// Whether it was looked at: a partition that is not the one that is sought may be ruled out while the statement runs, and
    /// whoever has found nothing to look for looks nowhere.
    pub was_made: bool,
}

/// What was heard.
#[derive(Clone, Default)]
pub struct Plans(Arc<Mutex<Vec<Ran>>>);

impl Plans {
    /// Of all statements of whoever uses the database that is given back.
    pub async fn of(database: &Database) -> (Self, Database) {
        // Planned once for all values, as statements that are run often are: then it is not the values that tell the partition.
        let settings = [
            "session_preload_libraries = 'auto_explain'",
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_analyze = on",
            "auto_explain.log_timing = off",
            "auto_explain.log_nested_statements = on",
            "auto_explain.log_format = json",
            "auto_explain.log_level = notice",
            "plan_cache_mode = force_generic_plan",
        ];
        let (name, address) = (&database.name, database.url.parse::<tokio_postgres::Config>().unwrap());
        let role = address.get_user().unwrap();
        let settings = settings.map(|setting| format!("ALTER ROLE {role} IN DATABASE {name} SET {setting}"));
        database.connect().await.batch_execute(&settings.join("; ")).await.unwrap();
        let (plans, far) = (Self::default(), format!("127.0.0.1:{}", postgres().await.port()));
        let near = plans.listen(far.clone()).await;
        let url = database.url.replace(&far, &near);
        assert_ne!(url, database.url);
        (plans, Database { url, ..database.clone() })
    }

    /// What was run since the last time.
    #[must_use]
    pub fn take(&self) -> Vec<Ran> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    async fn listen(&self, far: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let plans = self.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&far).await.unwrap();
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                let beginning = Arc::<Mutex<Vec<u8>>>::default();
                tokio::spawn(ask(from_near, to_far, Arc::clone(&beginning)));
                tokio::spawn(plans.clone().answer(from_far, to_near, beginning));
            }
        });
        address
    }

    /// Passes on what Postgres says, and hears its notices.
    async fn answer(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, beginning: Arc<Mutex<Vec<u8>>>) {
        let (mut held, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            held.extend_from_slice(&buffer[..length]);
            while let Some(message) = first_message(&mut held) {
                if let Some((statement, looks, rows)) = notice(&message).as_deref().and_then(plan) {
                    let said = beginning.lock().unwrap();
                    let is_across_accounts = said.windows(ACROSS_ACCOUNTS.len()).any(|part| part == ACROSS_ACCOUNTS);
                    self.0.lock().unwrap().push(Ran { statement, looks, rows, is_across_accounts });
                }
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    }
}

/// Passes on what a client says, and keeps the beginning.
async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, beginning: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        {
            let mut beginning = beginning.lock().unwrap();
            let room = BEGINNING_BYTES.saturating_sub(beginning.len());
            beginning.extend_from_slice(&buffer[..length.min(room)]);
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
}

/// The first message of what came, once it is whole: a letter, its length, and what it says.
fn first_message(held: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(held.get(1..5)?.try_into().unwrap()) as usize + 1;
    (held.len() >= length).then(|| held.drain(..length).collect())
}

/// The text of a notice.
fn notice(message: &[u8]) -> Option<String> {
    let fields = (*message.first()? == b'N').then(|| message[5..].split(|byte| *byte == 0))?;
    let text = fields.into_iter().find_map(|field| field.strip_prefix(b"M"))?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// The statement of a plan, where that looks, and at how many rows.
fn plan(notice: &str) -> Option<(String, BTreeSet<Look>, f64)> {
    let (_, plan) = notice.split_once("plan:\n")?;
    let plan: Value = serde_json::from_str(plan).expect(plan);
    let mut looks = BTreeSet::new();
    gather(&plan["Plan"], &mut looks);
    Some((plan["Query Text"].as_str().unwrap().to_owned(), looks, rows(&plan["Plan"])))
}

/// The rows of tables that came to a plan, those included that it passed over.
fn rows(node: &Value) -> f64 {
    let number = |key: &str| node[key].as_f64().unwrap_or_default();
    let passed_over = ["Rows Removed by Filter", "Rows Removed by Index Recheck"].map(number).iter().sum::<f64>();
    let own = if node["Relation Name"].is_string() { number("Actual Rows") + passed_over } else { 0.0 };
    own * number("Actual Loops") + node["Plans"].as_array().into_iter().flatten().map(rows).sum::<f64>()
}

/// A partition that was ruled out before the statement began is not in its plan.
fn gather(node: &Value, looks: &mut BTreeSet<Look>) {
    let text = |key: &str| node[key].as_str().map(str::to_owned);
    if let (Some(relation), Some(alias)) = (text("Relation Name"), text("Alias")) {
        let was_made = node["Actual Loops"].as_f64().expect("an analysed plan") > 0.0;
        looks.insert(Look { relation, alias, was_made });
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        gather(child, looks);
    }
}
