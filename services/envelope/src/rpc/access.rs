//! Who may call what: one line for each call of the services here. A call without a line is refused to everybody, and a
//! test fails. `docs/access.md` is made from this table.

use crate::domain::account::Permission;

/// What a credential stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// An account, by an API key or a token of the identity provider.
    Sender,
    /// A recipient, by a signing token.
    Recipient,
    /// The notifier.
    Notifier,
    /// Who runs the service.
    Operator,
}

/// Who may make a call.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// The call, as in the path of a request.
    pub path: &'static str,
    /// By whom.
    pub callers: &'static [Who],
    /// What a sender's key must be for.
    pub permission: Option<Permission>,
    /// Whether it changes something: not for suspended accounts.
    pub changes: bool,
}

const fn read(path: &'static str, callers: &'static [Who], permission: Permission) -> Access {
    Access { path, callers, permission: Some(permission), changes: false }
}

const fn change(path: &'static str, callers: &'static [Who], permission: Permission) -> Access {
    Access { path, callers, permission: Some(permission), changes: true }
}

const fn by_recipient(path: &'static str, changes: bool) -> Access {
    Access { path, callers: &[Who::Recipient], permission: None, changes }
}

const fn by_operator(path: &'static str) -> Access {
    Access { path, callers: &[Who::Operator], permission: None, changes: true }
}

use Permission::{
    AccountRead, AccountWrite, EnvelopesErase, EnvelopesHold, EnvelopesRead, EnvelopesSend, EnvelopesWrite, EventsRead,
    UsersWrite,
};
use Who::{Notifier, Operator, Sender};

/// All calls. `CreateEnvelope` with `send` needs `envelopes.send` besides.
pub const TABLE: [Access; 57] = [
    change("/countersign.v1.EnvelopeService/UploadDocument", &[Sender], EnvelopesWrite),
    change("/countersign.v1.EnvelopeService/CreateEnvelope", &[Sender], EnvelopesWrite),
    change("/countersign.v1.EnvelopeService/UpdateEnvelope", &[Sender], EnvelopesWrite),
    change("/countersign.v1.EnvelopeService/AddFields", &[Sender], EnvelopesWrite),
    change("/countersign.v1.EnvelopeService/RemoveFields", &[Sender], EnvelopesWrite),
    change("/countersign.v1.EnvelopeService/ReplaceDocument", &[Sender], EnvelopesWrite),
    change("/countersign.v1.EnvelopeService/DiscardEnvelope", &[Sender], EnvelopesWrite),
    read("/countersign.v1.EnvelopeService/GetEnvelope", &[Sender, Notifier, Operator], EnvelopesRead),
    read("/countersign.v1.EnvelopeService/ListEnvelopes", &[Sender], EnvelopesRead),
    change("/countersign.v1.EnvelopeService/SendEnvelope", &[Sender], EnvelopesSend),
    change("/countersign.v1.EnvelopeService/VoidEnvelope", &[Sender, Operator], EnvelopesSend),
    change("/countersign.v1.EnvelopeService/DeclineRecipient", &[Sender], EnvelopesSend),
    change("/countersign.v1.EnvelopeService/ExtendEnvelope", &[Sender], EnvelopesSend),
    change("/countersign.v1.EnvelopeService/ReassignRecipient", &[Sender], EnvelopesSend),
    change("/countersign.v1.EnvelopeService/ResendEnvelope", &[Sender], EnvelopesSend),
    change("/countersign.v1.EnvelopeService/RemindRecipients", &[Sender], EnvelopesSend),
    Access {
        path: "/countersign.v1.EnvelopeService/ReportBounce",
        callers: &[Notifier],
        permission: None,
        changes: true,
    },
    change("/countersign.v1.EnvelopeService/ReplaceEnvelope", &[Sender], EnvelopesWrite),
    read("/countersign.v1.EnvelopeService/WhoseTurn", &[Sender, Notifier, Operator], EnvelopesRead),
    read("/countersign.v1.EnvelopeService/VerifyHistory", &[Sender, Notifier, Operator], EnvelopesRead),
    read("/countersign.v1.EnvelopeService/VerifyDocument", &[Sender], EnvelopesRead),
    read("/countersign.v1.EnvelopeService/DownloadDocument", &[Sender, Notifier], EnvelopesRead),
    read("/countersign.v1.EnvelopeService/GetEnvelopeData", &[Sender], EnvelopesRead),
    read("/countersign.v1.EnvelopeService/RenderPage", &[Sender], EnvelopesRead),
    read("/countersign.v1.EnvelopeService/ListEvents", &[Sender, Notifier, Operator], EnvelopesRead),
    read("/countersign.v1.EnvelopeService/WatchStatusChanges", &[Sender, Notifier], EventsRead),
    read("/countersign.v1.EnvelopeService/ListStatusChanges", &[Sender, Notifier], EventsRead),
    read("/countersign.v1.EnvelopeService/GetSigningLink", &[Sender, Notifier], EnvelopesSend),
    change("/countersign.v1.EnvelopeService/UpdateRetention", &[Sender], EnvelopesSend),
    change("/countersign.v1.EnvelopeService/SetLegalHold", &[Sender, Operator], EnvelopesHold),
    change("/countersign.v1.EnvelopeService/DeleteEnvelopeContent", &[Sender, Operator], EnvelopesErase),
    by_recipient("/countersign.v1.SignerService/GetSigningSession", false),
    by_recipient("/countersign.v1.SignerService/MarkViewed", true),
    by_recipient("/countersign.v1.SignerService/DownloadDocument", false),
    by_recipient("/countersign.v1.SignerService/RenderPage", false),
    by_recipient("/countersign.v1.SignerService/FillFields", true),
    by_recipient("/countersign.v1.SignerService/Sign", true),
    by_recipient("/countersign.v1.SignerService/Approve", true),
    by_recipient("/countersign.v1.SignerService/Decline", true),
    change("/countersign.v1.SignerService/DeclineByUser", &[Sender], UsersWrite),
    by_recipient("/countersign.v1.SignerService/DelegateSigning", true),
    by_recipient("/countersign.v1.SignerService/MuteReminders", true),
    by_operator("/countersign.v1.AccountService/CreateAccount"),
    read("/countersign.v1.AccountService/GetAccount", &[Sender, Notifier, Operator], AccountRead),
    change("/countersign.v1.AccountService/UpdateAccountSettings", &[Sender, Operator], AccountWrite),
    by_operator("/countersign.v1.AccountService/SuspendAccount"),
    by_operator("/countersign.v1.AccountService/ResumeAccount"),
    change("/countersign.v1.AccountService/CreateApiKey", &[Sender, Operator], AccountWrite),
    read("/countersign.v1.AccountService/ListApiKeys", &[Sender, Operator], AccountRead),
    change("/countersign.v1.AccountService/RotateApiKey", &[Sender, Operator], AccountWrite),
    change("/countersign.v1.AccountService/RevokeApiKey", &[Sender, Operator], AccountWrite),
    by_operator("/countersign.v1.AccountService/GrantCredits"),
    read("/countersign.v1.AccountService/GetCreditBalance", &[Sender, Operator], AccountRead),
    read("/countersign.v1.AccountService/ListLedger", &[Sender, Operator], AccountRead),
    Access {
        path: "/countersign.v1.AccountService/GetCallerIdentity",
        callers: &[Sender],
        permission: None,
        changes: false,
    },
    change("/countersign.v1.AccountService/CreateUserToken", &[Sender], UsersWrite),
    change("/countersign.v1.AccountService/RevokeUserToken", &[Sender], UsersWrite),
];

/// The line of a call.
pub(super) fn of(path: &str) -> Option<&'static Access> {
    TABLE.iter().find(|access| access.path == path)
}
