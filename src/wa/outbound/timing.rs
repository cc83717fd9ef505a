//! When a message is to leave, and what its chat shows until then.

use std::time::{Duration, SystemTime};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use whatsapp_rust::{Client, Jid};

use super::Outbox;
use crate::{domain::recipient::Recipient, proto::v1};

/// A chat stops showing what somebody is doing after some 25 seconds, so it is said again this often.
pub(in crate::wa) const SAY_AGAIN: Duration = Duration::from_secs(10);

/// How long it may take to say it.
const SAY_TIME: Duration = Duration::from_secs(5);

/// When a message is to leave.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// It may wait for a connection.
    pub may_wait: bool,
    /// Not before.
    pub send_time: Option<SystemTime>,
    /// Not after; `None` is a day after it is due.
    pub expire_time: Option<SystemTime>,
    /// How long it is held back.
    pub delay: Duration,
    /// What the chat shows meanwhile.
    pub activity: Option<Activity>,
}

/// What the account seems to be doing in a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Writing.
    Composing,
    /// Recording a voice note.
    Recording,
}

impl Activity {
    /// As a caller says it.
    pub fn of(told: v1::ChatActivity) -> Option<Self> {
        match told {
            v1::ChatActivity::Unspecified => None,
            v1::ChatActivity::Composing => Some(Self::Composing),
            v1::ChatActivity::Recording => Some(Self::Recording),
        }
    }
}

/// Shows a chat what the account seems to be doing until then, or until it is stopped; the chat shows nothing
/// of it afterwards. A chat that can't be shown anything is no failure: the wait is what counts.
pub(in crate::wa) async fn seem(
    client: &Client,
    chat: &Jid,
    activity: Activity,
    until: SystemTime,
    stop: &CancellationToken,
) {
    while let Ok(left) = until.duration_since(SystemTime::now()) {
        say(client, chat, activity).await;
        tokio::select! {
            () = sleep(left.min(SAY_AGAIN)) => {}
            () = stop.cancelled() => break,
        }
    }
    if let Err(error) = client.chatstate().send_paused(chat).await {
        tracing::debug!(%error, "a chat is not shown that the account does nothing");
    }
}

async fn say(client: &Client, chat: &Jid, activity: Activity) {
    let saying = async {
        match activity {
            Activity::Composing => client.chatstate().send_composing(chat).await.is_ok(),
            Activity::Recording => client.chatstate().send_recording(chat).await.is_ok(),
        }
    };
    if !timeout(SAY_TIME, saying).await.unwrap_or(false) {
        tracing::debug!("a chat is not shown what the account does");
    }
}

impl Outbox {
    /// Shows a recipient once what the account seems to be doing, for as long as chats show that.
    pub(in crate::wa) async fn show(
        &self,
        client: &Client,
        recipient: &Recipient,
        activity: Activity,
    ) {
        if let Ok(to) = self.addresses.resolve(client, recipient).await {
            say(client, &to.to, activity).await;
        }
    }
}
