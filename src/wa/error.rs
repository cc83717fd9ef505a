//! What can go wrong between a caller and WhatsApp.

use std::time::SystemTime;

use super::{app_state::AppStateFault, groups::GroupRefusal};
use crate::{
    domain::{ids::InstanceName, session::SessionState},
    media::MediaError,
    proto::v1::{CallState, PaymentState},
    storage::{InstanceRow, Network, StorageError},
};

/// Why this room could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WaError {
    /// There is no such instance (any more).
    #[error("there is no such instance")]
    InstanceNotFound,
    /// Another instance has the name.
    #[error("another instance is named '{0}'")]
    NameTaken(InstanceName),
    /// The request id was used before with another body, which differs in these fields.
    #[error("this request_id was used before with another body")]
    RequestReused(Vec<String>),
    /// This server has no such network.
    #[error("this server has no {0} network configured")]
    NetworkNotConfigured(&'static str),
    /// The instance has credentials already.
    #[error("the instance is paired already; log it out first")]
    AlreadyPaired,
    /// A pairing is running.
    #[error("another pairing of this instance is running")]
    PairingInProgress,
    /// The instance is in no state for this.
    #[error("the instance is {}", .0.state)]
    NotOpen(Box<InstanceRow>),
    /// WhatsApp knows no account with this number.
    #[error("WhatsApp knows no account with this number")]
    NotOnWhatsApp,
    /// WhatsApp refused the message.
    #[error("WhatsApp refused the message: {0}")]
    MessageRefused(String),
    /// With its mentions the text is longer than WhatsApp takes.
    #[error("with everybody's name the text is longer than WhatsApp takes")]
    TextTooLong,
    /// The message to answer is not stored.
    #[error("the instance has no message with the id to answer")]
    NothingToQuote,
    /// The text is empty.
    #[error("the text is empty")]
    TextEmpty,
    /// The caption is longer than WhatsApp takes.
    #[error("the caption is longer than WhatsApp takes")]
    CaptionTooLong,
    /// A message that is named in this field is not stored.
    #[error("the chat has no message with the id in {0}")]
    NoSuchMessage(&'static str),
    /// A message can't be changed, answered or passed on so.
    #[error("the message can't be used so: {0}")]
    Unchangeable(&'static str),
    /// An answer or a vote names what can't be chosen.
    #[error("{field} {why}")]
    NoChoice {
        /// The field that names it.
        field: &'static str,
        /// What it must be.
        why: &'static str,
    },
    /// Somebody to mention has no account.
    #[error("WhatsApp knows no account of somebody to mention")]
    NobodyToMention(String),
    /// WhatsApp limits whom the account may write to.
    #[error(
        "WhatsApp limits whom the account may write to, and the recipient never wrote to it: {reason}"
    )]
    NewChatsHeld {
        /// Until when.
        until: SystemTime,
        /// Why, with WhatsApp's code.
        reason: String,
    },
    /// The turn of a recipient of a mailing list is over: it was paused or deleted.
    #[error("the recipient's turn is over")]
    TurnIsOver,
    /// A recipient of a mailing list has another turn under another name.
    #[error("another recipient of the list is the same")]
    TurnComesTwice,
    /// The instance has no such mailing list.
    #[error("the instance has no mailing list with this id")]
    QueueNotFound,
    /// The mailing list is done.
    #[error("the mailing list is done")]
    QueueCompleted,
    /// There are too many mailing lists.
    #[error("the instance has too many mailing lists that are not done")]
    TooManyQueues,
    /// The instance knows no such call.
    #[error("the instance knows no call with this id")]
    CallNotFound,
    /// The call is answered, rejected or over.
    #[error("the call rings no more")]
    CallEnded(CallState),
    /// What the account's devices share can't be changed.
    #[error(transparent)]
    AppState(#[from] AppStateFault),
    /// The instance knows no such request for money.
    #[error("the instance knows no request for money with this id")]
    PaymentNotFound,
    /// The request for money is declined, cancelled, over or paid.
    #[error("the request for money is not open any more")]
    PaymentSettled(PaymentState),
    /// Only this one of those concerned may do that.
    #[error("only the {0} of the request may do this")]
    PaymentRole(&'static str),
    /// WhatsApp knows no account of who is to pay.
    #[error("WhatsApp knows no account of the payer")]
    PayerUnknown,
    /// A send has left, or has ended otherwise: with this status.
    #[error("the message has left or is over")]
    SendLeft(i32),
    /// Nobody knows yet whether a send has left.
    #[error("WhatsApp may have the message; it is not known yet")]
    SendMayHaveLeft,
    /// Too many sends wait.
    #[error("too many sends of the instance wait already")]
    OutboxFull,
    /// Something about a group can't be done.
    #[error(transparent)]
    Group(#[from] GroupRefusal),
    /// The file of a message can't be had.
    #[error("{error}")]
    File {
        /// The field of the content that has it.
        kind: &'static str,
        /// What is wrong with it.
        #[source]
        error: MediaError,
    },
    /// A media is gone that was here a moment ago.
    #[error(transparent)]
    Media(MediaError),
    /// WhatsApp's media hosts did not take the file of a message.
    #[error("WhatsApp's media hosts did not take the file; nothing was sent")]
    NotLeft {
        /// What they answered, if they did.
        status: Option<u16>,
        /// More, for our log.
        cause: String,
    },
    /// WhatsApp did not answer in time.
    #[error("WhatsApp did not answer in time: {0}")]
    Timeout(String),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl WaError {
    /// Refuses what needs an open connection.
    pub(super) fn not_open(mut row: InstanceRow) -> Self {
        if row.state == SessionState::Open {
            // The state follows the client by a moment.
            row.state = SessionState::Connecting;
        }
        Self::NotOpen(Box::new(row))
    }

    /// Whether what was asked for may have been done all the same.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(
            self,
            Self::Timeout(_) | Self::ShuttingDown | Self::Storage(_)
        )
    }
}

/// A network's name in messages and metadata.
pub fn network_name(network: Network) -> &'static str {
    match network {
        Network::WhatsApp => "whatsapp",
        Network::Sandbox => "sandbox",
    }
}
