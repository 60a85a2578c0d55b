//! The database dies under load, and its replica takes its place: nothing that was acknowledged is lost, as nothing is
//! acknowledged that the replica does not have.

use std::time::{Duration, Instant};

use countersign_postgres::{Options, Postgres};

use super::load::{Doors, Load};
use super::{PROCESSES, REST_MAX, WORKERS, database, kept};
use crate::Database;
use crate::stack::{Stack, Ways};

/// How long there is load before, and after.
const LOAD: Duration = Duration::from_secs(4);
/// How long nobody is the database: who watches over it has to notice, and to decide.
const NOBODY: Duration = Duration::from_secs(2);
/// How long until somebody is answered once there is a database again.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Plays it, and panics unless everything holds.
pub async fn take_over(seed: u64) {
    // A commit is answered when the replica has it, too.
    let settings = ["synchronous_standby_names=*", "synchronous_commit=local"].map(str::to_owned).to_vec();
    let mut first = Postgres::start(Options { settings, ..Options::throwaway() }).await.expect("Postgres");
    let databases = (database(&first, "envelopes").await, database(&first, "notices").await);
    let follows = Options { follows: Some(first.port()), ..Options::throwaway() };
    let mut second = Postgres::start(follows).await.expect("a replica");
    for database in [&databases.0, &databases.1] {
        let wait = format!("ALTER DATABASE {} SET synchronous_commit = on", database.name);
        database.connect().await.batch_execute(&wait).await.expect("commits wait");
    }
    let (here, there) = (format!("127.0.0.1:{}", first.port()), format!("127.0.0.1:{}", second.port()));
    // As an operator names them.
    let either = |url: &str| {
        let both = url.replace(&here, &format!("{here},{there}"));
        format!("{both}?target_session_attrs=read-write")
    };
    let (ours, theirs) = (either(&databases.0.url), either(&databases.1.url));
    let ways = Ways { database: &ours, notices: &theirs, envelope: &str::to_owned };
    let mut stack = Stack::new(databases, &ways, PROCESSES, &[]).await;
    let doors = Doors::new(&stack).await;
    let load = Load::start(&doors, WORKERS, seed, None);
    tokio::time::sleep(LOAD).await;
    first.kill_hard().await.expect("it dies");
    tokio::time::sleep(NOBODY).await;
    second.promote().await.expect("it takes over");
    let silent = load.next_answer(SILENCE_MAX).await.expect("somebody is answered");
    for database in [&mut stack.database, &mut stack.notices] {
        *database = Database::at(&second, database.name.clone());
    }
    tokio::time::sleep(LOAD).await;
    let promises = load.stop().await;
    let began = Instant::now();
    stack.settle(REST_MAX).await;
    kept(&stack, &doors, &promises, seed).await;
    stack.settle(REST_MAX).await;
    stack.assert_sound("the replica took over").await;
    eprintln!("{} envelopes, answered {silent:.1?} after, at rest after {:.1?}", promises.len(), began.elapsed());
}
