//! Those who talk through the gateway: phones that write to it, callers that have it write, and the
//! eyes that watch every phone's screen.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::StreamExt as _;
use rand::{RngExt as _, rngs::StdRng};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use wagate::{
    proto::v1,
    sandbox::{GroupId, GroupText, Number, Sandbox, SandboxError, SentText},
};

use crate::{
    api::{Api, passes_by_itself},
    gateway::Door,
    ledger::{Inbound, Ledger, Outbound, Recipient, Seen},
};

/// How long a call may take, longer than the gateway takes for one.
const CALL_TIME: Duration = Duration::from_secs(60);

/// Pause before a refused call is made again.
const RETRY_PAUSE: Duration = Duration::from_millis(40);

/// Calls that may be refused one after the other before somebody asks why.
const MOST_REFUSALS: u32 = 2_000;

/// An account of the gateway.
#[derive(Clone, Debug)]
pub struct Account {
    /// Id of the instance.
    pub id: String,
    /// Name of the instance.
    pub name: String,
    pub number: Number,
}

/// Where a phone writes.
#[derive(Clone, Copy)]
pub enum Place {
    /// To an account of the gateway, by its index.
    Instance(usize),
    /// Into a group that all accounts are in.
    Group {
        group: GroupId,
        /// An account that does not get the key and has to ask for it.
        keyless: Option<usize>,
    },
}

/// Something a phone is to write.
pub struct Errand {
    pub to: Place,
    pub text: String,
}

/// Something a caller is to have sent.
pub struct Order {
    pub instance: usize,
    pub to: Recipient,
    /// Who reads it there.
    pub readers: Vec<Number>,
    pub text: String,
    pub request_id: String,
    /// Give the first call up after so long, as a caller with little patience.
    pub patience: Option<Duration>,
    /// Call again although it was answered.
    pub repeat: bool,
    /// Only have it accepted, to leave after so many milliseconds.
    pub held: Option<u32>,
}

/// A phone at work until its errands end.
pub async fn phone(
    network: Sandbox,
    number: Number,
    accounts: Arc<[Account]>,
    mut errands: mpsc::UnboundedReceiver<Errand>,
    mut chance: StdRng,
    ledger: Arc<Ledger>,
) -> anyhow::Result<()> {
    while let Some(errand) = errands.recv().await {
        let sent = loop {
            match write(&network, number, &accounts, &errand).await {
                Ok(sent) => break sent,
                // Nothing was sent; the phone comes back by itself.
                Err(SandboxError::NotConnected(_)) => sleep(RETRY_PAUSE).await,
                Err(error) => return Err(error).context("a phone can't send"),
            }
        };
        let (readers, in_group) = match errand.to {
            Place::Instance(one) => (one..one + 1, false),
            Place::Group { .. } => (0..accounts.len(), true),
        };
        ledger
            .books()
            .inbound
            .extend(readers.map(|instance| Inbound {
                phone: number,
                instance,
                in_group,
                text: errand.text.clone(),
                message_id: sent.id.clone(),
            }));
        sleep(Duration::from_millis(chance.random_range(0..15))).await;
    }
    Ok(())
}

async fn write(
    network: &Sandbox,
    from: Number,
    accounts: &[Account],
    errand: &Errand,
) -> Result<SentText, SandboxError> {
    match errand.to {
        Place::Instance(one) => {
            let to = accounts[one].number;
            network.send_text(from, to, &errand.text).await
        }
        Place::Group { group, keyless } => {
            let text = GroupText {
                text: errand.text.clone(),
                withheld_from: keyless
                    .map(|one| accounts[one].number.device(1))
                    .into_iter()
                    .collect(),
                ..Default::default()
            };
            network.send_group_text(from, group, text).await
        }
    }
}

/// A caller at work until its orders end: calls until it has an answer, always under the same
/// request id.
pub async fn caller(
    mut door: watch::Receiver<Option<Door>>,
    accounts: Arc<[Account]>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    ledger: Arc<Ledger>,
) -> anyhow::Result<()> {
    while let Some(order) = orders.recv().await {
        let instance = &accounts[order.instance];
        let mut patience = order.patience;
        let mut answers = if order.repeat { 2 } else { 1 };
        let mut message_id = String::new();
        let mut refusals = 0;
        while answers > 0 {
            let api = Api::ready(&mut door).await?;
            let request = v1::SendMessageRequest {
                instance: instance.name.clone(),
                recipient: match order.to {
                    Recipient::Person(number) => number.to_string(),
                    Recipient::Group(group) => group.jid().to_string(),
                },
                content: Some(v1::send_message_request::Content::Text(v1::TextContent {
                    text: order.text.clone(),
                    ..Default::default()
                })),
                request_id: order.request_id.clone(),
                delay: order.held.map(|milliseconds| v1::SendDelay {
                    length: Some(v1::send_delay::Length::FixedMs(milliseconds)),
                }),
                wait_for: match order.held {
                    Some(_) => v1::WaitFor::Accepted.into(),
                    None => v1::WaitFor::Sent.into(),
                },
                ..Default::default()
            };
            ledger.books().tries.calls += 1;
            let mut messages = api.messages();
            let call = messages.send_message(request);
            let answer = match timeout(patience.take().unwrap_or(CALL_TIME), call).await {
                Ok(answer) => answer,
                Err(_) => {
                    ledger.books().tries.abandoned += 1;
                    continue;
                }
            };
            match answer {
                Ok(answer) => {
                    let message = answer.into_inner().message.context("no message")?;
                    if !message_id.is_empty() {
                        ledger.books().tries.repeated += 1;
                    }
                    if !message_id.is_empty() && message_id != message.id {
                        ledger.complain(format!(
                            "the request {} was answered with {message_id} and with {}",
                            order.request_id, message.id
                        ));
                    }
                    message_id = message.id;
                    answers -= 1;
                }
                Err(status) if passes_by_itself(&status) && refusals < MOST_REFUSALS => {
                    refusals += 1;
                    ledger.books().tries.refused += 1;
                    sleep(RETRY_PAUSE).await;
                }
                Err(status) => {
                    ledger.complain(format!(
                        "the request {} was refused: {status:?}",
                        order.request_id
                    ));
                    break;
                }
            }
        }
        if !message_id.is_empty() {
            ledger.books().outbound.push(Outbound {
                instance: order.instance,
                to: order.to,
                readers: order.readers,
                text: order.text,
                message_id,
            });
        }
    }
    Ok(())
}

/// Notes what appears on a phone's screen and was written by somebody else.
pub async fn eyes(network: Sandbox, number: Number, ledger: Arc<Ledger>) -> anyhow::Result<()> {
    let mut inbox = pin!(network.inbox(number, 0)?);
    let mut last = 0;
    while let Some(message) = inbox.next().await {
        if message.sequence != last + 1 && last > 0 {
            ledger.complain(format!(
                "this program was too slow to read the screen of a phone: {last} to {}",
                message.sequence
            ));
        }
        last = message.sequence;
        if message.sender.number != number {
            ledger.books().seen.push(Seen {
                by: number,
                from: message.sender.number,
                message_id: message.id,
                text: message.text.unwrap_or_default(),
            });
        }
    }
    Ok(())
}
