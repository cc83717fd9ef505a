//! `wagate send`: one text, safe to repeat.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use pbjson_types::Timestamp;
use uuid::Uuid;

use super::{connection::Gateway, failure::Failure, format, output::Output};
use crate::proto::v1::{
    ChatActivity, Message, MessageStatus, SendDelay, SendDelayRange, SendMessageRequest,
    TextContent, WaitFor, send_delay::Length, send_message_request::Content,
};

/// Arguments of `send`.
#[derive(Debug, Args)]
pub struct Send {
    /// Name or id of the instance that sends.
    instance: String,
    /// Phone number with country code, or JID.
    recipient: String,
    /// What to say.
    text: String,
    /// Makes it safe to repeat this command for 24 hours. Default: a new one.
    #[arg(long)]
    request_id: Option<String>,
    /// How far it has to come before this ends.
    #[arg(long, value_enum, default_value_t = Until::Sent)]
    wait_for: Until,
    /// Holds it back: milliseconds, or a range such as 1200-8000 to draw from.
    #[arg(long, value_name = "MS", value_parser = delay)]
    delay: Option<SendDelay>,
    /// What the chat shows meanwhile.
    #[arg(long, value_enum, requires = "delay")]
    presence: Option<Activity>,
    /// Sends it so much later, such as 90s, 15m, 8h or 3d.
    #[arg(long, value_name = "TIME", value_parser = span)]
    after: Option<Duration>,
    /// Gives up if it has not left within this time, such as 15m.
    #[arg(long, value_name = "TIME", value_parser = span)]
    within: Option<Duration>,
    /// Id of the message that it answers.
    #[arg(long, value_name = "ID", default_value = "")]
    quote: String,
}

/// What a chat shows.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Activity {
    /// Writing.
    Composing,
    /// Recording a voice note.
    Recording,
}

impl From<Activity> for ChatActivity {
    fn from(activity: Activity) -> Self {
        match activity {
            Activity::Composing => Self::Composing,
            Activity::Recording => Self::Recording,
        }
    }
}

/// A delay as people write it.
fn delay(text: &str) -> Result<SendDelay, String> {
    let wrong = || "must be milliseconds, or two of them with a dash between".to_owned();
    let number = |text: &str| text.trim().parse().map_err(|_| wrong());
    let length = match text.split_once('-') {
        None => Length::FixedMs(number(text)?),
        Some((least, most)) => Length::Range(SendDelayRange {
            min_ms: number(least)?,
            max_ms: number(most)?,
        }),
    };
    Ok(SendDelay {
        length: Some(length),
    })
}

/// A span of time as people write it.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number and one of s, m, h and d".to_owned();
    let at = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(at).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    Ok(Duration::from_secs(
        number.checked_mul(seconds).ok_or_else(wrong)?,
    ))
}

/// So much later than now.
fn later(span: Duration) -> Option<Timestamp> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let time = now.checked_add(span)?;
    Some(Timestamp {
        seconds: i64::try_from(time.as_secs()).ok()?,
        nanos: i32::try_from(time.subsec_nanos()).ok()?,
    })
}

/// How far a message has to come.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Until {
    /// The gateway has stored it.
    Accepted,
    /// WhatsApp confirmed it.
    Sent,
    /// A device of the recipient confirmed it.
    Delivered,
}

impl From<Until> for WaitFor {
    fn from(until: Until) -> Self {
        match until {
            Until::Accepted => Self::Accepted,
            Until::Sent => Self::Sent,
            Until::Delivered => Self::Delivered,
        }
    }
}

impl Send {
    /// Sends.
    pub async fn run(self, gateway: &Gateway, output: &mut Output) -> Result<(), Failure> {
        let request_id = self
            .request_id
            .unwrap_or_else(|| Uuid::now_v7().to_string());
        let request = SendMessageRequest {
            instance: self.instance,
            recipient: self.recipient,
            content: Some(Content::Text(TextContent {
                text: self.text,
                link_preview: None,
            })),
            request_id: request_id.clone(),
            wait_for: WaitFor::from(self.wait_for).into(),
            delay: self.delay,
            presence: self
                .presence
                .map(ChatActivity::from)
                .unwrap_or_default()
                .into(),
            send_time: self.after.and_then(later),
            expire_time: self
                .within
                .and_then(|within| later(self.after.unwrap_or_default().saturating_add(within))),
            quoted_message_id: self.quote,
            ..Default::default()
        };
        match gateway.messages().send_message(request).await {
            Ok(answer) => output.show(answer.get_ref(), |answer| {
                answer.message.as_ref().map(outcome).unwrap_or_default()
            }),
            Err(status) => {
                if may_have_arrived(status.code()) {
                    output.remark(&format!(
                        "Repeat it with --request-id {request_id} and it can't be sent twice."
                    ));
                }
                Err(status.into())
            }
        }
    }
}

/// After these nobody knows what the server did.
fn may_have_arrived(code: tonic::Code) -> bool {
    use tonic::Code::{Cancelled, DeadlineExceeded, Internal, Unavailable, Unknown};
    matches!(
        code,
        Cancelled | DeadlineExceeded | Internal | Unavailable | Unknown
    )
}

fn outcome(message: &Message) -> String {
    let chat = message.chat.as_ref().map(format::which).unwrap_or_default();
    let line = format!(
        "{}: {} to {chat}",
        format::status(message.status()),
        format::plain(&message.id)
    );
    match message.status() {
        MessageStatus::Pending => {
            format!("{line}\nWhatsApp has not confirmed it yet; `message.status` events tell.")
        }
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::Chat;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("3d"), Ok(Duration::from_secs(259_200)));
        for wrong in ["", "s", "90", "1w", "-1s", "1é", "99999999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        let fixed = SendDelay {
            length: Some(Length::FixedMs(1_200)),
        };
        assert_eq!(delay("1200"), Ok(fixed));
        let range = SendDelayRange {
            min_ms: 1_200,
            max_ms: 8_000,
        };
        let length = Some(Length::Range(range));
        assert_eq!(delay("1200-8000"), Ok(SendDelay { length }));
        for wrong in ["", "-", "1-", "x", "1-2-3"] {
            assert!(delay(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unconfirmed_message_is_called_so() {
        let mut message = Message {
            id: "3EB0".into(),
            status: MessageStatus::Sent.into(),
            chat: Some(Chat {
                id: "15550001111@s.whatsapp.net".into(),
                ..Chat::default()
            }),
            ..Message::default()
        };
        assert_eq!(
            outcome(&message),
            "sent: 3EB0 to 15550001111@s.whatsapp.net"
        );
        message.status = MessageStatus::Pending.into();
        assert!(outcome(&message).contains("not confirmed"));
    }
}
