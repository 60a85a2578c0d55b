//! One account's sends beside those of many: whether what an account's calls share, its ledger above all, holds them up.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use countersign::v1::account_service_client::AccountServiceClient;
use countersign::v1::{Amount, GrantCreditsRequest};
use countersign_envelope::domain::id::EnvelopeId;
use countersign_envelope::serve::{NewAccount, create_account};
use tonic::Request;

use crate::load::{Call, Caller, Measured, Stock, drive_each, median};
use crate::report::{Section, met, pipes};
use crate::sample::{Change, Kind};
use crate::settings::OPERATOR_KEY;
use crate::stage::{Stage, UNBOUND};
use crate::{Cli, STOCK_PER_SECOND, running, scripts};

/// The share of many accounts' sends that one account should reach.
const TARGET: f64 = 0.75;
/// What each account has to spend.
const CREDITS: i64 = 10_000_000;

/// Measures both, in turns.
pub async fn measure(cli: &Cli, stage: &Stage) -> Result<Section> {
    let accounts = accounts(stage, cli.concurrency).await?;
    let [mut one, mut many]: [Vec<Measured>; 2] = Default::default();
    for number in 0..=cli.rounds {
        // Connections, statements and caches: that round does not count.
        let seconds = if number == 0 { 1 } else { u64::from(cli.seconds) };
        for is_one in if number % 2 == 0 { [false, true] } else { [true, false] } {
            let of = if is_one { accounts.get(..1).context("none")? } else { &accounts[..] };
            let measured = turn(cli, stage, of, seconds).await?;
            if number > 0 {
                if is_one { &mut one } else { &mut many }.push(measured);
            }
        }
    }
    Ok(section(&one, &many, accounts.len()))
}

fn section(one: &[Measured], many: &[Measured], count: usize) -> Section {
    let ratios: Vec<f64> = one.iter().zip(many).map(|(one, many)| one.per_second / many.per_second).collect();
    let (lowest, highest) =
        ratios.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), it| (low.min(*it), high.max(*it)));
    let ratio = median(ratios);
    let verdict = met(ratio >= TARGET);
    let row = |name: String, of: &[Measured]| {
        let ms = |index: usize| median(of.iter().map(|it| it.percentiles_ms[index]).collect());
        let per_second = median(of.iter().map(|it| it.per_second).collect());
        [name, format!("{per_second:.0}"), format!("{:.1}", ms(0)), format!("{:.1}", ms(1)), format!("{:.1}", ms(2))]
    };
    let mut text =
        "SendEnvelope of live envelopes, each of which costs a credit: the ledger takes part, and numbers an \
                    account's entries one after the other. As many calls at a time on one account as on many.\n\n"
            .to_owned();
    let rows = [row("one account".into(), one), row(format!("{count} accounts"), many)];
    pipes(&mut text, &["sends of", "requests/s", "p50 ms", "p95 ms", "p99 ms"], &rows);
    text.push_str(&format!(
        "\nOne account reaches {ratio:.2} ({lowest:.2}–{highest:.2}) of what many reach (target: {TARGET:.2}, {verdict}).\n"
    ));
    let verdicts = vec![format!("One account's sends reach {TARGET:.2} of many accounts': {verdict}, {ratio:.2}.")];
    Section { title: "One account's sends", text, verdicts }
}

/// Live accounts with credits.
async fn accounts(stage: &Stage, count: u32) -> Result<Vec<NewAccount>> {
    let config = stage.config();
    let mut operator = AccountServiceClient::new(running::connect(stage.address()).await?);
    let mut accounts = Vec::new();
    for number in 0..count {
        let account = create_account(&config.database, &config.keys, &format!("Sender {number}"), true).await?;
        let amount = Some(Amount { unit: "CREDIT".into(), value: CREDITS });
        let mut request =
            Request::new(GrantCreditsRequest { amount, idempotency_key: "bench".into(), ..Default::default() });
        request.metadata_mut().insert("authorization", format!("Bearer {OPERATOR_KEY}").parse()?);
        request.metadata_mut().insert("countersign-account", account.id.to_string().parse()?);
        operator.grant_credits(request).await?;
        accounts.push(account);
    }
    stage.database().batch_execute(UNBOUND).await?;
    Ok(accounts)
}

/// Sends on those accounts, with the same number of calls at a time however many they are.
async fn turn(cli: &Cli, stage: &Stage, accounts: &[NewAccount], seconds: u64) -> Result<Measured> {
    let each = seconds * STOCK_PER_SECOND[0] / accounts.len() as u64;
    let mut calls = Vec::new();
    for account in accounts {
        calls.push((account, Call::Send(stock(stage, account, stage.numbers(each)).await?)));
    }
    stage.database().batch_execute("ANALYZE envelope, recipient, document, field").await?;
    stage.settle().await?;
    let calls = calls.iter().cycle().zip(stage.callers().iter().cycle()).take(cli.concurrency as usize);
    let calls = calls.map(|((account, call), caller)| Ok((caller.with_key(&account.api_key)?, call.clone())));
    let calls: Vec<(Caller, Call)> = calls.collect::<Result<_>>()?;
    let before = charges(stage).await?;
    let measured = drive_each(calls, Duration::from_secs(seconds)).await?;
    let charged = (charges(stage).await? - before) as f64;
    ensure!((charged - measured.calls).abs() < 0.5, "{charged} charges for {} sends", measured.calls);
    Ok(measured)
}

/// Drafts of that account.
async fn stock(stage: &Stage, account: &NewAccount, numbers: Range<u64>) -> Result<Stock> {
    let changes = [
        Change { table: None, column: "account_id", sql: format!("'{}'::uuid", account.id.uuid()) },
        Change { table: None, column: "livemode", sql: "true".to_owned() },
    ];
    stage.sample(Kind::Send)?.stock(stage.database(), numbers.clone(), &changes).await?;
    let ids = numbers.map(|number| Ok(EnvelopeId::from_uuid(scripts::id(number)?).to_string()));
    Ok(Stock::new(ids.collect::<Result<_>>()?))
}

/// Charges in the ledger so far.
async fn charges(stage: &Stage) -> Result<i64> {
    Ok(stage.database().query_one("SELECT count(*) FROM ledger_entry WHERE kind = 2", &[]).await?.try_get(0)?)
}
