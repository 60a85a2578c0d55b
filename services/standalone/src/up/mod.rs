//! The same stack until Ctrl-C, with data that stays and a session for grpcurl to paste.
//! Must never show another key on a later run than on the first.

mod session;

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::private_file;
use crate::stack::{self, Stack};
use countersign_postgres::Progress;
use session::Session;

const ROOT_DATA: &str = "/var/lib/countersign";
const ACCOUNT_FILE: &str = "demo-account.json";

/// Where the data is, and how the services are reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keeps everything, made if absent.
    pub data: PathBuf,
    /// Taken if it is free.
    pub envelope_port: u16,
    /// Taken if it is free.
    pub notifier_port: u16,
    /// Hears what takes long.
    pub progress: Progress,
}

/// The account that is made at the first run.
#[derive(Serialize, Deserialize)]
struct DemoAccount {
    account_id: String,
    api_key: String,
}

/// For root `/var/lib/countersign`, for others `countersign` in `$XDG_DATA_HOME`, or in `~/.local/share` without one.
///
/// # Errors
/// When this user has no home.
pub fn default_data() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(ROOT_DATA.into());
    }
    let given = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = given.or_else(|| Some(std::env::home_dir()?.join(".local/share")));
    Ok(base.context("there is no home folder: name a folder with --data")?.join("countersign"))
}

/// Runs until `stop`, then ends everything in order.
///
/// # Errors
/// When the stack does not start, breaks, or does not end in order.
pub async fn run(options: Options, say: &(dyn Fn(&str) + Send + Sync), stop: &CancellationToken) -> Result<()> {
    let wanted = stack::Options {
        envelope_port: Some(options.envelope_port),
        notifier_port: Some(options.notifier_port),
        progress: options.progress.clone(),
        ..stack::Options::kept(&options.data)
    };
    let Some(mut stack) = Stack::start_unless(wanted, stop).await? else { return Ok(()) };
    let ran = serve(&mut stack, &options, say, stop).await;
    let stopped = stack.stop().await;
    ran.and(stopped)
}

async fn serve(
    stack: &mut Stack,
    options: &Options,
    say: &(dyn Fn(&str) + Send + Sync),
    stop: &CancellationToken,
) -> Result<()> {
    let account = demo_account(stack).await?;
    let session = Session::prepare(stack.folder(), &stack.envelope_address().to_string(), &account.api_key).await?;
    say(&greeting(stack, options, &account, &session));
    tokio::select! {
        () = stop.cancelled() => Ok(()),
        why = stack.broken() => Err(why),
    }
}

/// The account of the first run.
async fn demo_account(stack: &Stack) -> Result<DemoAccount> {
    let path = stack.folder().join(ACCOUNT_FILE);
    if let Some(account) = private_file::read(&path)? {
        return Ok(account);
    }
    let made = stack.create_account("Demonstration", false).await?;
    let account = DemoAccount { account_id: made.id.to_string(), api_key: made.api_key };
    private_file::write(&path, &account)?;
    Ok(account)
}

fn greeting(stack: &Stack, options: &Options, account: &DemoAccount, session: &Session) -> String {
    let (envelope, notifier) = (stack.envelope_address(), stack.notifier_address());
    let other = |is: u16, wanted: u16| {
        if is == wanted || wanted == 0 { String::new() } else { format!("  (port {wanted} is taken)") }
    };
    format!(
        "Countersign runs until Ctrl-C.\n\n  \
           envelope service  {envelope}{}\n  \
           notifier          {notifier}{}\n  \
           data              {}\n  \
           mails             {}\n  \
           account           {}\n  \
           test key          {}\n\n\
         A session for grpcurl, to paste into another terminal (it is also in {}):\n\n{}",
        other(envelope.port(), options.envelope_port),
        other(notifier.port(), options.notifier_port),
        stack.folder().display(),
        stack.mail_folder().display(),
        account.account_id,
        account.api_key,
        session.file.display(),
        session.script,
    )
}
