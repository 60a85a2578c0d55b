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
            let offset_ms = (event.time - first.time).num_milliseconds();
            let delivered = self.delivered(event).join(", ");
            let recipient = event.recipient.as_deref().unwrap_or_default();
            let _ = writeln!(
                text,
                "  {:>+8.3} s  {:<30} {recipient:<26} {delivered}",
                offset_ms as f64 / 1000.0,
                event.r#type
            );
        }
    }

    /// What went out upon an event.
    fn delivered(&self, event: &PlayedEvent) -> Vec<String> {
        let came = self.webhooks.iter().filter(|webhook| webhook.event_id == event.id).count();
        let mut delivered = match came {
            0 => Vec::new(),
            1 => vec!["webhook ✓".to_owned()],
            more => vec![format!("webhook ✓ ({more} times)")],
        };
        let mails = self.mails.iter().filter(|mail| mail.event_id == event.id);
        delivered.extend(mails.map(|mail| format!("mail “{}” to {}", mail.kind, mail.recipient)));
        delivered
    }
}
