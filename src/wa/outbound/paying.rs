//! Requests for money on their way out, and answers to those of others.
//!
//! Owns what is checked before a message about money is stored: who is to pay, that the request is open, that the
//! account may answer it so. What a message has done is written when WhatsApp has it, not here.

use std::time::{Duration, SystemTime};

use whatsapp_rust::{Client, Jid, waproto::whatsapp as wa};

use super::Outbox;
use crate::{
    domain::recipient::Recipient,
    events::system_time,
    proto::v1::{self, PaymentState, message_content::Content},
    storage::MessageRow,
    wa::{
        addresses::Address,
        convert::{
            context::{Around, Mention},
            ids::is_same,
            outbound::{actions, payments as words},
        },
        error::WaError,
        groups::{Mentions, Somebody},
        hook::account,
        payments::{self, Act},
    },
};

/// Requests with one id that are looked through. Ids are random: two are rare.
const SAME_ID: usize = 16;

/// A request that a caller wants sent.
#[derive(Clone, Debug)]
pub struct PaymentDemand {
    /// How much, why and until when; the payer is found out.
    pub content: v1::PaymentRequestContent,
    /// Who is to pay, in a group.
    pub payer: Option<Recipient>,
}

/// What a caller answers to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaymentReply {
    /// The account does not pay.
    Decline,
    /// The account no longer wants it.
    Cancel,
}

impl Outbox {
    /// The message that asks for money.
    pub(super) async fn demand(
        &self,
        client: &Client,
        demand: PaymentDemand,
        around: &Around,
        to: &Address,
        group: Option<&v1::Group>,
    ) -> Result<(Content, wa::Message), WaError> {
        let mut content = demand.content;
        if let Some(end) = content.expire_time.as_ref().and_then(system_time)
            && end <= SystemTime::now() + Duration::from_secs(1)
        {
            return Err(WaError::NoChoice {
                field: "expire_time",
                why: "must be later than now",
            });
        }
        let (payer, party) = match group {
            Some(group) => self.payer(client, group, demand.payer).await?,
            None if account(client).is(&to.to) => return Err(themselves("recipient")),
            None => (to.to.clone(), to.party()),
        };
        content.payer = Some(party);
        let message = words::request(&content, &payer, around.context(&to.to));
        let message = message.ok_or(WaError::NoChoice {
            field: "amount.minor_units",
            why: "must be an amount that WhatsApp can carry",
        })?;
        Ok((Content::PaymentRequest(content), message))
    }

    /// Who is to pay, as the group calls them.
    async fn payer(
        &self,
        client: &Client,
        group: &v1::Group,
        payer: Option<Recipient>,
    ) -> Result<(Jid, v1::Party), WaError> {
        const FIELD: &str = "payer";
        let recipient = payer.ok_or(WaError::NoChoice {
            field: FIELD,
            why: "must name who is to pay",
        })?;
        let mentions = Mentions {
            mentioned: vec![Somebody {
                text: String::new(),
                recipient,
            }],
            ..Mentions::default()
        };
        let found = match self.groups.to_mention(client, group, &mentions).await {
            Ok(found) => found.into_iter().next(),
            Err(WaError::NobodyToMention(_)) => None,
            Err(error) => return Err(error),
        };
        let Mention { jid, party } = found.ok_or(WaError::PayerUnknown)?;
        if account(client).is(&jid) {
            return Err(themselves(FIELD));
        }
        let mut members = group
            .participants
            .iter()
            .filter_map(|one| one.party.as_ref());
        if !members.any(|member| is_same(member, &party)) {
            return Err(WaError::NoChoice {
                field: FIELD,
                why: "must be a member of the group",
            });
        }
        Ok((jid.to_non_ad(), party))
    }

    /// The message that answers a request.
    pub(super) async fn reply(
        &self,
        client: &Client,
        reply: PaymentReply,
        request: &MessageRow,
        chat: &Jid,
    ) -> Result<(Content, wa::Message), WaError> {
        let found = self
            .storage
            .find_payments(request.instance, &request.message_id, SAME_ID);
        let found = found.await?.into_iter();
        let mut found =
            found.filter(|one| one.chat == request.chat && one.sender == request.sender);
        let kept = found.next().ok_or(WaError::PaymentNotFound)?;
        let payment = payments::resource(&kept, SystemTime::now())?;
        if payment.state() != PaymentState::Requested {
            return Err(WaError::PaymentSettled(payment.state()));
        }
        let (act, role) = match reply {
            PaymentReply::Decline => (Act::Decline, "payer"),
            PaymentReply::Cancel => (Act::Cancel, "requester"),
        };
        let own = account(client).party();
        if !payments::allowed(&payment, act).is_some_and(|one| is_same(one, &own)) {
            return Err(WaError::PaymentRole(role));
        }
        let (payment_id, key) = (request.message_id.clone(), actions::key(request, chat));
        Ok(match reply {
            PaymentReply::Decline => (
                Content::PaymentDeclined(v1::PaymentDeclinedContent { payment_id }),
                words::decline(key),
            ),
            PaymentReply::Cancel => (
                Content::PaymentCancelled(v1::PaymentCancelledContent { payment_id }),
                words::cancel(key),
            ),
        })
    }
}

fn themselves(field: &'static str) -> WaError {
    WaError::NoChoice {
        field,
        why: "must be somebody else than the account",
    }
}
