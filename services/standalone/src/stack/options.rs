//! What a caller can choose about a stack.
//! Must never read a setting from the environment: the caller passes it in.

use std::path::PathBuf;

use countersign_chassis::clock::Clock;

use countersign_postgres::Progress;

/// Where a stack keeps its things, and how it is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Keeps everything between runs, made if absent; without it everything is in temporary folders, removed at the end.
    pub folder: Option<PathBuf>,
    /// Puts the mails elsewhere than in `mail/` of the folder.
    pub mail: Option<PathBuf>,
    /// The port of 127.0.0.1 that the envelope service takes if it is free; without it, or if not, a free one.
    pub envelope_port: Option<u16>,
    /// The same for the notifier.
    pub notifier_port: Option<u16>,
    /// The clock of the envelope service: the database's, or one that a test moves.
    pub envelope_clock: Clock,
    /// The clock of the notifier: the same, or one of its own.
    pub notifier_clock: Clock,
    /// Whether webhook endpoints have to answer a challenge before anything is posted to them.
    pub webhook_challenge: bool,
    /// The program that reads documents, as `PROGRAM paper-worker`. Without it this one, which must have that subcommand.
    pub paper_worker: Option<PathBuf>,
    /// Hears what takes long.
    pub progress: Progress,
}

impl Options {
    /// A stack for tests and trials: free ports, nothing stays.
    #[must_use]
    pub fn throwaway() -> Self {
        Self {
            folder: None,
            mail: None,
            envelope_port: None,
            notifier_port: None,
            envelope_clock: Clock::database(),
            notifier_clock: Clock::database(),
            webhook_challenge: false,
            paper_worker: None,
            progress: Progress::default(),
        }
    }

    /// A stack on free ports whose data stays in `folder`.
    #[must_use]
    pub fn kept(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), ..Self::throwaway() }
    }
}
