//! What a caller can choose about the Postgres to start, and where its programs are looked for.
//! Must never read a setting of this service from the environment: the caller passes it in.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Enough for several pools of one process.
const CONNECTIONS_DEFAULT: u32 = 200;
const SHARED_BUFFERS_DEFAULT_MB: u32 = 128;
/// Where systems put Postgres; a `*` stands for a version, the newest is taken first.
const PLACES: [&str; 7] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/usr/libexec/postgresql*",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
];

/// Whether the data has to survive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every commit is on disk when it returns.
    Durable,
    /// Faster; a crash of the machine (not of Postgres) may destroy the data.
    Throwaway,
}

/// Which Postgres to start, and with what.
#[derive(Debug, Clone)]
pub struct Options {
    /// Keeps the data between runs; without it a temporary folder is made, and removed at the end.
    pub folder: Option<PathBuf>,
    /// Whether the data has to survive a crash of the machine.
    pub durability: Durability,
    /// The port of 127.0.0.1 to listen on; without it a free one.
    pub port: Option<u16>,
    /// How many clients may be connected at a time.
    pub connections_max: u32,
    /// Memory that Postgres takes for its page cache.
    pub shared_buffers_mb: u32,
    /// Further settings of the server, as `name=value`; they overrule all others.
    pub settings: Vec<String>,
    /// The port of 127.0.0.1 of a server that this one repeats as a streaming replica: its data are copied from there.
    pub follows: Option<u16>,
    /// The folder with `initdb` and `postgres`; nothing is searched or downloaded then.
    pub bin_dir: Option<PathBuf>,
    /// Where the programs are looked for without `bin_dir`.
    pub search: Search,
    /// Hears what takes long.
    pub progress: Progress,
}

impl Options {
    /// A Postgres for tests and trials: temporary folder, no care for crashes of the machine.
    #[must_use]
    pub fn throwaway() -> Self {
        Self {
            folder: None,
            durability: Durability::Throwaway,
            port: None,
            connections_max: CONNECTIONS_DEFAULT,
            shared_buffers_mb: SHARED_BUFFERS_DEFAULT_MB,
            settings: Vec::new(),
            follows: None,
            bin_dir: None,
            search: Search::default(),
            progress: Progress::default(),
        }
    }

    /// A Postgres whose data stays in `folder`, made if absent.
    #[must_use]
    pub fn kept(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), durability: Durability::Durable, ..Self::throwaway() }
    }
}

/// Where the programs of Postgres are looked for, in this order. The default is this machine.
#[derive(Debug, Clone)]
pub struct Search {
    /// Asked with `--bindir`.
    pub pg_config: Option<PathBuf>,
    /// Folders that may hold `initdb` and `postgres`; one `*` in one component stands for a version.
    pub places: Vec<PathBuf>,
    /// More such folders, written like `PATH`.
    pub path: Option<OsString>,
    /// Holds what was downloaded earlier, and takes a new download. Without it nothing is downloaded.
    pub cache_dir: Option<PathBuf>,
    /// Downloads Postgres when it is nowhere else. Without it nothing is downloaded.
    pub npm: Option<PathBuf>,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            pg_config: Some("pg_config".into()),
            places: PLACES.iter().map(PathBuf::from).collect(),
            path: std::env::var_os("PATH"),
            cache_dir: default_cache_dir(),
            npm: Some("npm".into()),
        }
    }
}

impl Search {
    /// Finds nothing; for tests, and as a base for a search of one's own.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { pg_config: None, places: Vec::new(), path: None, cache_dir: None, npm: None }
    }
}

/// Root's own home is closed to the user as which Postgres then runs, so root has another folder.
fn default_cache_dir() -> Option<PathBuf> {
    let mac = cfg!(target_os = "macos");
    let base = if rustix::process::geteuid().is_root() {
        PathBuf::from(if mac { "/Library/Caches" } else { "/var/cache" })
    } else {
        std::env::home_dir()?.join(if mac { "Library/Caches" } else { ".cache" })
    };
    Some(base.join("countersign"))
}

type Hear = dyn Fn(&str) + Send + Sync;

/// Hears in whole sentences what is being done, when it takes long. Everything goes to `tracing` as well.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Hear>>);

impl Progress {
    /// Passes every sentence to `hear`.
    pub fn new(hear: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    pub(super) fn say(&self, sentence: &str) {
        tracing::info!("{sentence}");
        if let Some(hear) = &self.0 {
            hear(sentence);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress(heard)" } else { "Progress(unheard)" })
    }
}
