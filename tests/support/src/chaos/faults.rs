//! What strikes.

use std::process::Command;
use std::time::Duration;

use countersign_postgres::Postgres;
use tokio_postgres::NoTls;

use super::proxy::{Mode, Proxy};
use super::silence::Cable;
use super::{Clocks, Dice, Plan};
use crate::small_disk::SmallDisk;
use crate::stack::Stack;

/// How long a process stands still: longer than the lease of a partition.
const PAUSE: Duration = Duration::from_secs(4);
/// How long nothing arrives at Postgres: longer than a service bears its saying nothing.
const SILENCE: Duration = Duration::from_secs(12);
/// How long Postgres may need to be back.
const BACK_MAX: Duration = Duration::from_secs(30);
/// By how much a clock is set.
const AN_HOUR: i64 = 3_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    KillService,
    KillPostgres,
    KillBackend,
    Pause,
    PausePostgres,
    PauseBackend,
    Silence,
    SetClock,
    FillDisk,
    /// Of a connection to Postgres, or of the notifier's to the envelope service.
    Cut(Mode),
}

/// What they strike, and by which dice.
pub struct Faults {
    pub postgres: Postgres,
    /// Where its tables lie, if there could be one.
    pub disk: Option<SmallDisk>,
    pub clocks: Clocks,
    /// The way to it, if anybody may cut it.
    pub cable: Option<Cable>,
    /// Between the services and Postgres.
    pub database: Proxy,
    /// Between the notifiers and the envelope service.
    pub stream: Proxy,
    pub dice: Dice,
}

impl Faults {
    /// Everything that is planned, in the order of the dice.
    pub fn schedule(&mut self, plan: &Plan) -> Vec<Fault> {
        let times = |count: u32, fault| std::iter::repeat_n(fault, count as usize);
        let mut all: Vec<Fault> = times(plan.service_kills, Fault::KillService).collect();
        all.extend(times(plan.postgres_kills.div_ceil(2), Fault::KillPostgres));
        all.extend(times(plan.postgres_kills / 2, Fault::KillBackend));
        all.extend(times(plan.pauses, Fault::Pause));
        all.extend(times(plan.postgres_pauses.div_ceil(2), Fault::PausePostgres));
        all.extend(times(plan.postgres_pauses / 2, Fault::PauseBackend));
        all.extend(times(plan.clocks, Fault::SetClock));
        if self.cable.is_some() {
            all.extend(times(plan.silences, Fault::Silence));
        }
        if self.disk.is_some() {
            all.extend(times(plan.fills, Fault::FillDisk));
        }
        all.extend((0..plan.cuts as usize).map(|number| Fault::Cut(Mode::ALL[number % Mode::ALL.len()])));
        self.dice.shuffle(&mut all);
        all
    }

    pub async fn strike(&mut self, fault: Fault, stack: &mut Stack) {
        let which = self.dice.below(stack.envelopes.len() + stack.notifiers.len());
        let away = self.dice.milliseconds(0, 250);
        let places = &mut stack.envelopes.iter_mut().chain(&mut stack.notifiers);
        match fault {
            Fault::KillService => {
                let place = places.nth(which).unwrap();
                place.kill().await;
                tokio::time::sleep(away).await;
                place.start().await;
            }
            Fault::KillPostgres => {
                self.postgres.kill_hard().await.expect("killed");
                tokio::time::sleep(away).await;
                self.postgres.restart().await.expect("started again");
            }
            Fault::KillBackend => {
                if let Some(backend) = self.backend(stack).await {
                    signal("KILL", backend);
                }
            }
            Fault::Pause => pause(places.nth(which).and_then(|place| place.pid()).unwrap()).await,
            Fault::PausePostgres => pause(self.postgres.pid()).await,
            Fault::PauseBackend => {
                if let Some(backend) = self.backend(stack).await {
                    pause(backend).await;
                }
            }
            Fault::Silence => {
                let cut = self.cable.and_then(Cable::cut).expect("it may be cut");
                tokio::time::sleep(SILENCE).await;
                drop(cut);
            }
            Fault::SetClock => {
                let by = if self.dice.below(2) == 0 { AN_HOUR } else { -AN_HOUR };
                self.clocks.set(places.nth(which).unwrap(), by);
            }
            Fault::FillDisk => {
                let disk = self.disk.as_ref().expect("there is one");
                disk.fill();
                tokio::time::sleep(self.dice.milliseconds(500, 2_000)).await;
                disk.make_room();
            }
            Fault::Cut(mode) => {
                // Those who follow the stream send no COMMIT.
                let proxy = if which.is_multiple_of(2) && mode.is_of_any() { &self.stream } else { &self.database };
                proxy.set(mode);
                tokio::time::sleep(self.dice.milliseconds(200, 900)).await;
                proxy.set(Mode::Through);
            }
        }
    }

    /// One that serves somebody.
    async fn backend(&mut self, stack: &Stack) -> Option<i32> {
        let all = backends(stack).await;
        if all.is_empty() { None } else { Some(all[self.dice.below(all.len())]) }
    }

    /// Nothing strikes any more, and Postgres is there.
    pub async fn heal(&self, stack: &Stack) {
        self.database.set(Mode::Through);
        self.stream.set(Mode::Through);
        backends(stack).await;
    }
}

/// Those that serve somebody, once Postgres is back from what struck before.
async fn backends(stack: &Stack) -> Vec<i32> {
    let asked = async || {
        let (client, connection) = tokio_postgres::connect(&stack.database.superuser_url, NoTls).await?;
        tokio::spawn(connection);
        let of = "SELECT pid FROM pg_stat_activity WHERE usename <> 'postgres' AND backend_type = 'client backend' ORDER BY pid";
        client.query(of, &[]).await
    };
    let answered = async {
        loop {
            if let Ok(rows) = asked().await {
                break rows.iter().map(|row| row.get(0)).collect();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(BACK_MAX, answered).await.expect("Postgres comes back")
}

async fn pause(pid: i32) {
    signal("STOP", pid);
    tokio::time::sleep(PAUSE).await;
    signal("CONT", pid);
}

fn signal(name: &str, pid: i32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().expect("kill");
    // Who is gone by itself needs no signal.
    if !sent.success() {
        eprintln!("chaos: {pid} was gone before SIG{name}");
    }
}
