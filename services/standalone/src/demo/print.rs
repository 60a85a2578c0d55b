//! The report as text for the person at the keyboard.
//! Must never say more than the report holds.

use std::fmt::Write as _;

use super::report::{PlayedEnvelope, PlayedEvent, Report};

impl Report {
    /// The timelines, and where the files lie.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for envelope in &self.envelopes {
            self.timeline(&mut text, envelope);
        }
        text.push_str("\nFiles\n");
        for file in &self.artefacts {
            let _ = writeln!(text, "  {}", file.path.display());
            let _ = writeln!(text, "    {}, {} bytes, SHA-256 {}", file.version, file.size_bytes, file.sha256);
        }
        if let Some(mails) = self.mails.first().and_then(|mail| mail.file.parent()) {
            let _ = writeln!(text, "  {}\n    {} mails", mails.display(), self.mails.len());
        }
        let _ = writeln!(text, "\nEverything happened as expected, in {:.1} s.", self.took_ms as f64 / 1000.0);
        text
    }

    fn timeline(&self, text: &mut String, envelope: &PlayedEnvelope) {
        let _ = writeln!(text, "\n{}: {}\n  {}  {}", envelope.story, envelope.status, envelope.id, envelope.subject);
        let Some(first) = envelope.events.first() else { return };
        for event in &envelope.events {
            let offset = (event.time - first.time).num_milliseconds() as f64 / 1000.0;
            let recipient = event.recipient.as_deref().unwrap_or_default();
            let webhook = self.webhook(event);
            let _ = writeln!(text, "  {offset:>+8.3} s  {:<29} {recipient:<25} {webhook}", event.r#type);
            for mail in self.mails.iter().filter(|mail| mail.event_id == event.id) {
                let _ = writeln!(text, "{:14}mail “{}” to {}", "", mail.kind, mail.recipient);
            }
        }
    }

    /// What was posted upon an event.
    fn webhook(&self, event: &PlayedEvent) -> String {
        match self.webhooks.iter().filter(|webhook| webhook.event_id == event.id).count() {
            0 => String::new(),
            1 => "webhook ✓".to_owned(),
            more => format!("webhook ✓ ({more} times)"),
        }
    }
}
