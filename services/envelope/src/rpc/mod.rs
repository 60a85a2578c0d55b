//! The wire: parse, execute, render. Knows protobuf and gRPC; knows no SQL.

pub mod access;
mod account;
mod accounts;
mod auth;
mod changes;
mod create;
mod cursor;
mod data;
mod documents;
mod door;
mod download;
mod drawn;
mod envelope;
mod fields;
mod filename;
mod fresh;
mod history;
mod keep;
mod keys;
mod notices;
mod once;
mod parcel;
mod parse;
mod people;
mod picture;
mod rate;
mod reading;
mod remind;
mod render;
mod seats;
mod settings;
mod signer;
mod source;
mod status;
mod steer;
mod terms;
mod upload;
mod verify;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use countersign::v1;
use countersign::v1::account_service_server::AccountServiceServer;
use countersign::v1::envelope_service_server::EnvelopeServiceServer;
use countersign::v1::signer_service_server::SignerServiceServer;
use countersign_chassis::once::Onces;
use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use self::accounts::Accounts;
pub use self::auth::Authenticator;
use self::door::Authenticated;
pub use self::seats::Seats;
use crate::blobs::Blobs;
use crate::cache::Cache;
use crate::credential::Keyring;
use crate::domain::verify::Entry;
use crate::execute::Executor;
use crate::fetch::Fetcher;
use crate::ingest::pdf::PdfReader;
use crate::pictures::Pictures;
use crate::seal::Recognised;
use crate::store::Store;
use crate::tail::Tail;
use crate::worker::Workers;

/// The services of this process, for health by name.
pub const SERVICES: [&str; 3] =
    ["countersign.v1.EnvelopeService", "countersign.v1.SignerService", "countersign.v1.AccountService"];
/// Requests may carry documents inline up to this, with all the rest; larger ones are uploaded.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the handlers work with.
pub struct Context {
    /// The database.
    pub store: Store,
    /// What executes commands.
    pub executor: Executor,
    /// Envelopes as they were last seen.
    pub cache: Cache,
    /// Networks of peers that are believed about where a person is.
    pub trusted_peers: Vec<IpNet>,
    /// The documents.
    pub blobs: Blobs,
    /// What reads PDFs.
    pub pdfs: PdfReader,
    /// Whether there is something that makes PDFs of what is none.
    pub can_convert: bool,
    /// What fetches documents.
    pub fetcher: Arc<Fetcher>,
    /// Whose seals are known.
    pub recognised: Arc<Recognised>,
    /// What reads them.
    pub workers: Workers,
    /// Pictures of their pages.
    pub pictures: Pictures,
    /// What recognises credentials.
    pub authenticator: Arc<Authenticator>,
    /// Accounts as they were a moment ago.
    pub accounts: Accounts,
    /// Idempotency keys.
    pub onces: Onces,
    /// Tokens.
    pub keyring: Arc<Keyring>,
    /// The end of the feed.
    pub tail: Arc<Tail>,
    /// How many streams there are.
    pub seats: Seats,
    /// How many downloads there are.
    pub downloads: Seats,
    /// How many uploads there are.
    pub uploads: Seats,
    /// Turns at putting documents into one: each takes memory.
    pub combining: Arc<Semaphore>,
    /// Address of the signing page.
    pub signing_url: String,
    /// Pause between heartbeats.
    pub heartbeat: Duration,
    /// How long a stream waits for its consumer.
    pub stall: Duration,
    /// Ends the streams.
    pub stop: CancellationToken,
}

/// A handler of one of the services.
#[derive(Clone)]
struct Handler(Arc<Context>);

/// A stored event in the words of the contract, if its record can be read.
#[must_use]
pub fn event(stored: &Entry) -> Option<v1::Event> {
    // The error might quote the content.
    let unreadable = |error: serde_json::Error| {
        tracing::error!(line = error.line(), column = error.column(), "unreadable record in the feed");
    };
    render::event(stored).map_err(unreadable).ok()
}

/// All services, each behind authentication.
#[must_use]
pub fn routes(context: Context) -> Routes {
    let authenticator = Arc::clone(&context.authenticator);
    let handler = Handler(Arc::new(context));
    let envelopes = EnvelopeServiceServer::new(handler.clone()).max_decoding_message_size(REQUEST_BYTES_MAX);
    Routes::new(Authenticated::new(envelopes, Arc::clone(&authenticator)))
        .add_service(Authenticated::new(SignerServiceServer::new(handler.clone()), Arc::clone(&authenticator)))
        .add_service(Authenticated::new(AccountServiceServer::new(handler), authenticator))
}
