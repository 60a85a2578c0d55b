//! Looks at a service's data for what must never be: one read-only transaction under one snapshot, questions in SQL, and a line
//! for each finding.
//!
//! Must never change anything, nor print anything but ids, numbers and the names of what is wrong.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use diesel::QueryableByName;
use diesel::sql_types::{Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use uuid::Uuid;

use crate::config::DatabaseConfig;
use crate::database::{Flight, pool_for_looking};

/// What to look at, and how to tell.
#[derive(Args, Clone, Debug)]
pub struct CheckConfig {
    #[expect(missing_docs, reason = "documented at the group")]
    #[command(flatten)]
    pub database: DatabaseConfig,
    /// Look only at what belongs to this account.
    #[arg(long)]
    pub account: Option<String>,
    /// Print each finding as a line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// Where findings go.
pub type Print<'a> = &'a mut (dyn FnMut(Finding) + Send);

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The invariant that does not hold, such as `ledger.balance`.
    pub invariant: &'static str,
    /// Whose, as an id.
    pub account: Option<String>,
    /// Of what, as an id.
    pub subject: Option<String>,
    /// What is wrong, without anything personal.
    pub detail: String,
}

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How much was looked at, by kind.
    pub looked_at: Vec<(&'static str, u64)>,
    /// How much was found.
    pub findings: u64,
}

/// A question whose every answer is a finding. `$1` is the account, or NULL for all; the columns are `account`, `subject`, both
/// UUIDs or NULL, and `detail`.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The invariant.
    pub invariant: &'static str,
    /// The SQL.
    pub sql: &'static str,
}

/// An answer to a question.
#[derive(Clone, Debug, QueryableByName)]
#[expect(missing_docs, reason = "the columns")]
pub struct Answer {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub account: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub subject: Option<Uuid>,
    #[diesel(sql_type = Text)]
    pub detail: String,
}

/// Answers to a question that are told: where more is wrong the first say enough.
const ANSWERS_MAX: usize = 1_000;

/// The database as of one instant, for reading.
pub struct Snapshot(Flight);

impl Snapshot {
    /// As of now.
    pub async fn open(config: &DatabaseConfig) -> anyhow::Result<Self> {
        let pool = pool_for_looking(config).await?;
        let flight = Flight::open(&pool).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        flight.connection().batch_execute(begin).await.context("no snapshot")?;
        Ok(Self(flight))
    }

    /// The connection, for statements polled together.
    #[must_use]
    pub fn connection(&self) -> &AsyncPgConnection {
        self.0.connection()
    }

    /// The answers to a question; of very many the first, and that there are more.
    pub async fn ask(&self, question: &Question, account: Option<Uuid>) -> anyhow::Result<Vec<Answer>> {
        let query = diesel::sql_query(format!("SELECT * FROM ({}) AS found LIMIT {}", question.sql, ANSWERS_MAX + 1));
        let answers = query.bind::<Nullable<SqlUuid>, _>(account).load(&mut self.connection()).await;
        let mut answers: Vec<Answer> = answers.with_context(|| format!("{} cannot be checked", question.invariant))?;
        if answers.len() > ANSWERS_MAX {
            answers.truncate(ANSWERS_MAX);
            let detail = format!("there are more than these {ANSWERS_MAX}");
            answers.push(Answer { account: None, subject: None, detail });
        }
        Ok(answers)
    }
}

impl Finding {
    /// As a line of text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut line = self.invariant.to_owned();
        for (name, id) in [("account", &self.account), ("subject", &self.subject)] {
            if let Some(id) = id {
                line = format!("{line} {name}={id}");
            }
        }
        format!("{line} {}", self.detail)
    }

    /// As a line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let Self { invariant, account, subject, detail } = self;
        serde_json::json!({ "invariant": invariant, "account": account, "subject": subject, "detail": detail })
            .to_string()
    }
}

impl Summary {
    fn text(&self) -> String {
        let counts: Vec<_> = self.looked_at.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        format!("{} findings in {}", self.findings, counts.join(", "))
    }

    fn json(&self) -> String {
        let counts: serde_json::Map<_, _> =
            self.looked_at.iter().map(|(kind, count)| ((*kind).to_owned(), (*count).into())).collect();
        serde_json::json!({ "findings": self.findings, "looked_at": counts }).to_string()
    }
}

/// Runs a check for an operator: prints what is found and then how much was looked at. Ends with 0 if all is well, with 1 if
/// something was found and with 2 if nobody can say.
pub async fn run(json: bool, check: impl AsyncFnOnce(Print<'_>) -> anyhow::Result<Summary>) -> ExitCode {
    let mut said = Ok(());
    let mut print = |finding: Finding| {
        let line = if json { finding.json() } else { finding.text() };
        said = std::mem::replace(&mut said, Ok(())).and_then(|()| say(&line));
    };
    let checked = check(&mut print).await;
    let checked = checked.and_then(|summary| {
        said?;
        say(&if json { summary.json() } else { summary.text() })?;
        Ok(summary)
    });
    match checked {
        Ok(summary) => ExitCode::from(u8::from(summary.findings > 0)),
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the answer to the operator")]
            {
                eprintln!("could not be checked: {error:#}");
            }
            ExitCode::from(2)
        }
    }
}

fn say(line: &str) -> std::io::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        // Whoever has read enough may have gone: how it ends is still told.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        said => said,
    }
}
