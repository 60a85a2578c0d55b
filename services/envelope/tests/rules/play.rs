//! One envelope, one command after another.

use chrono::{DateTime, TimeDelta, Utc};
use countersign_envelope::domain::command::{Actor, By, Command};
use countersign_envelope::domain::decide::{Verdict, decide};
use countersign_envelope::domain::envelope::{Envelope, Version};
use countersign_envelope::domain::event::{Event, EventType};
use countersign_envelope::domain::id::{KeyId, RecipientId};
use countersign_envelope::domain::particulars::Source;
use countersign_envelope::domain::recipient::Channel;
use countersign_envelope::domain::record::{Recorded, seal};
use countersign_envelope::domain::refusal::Why;

use crate::shape::{Count, act, decline, start, store, text, uuid};

/// An envelope with its history so far.
pub struct Play {
    pub envelope: Envelope,
    pub history: Vec<Recorded>,
    pub now: DateTime<Utc>,
    mint: Count,
}

/// The sender, from some machine.
pub fn sender() -> By {
    let source = Source { client_ip: "203.0.113.9".parse().ok(), user_agent: Some(text("Netscape/4.0")) };
    By { actor: Actor::Sender(KeyId::from_uuid(uuid(4))), source }
}

impl Play {
    pub fn new(envelope: Envelope) -> Self {
        Self { envelope, history: Vec::new(), now: start(), mint: Count(1_000_000) }
    }

    /// An envelope that has just been sent.
    pub fn sent(envelope: Envelope) -> Self {
        let mut play = Self::new(envelope);
        play.done(&Command::Send);
        play
    }

    pub fn wait(&mut self, time: TimeDelta) {
        self.now += time;
    }

    pub fn events(&mut self, events: &[Event]) -> Vec<EventType> {
        let recorded = seal(&mut self.envelope, events, &sender(), self.now, &mut self.mint);
        let kinds = recorded.iter().map(|event| event.kind).collect();
        self.history.extend(recorded);
        kinds
    }

    /// What becomes of a command, and what happens.
    pub fn tries(&mut self, command: &Command) -> (Verdict, Vec<EventType>) {
        let decision = decide(&self.envelope, command, None, self.now);
        let kinds = self.events(&decision.events);
        (decision.verdict, kinds)
    }

    /// A command that is accepted, and what happens.
    #[track_caller]
    pub fn done(&mut self, command: &Command) -> Vec<EventType> {
        let (verdict, kinds) = self.tries(command);
        assert_eq!(verdict, Verdict::Done, "{command:?}");
        kinds
    }

    /// A command of which nothing comes, because it had been done before.
    #[track_caller]
    pub fn again(&mut self, command: &Command) {
        let before = self.envelope.clone();
        assert_eq!(self.tries(command), (Verdict::AlreadyDone, Vec::new()), "{command:?}");
        assert_eq!(self.envelope, before);
    }

    /// A command that is refused, and why. Nothing changes.
    #[track_caller]
    pub fn refused(&mut self, command: &Command) -> Why {
        let before = self.envelope.clone();
        let (Verdict::Refused(refusal), kinds) = self.tries(command) else { panic!("{command:?} was accepted") };
        assert_eq!((&self.envelope, kinds), (&before, Vec::new()));
        refusal.why
    }

    #[track_caller]
    pub fn signs(&mut self, recipient: RecipientId) -> Vec<EventType> {
        self.done(&Command::Sign(act(&self.envelope, recipient)))
    }

    #[track_caller]
    pub fn approves(&mut self, recipient: RecipientId) -> Vec<EventType> {
        self.done(&Command::Approve(act(&self.envelope, recipient)))
    }

    /// With their token and without a reason.
    #[track_caller]
    pub fn declines(&mut self, recipient: RecipientId) -> Vec<EventType> {
        self.done(&decline(recipient, Channel::SigningToken, None))
    }

    #[track_caller]
    pub fn stored(&mut self) -> Vec<EventType> {
        self.done(&store(&self.envelope, Version::Signed))
    }

    /// The number of a recipient's state.
    pub fn state(&self, recipient: RecipientId) -> u8 {
        self.envelope.recipient(recipient).unwrap().status()
    }
}
