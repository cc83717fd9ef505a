//! What people read: tables, times, names of things, one line per event.
//!
//! Pure. Everything that a stranger could have written passes `plain` on its way to a terminal.

mod content;

use pbjson_types::Timestamp;

use crate::proto::v1::{
    Call, Chat, ConnectionUpdated, Contact, Event, Group, Instance, InstanceState, Message,
    MessageContent, MessageDeletionScope, MessageStatus, MessageUpdateCause, Network, Party,
    Payment, Queue, event::Payload,
};

/// A text without anything that moves a cursor, starts a new line or turns the direction of writing.
pub fn plain(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .flat_map(|c| match steers(c) {
            true => c.escape_default().collect::<Vec<_>>(),
            false => vec![c],
        })
        .collect()
}

/// A time to the second, UTC; empty if unset.
pub fn time(time: Option<&Timestamp>) -> String {
    // Its JSON form is RFC 3339.
    let Some(Ok(serde_json::Value::String(text))) = time.map(serde_json::to_value) else {
        return String::new();
    };
    match text.get(..19) {
        Some(seconds) => format!("{seconds}Z"),
        None => text,
    }
}

/// Columns as wide as they need to be, two blanks between.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().copied())];
    lines.extend(
        rows.iter()
            .map(|row| line(&mut row.iter().map(String::as_str))),
    );
    lines.join("\n")
}

/// Names and values, one pair per line; empty values are left out.
pub fn fields(pairs: &[(&str, String)]) -> String {
    let shown = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    let lines: Vec<String> = shown()
        .map(|(name, value)| format!("{:width$} {value}", format!("{name}:")))
        .collect();
    lines.join("\n")
}

/// The name of an enum's value without the enum's name: `INSTANCE_STATE_LOGGED_OUT` is `logged out`.
fn value_name(full: &str, prefix: &str) -> String {
    full.strip_prefix(prefix)
        .unwrap_or(full)
        .replace('_', " ")
        .to_lowercase()
}

/// The name of a state.
pub fn state(state: InstanceState) -> String {
    value_name(state.as_str_name(), "INSTANCE_STATE_")
}

/// The name of a network.
pub fn network(network: Network) -> String {
    value_name(network.as_str_name(), "NETWORK_")
}

/// The name of a message's status.
pub fn status(status: MessageStatus) -> String {
    value_name(status.as_str_name(), "MESSAGE_STATUS_")
}

/// Instances as a table.
pub fn instances(instances: &[Instance]) -> String {
    let rows: Vec<_> = instances
        .iter()
        .map(|one| {
            vec![
                one.number.to_string(),
                plain(&one.name),
                state(one.state()),
                network(one.network()),
                plain(&one.phone_number),
                plain(&one.push_name),
                plain(&one.id),
            ]
        })
        .collect();
    let head = ["#", "NAME", "STATE", "NETWORK", "PHONE", "SHOWN AS", "ID"];
    table(&head, &rows)
}

/// One instance in full.
pub fn instance(one: &Instance) -> String {
    fields(&[
        ("name", plain(&one.name)),
        ("id", plain(&one.id)),
        ("number", one.number.to_string()),
        ("network", network(one.network())),
        ("state", state(one.state())),
        ("because", plain(&one.state_reason)),
        ("since", time(one.state_time.as_ref())),
        ("banned until", time(one.banned_until.as_ref())),
        ("phone", plain(&one.phone_number)),
        ("lid", plain(&one.lid)),
        ("shown as", plain(&one.push_name)),
        (
            "shown online",
            if one.show_online { "yes" } else { "no" }.into(),
        ),
        (
            "rejects calls",
            if one.reject_calls { "yes" } else { "no" }.into(),
        ),
        ("created", time(one.create_time.as_ref())),
        ("changed", time(one.update_time.as_ref())),
    ])
}

/// A pairing code in two halves.
pub fn pairing_code(code: &str) -> String {
    let code = plain(code);
    match code.is_ascii() && code.len() == 8 {
        true => format!("{}-{}", &code[..4], &code[4..]),
        false => code,
    }
}

/// One event on one line: time, instance, type, and what happened.
pub fn event(event: &Event) -> String {
    format!(
        "{}  #{}  {:18}  {}",
        time(event.occur_time.as_ref().or(event.record_time.as_ref())),
        event.instance_number,
        plain(&event.r#type),
        event.payload.as_ref().map(payload).unwrap_or_default()
    )
    .trim_end()
    .to_owned()
}

fn payload(payload: &Payload) -> String {
    match payload {
        Payload::ConnectionUpdated(one) => connection(one),
        Payload::ConnectionPairing(one) => {
            let until = time(one.expire_time.as_ref());
            if !one.pairing_code.is_empty() {
                format!(
                    "code {}, good until {until}",
                    pairing_code(&one.pairing_code)
                )
            } else if !one.qr_text.is_empty() {
                format!("QR, good until {until}")
            } else {
                "used or expired".to_owned()
            }
        }
        Payload::ConnectionPairingTimeout(_) => "nobody scanned or typed in time".to_owned(),
        Payload::InstanceCreated(one) => one.instance.as_ref().map(introduce).unwrap_or_default(),
        Payload::InstanceUpdated(one) => one.instance.as_ref().map(introduce).unwrap_or_default(),
        Payload::InstanceDeleted(one) => plain(&one.name),
        Payload::MessageReceived(one) => one.message.as_ref().map(received).unwrap_or_default(),
        Payload::MessageSent(one) => one.message.as_ref().map(sent).unwrap_or_default(),
        Payload::MessageStatus(one) => {
            let mut text = format!("{} is {}", plain(&one.message_id), status(one.status()));
            if let Some(party) = &one.party {
                text.push_str(&format!(", by {}", who(party)));
            }
            if !one.reason.is_empty() {
                text.push_str(&format!(": {}", plain(&one.reason)));
            }
            text
        }
        Payload::MessageUpdated(one)
            if matches!(
                one.cause(),
                MessageUpdateCause::Starred | MessageUpdateCause::Unstarred
            ) =>
        {
            let cause = word(one.cause().as_str_name(), "MESSAGE_UPDATE_CAUSE_");
            format!("{} is {cause}", plain(&one.message_id))
        }
        Payload::MessageUpdated(one) => {
            let sender = one.sender.as_ref().map(who).unwrap_or_default();
            let now = says(one.content.as_ref());
            format!("{} by {sender} says now: {now}", plain(&one.message_id))
        }
        Payload::MessageUndecryptable(one) => {
            one.message.as_ref().map(received).unwrap_or_default()
        }
        Payload::MessageDeleted(one) => {
            let by = by(one.actor.as_ref());
            let whose = match one.scope() {
                MessageDeletionScope::Me => " for the account alone",
                _ => "",
            };
            format!("{} is deleted{by}{whose}", plain(&one.message_id))
        }
        Payload::GroupCreated(one) => one.group.as_ref().map(group).unwrap_or_default(),
        Payload::GroupUpdated(one) => {
            let which = one.after.as_ref().map(group).unwrap_or_default();
            format!(
                "{which}: {} changed{}",
                one.changed_fields.join(", "),
                by(one.actor.as_ref())
            )
        }
        Payload::GroupParticipantsUpdated(one) => {
            let people = one.participants.iter().filter_map(|one| one.party.as_ref());
            let people: Vec<_> = people.map(who).collect();
            let change = word(one.change().as_str_name(), "GROUP_PARTICIPANT_CHANGE_");
            format!(
                "{}: {change} {}{}",
                plain(&one.subject),
                people.join(", "),
                by(one.actor.as_ref())
            )
        }
        Payload::GroupJoinRequestsUpdated(one) => {
            let people: Vec<_> = one.parties.iter().map(who).collect();
            let change = word(one.change().as_str_name(), "GROUP_JOIN_REQUEST_CHANGE_");
            format!(
                "{}: request {change} {}",
                plain(&one.subject),
                people.join(", ")
            )
        }
        Payload::CallUpdated(one) => one.call.as_ref().map(call).unwrap_or_default(),
        Payload::PaymentRequested(one) => one.payment.as_ref().map(payment).unwrap_or_default(),
        Payload::PaymentDeclined(one) => one.payment.as_ref().map(payment).unwrap_or_default(),
        Payload::PaymentCancelled(one) => one.payment.as_ref().map(payment).unwrap_or_default(),
        Payload::PaymentSent(one) => {
            let sender = one.sender.as_ref().map(who).unwrap_or_default();
            match one.payment_id.as_str() {
                "" => format!("{sender} says that they sent money"),
                id => format!("{sender} says that they paid {}", plain(id)),
            }
        }
        Payload::ErrorReported(one) => format!("{}: {}", plain(&one.reason), plain(&one.detail)),
        Payload::ContactCreated(one) => one.contact.as_ref().map(contact).unwrap_or_default(),
        Payload::ContactUpdated(one) => {
            let after = one.after.as_ref().map(contact).unwrap_or_default();
            format!("{after}: {} changed", one.changed_fields.join(", "))
        }
        Payload::ContactMerged(one) => {
            let contact = one.contact.as_ref().map(contact).unwrap_or_default();
            format!("{contact}, known as two until now")
        }
        Payload::MediaUpdated(one) => {
            let media = one.media.as_ref();
            let state = media.map_or("", |media| media.state().as_str_name());
            let state = state.strip_prefix("MEDIA_STATE_").unwrap_or(state);
            let id = media.map(|media| plain(&media.id)).unwrap_or_default();
            format!("{id} is {}", state.to_lowercase().replace('_', " "))
        }
        Payload::SendStarted(one) => one.queue.as_ref().map(queue).unwrap_or_default(),
        Payload::SendProgress(one) => format!("{} is at {} %", plain(&one.queue_id), one.progress),
        Payload::SendFailed(one) => {
            let item = one.item.as_ref();
            let position = item.map_or(0, |item| item.position);
            let reason = item.map(|item| plain(&item.reason)).unwrap_or_default();
            format!("{}: recipient {position}: {reason}", plain(&one.queue_id))
        }
        Payload::SendCompleted(one) => one.queue.as_ref().map(queue).unwrap_or_default(),
        Payload::QueuePaused(one) => one.queue.as_ref().map(queue).unwrap_or_default(),
        Payload::QueueResumed(one) => one.queue.as_ref().map(queue).unwrap_or_default(),
        Payload::QueueUpdated(one) => one.queue.as_ref().map(queue).unwrap_or_default(),
        Payload::QueueDeleted(one) => one.queue.as_ref().map(queue).unwrap_or_default(),
        Payload::Unmapped(one) => format!("{} ({} bytes)", plain(&one.name), one.raw.len()),
    }
}

/// A mailing list on one line.
pub fn queue(one: &Queue) -> String {
    let state = word(one.state().as_str_name(), "QUEUE_STATE_");
    let counts = one.counts.unwrap_or_default();
    let name = match one.name.as_str() {
        "" => String::new(),
        name => format!(" {}", plain(name)),
    };
    let why = match one.state_reason.as_str() {
        "" => String::new(),
        why => format!(": {}", plain(why)),
    };
    format!(
        "{}{name}  {state}  {} sent, {} failed, {} to go of {}{why}",
        plain(&one.id),
        counts.sent,
        counts.failed,
        counts.waiting + counts.sending,
        counts.recipients
    )
}

fn call(one: &Call) -> String {
    let kind = match (one.group, one.video) {
        (false, false) => "call",
        (false, true) => "video call",
        (true, false) => "group call",
        (true, true) => "group video call",
    };
    let state = word(one.state().as_str_name(), "CALL_STATE_");
    let caller = one.caller.as_ref().map(who).unwrap_or_default();
    format!("{kind} {} from {caller}: {state}", plain(&one.id))
}

fn payment(one: &Payment) -> String {
    let amount = one.amount.as_ref();
    let amount = amount.map_or_else(|| "money".to_owned(), content::money);
    let requester = one.requester.as_ref().map(who).unwrap_or_default();
    let payer = one.payer.as_ref().map(who);
    let payer = payer.unwrap_or_else(|| "everybody".to_owned());
    let state = value_name(one.state().as_str_name(), "PAYMENT_STATE_");
    format!(
        "{} {requester} asks {payer} for {amount}: {state}",
        plain(&one.id)
    )
}

fn contact(one: &Contact) -> String {
    let names = [&one.name, &one.phone_number, &one.lid];
    let known = names.into_iter().filter(|name| !name.is_empty());
    let known: Vec<String> = known.map(|name| plain(name)).collect();
    known.join(", ")
}

fn connection(one: &ConnectionUpdated) -> String {
    let mut text = format!("{} -> {}", state(one.previous_state()), state(one.state()));
    if !one.reason.is_empty() {
        text.push_str(&format!(": {}", plain(&one.reason)));
    }
    if one.code != 0 {
        text.push_str(&format!(" (code {})", one.code));
    }
    if one.banned_until.is_some() {
        text.push_str(&format!(" until {}", time(one.banned_until.as_ref())));
    }
    text
}

fn introduce(one: &Instance) -> String {
    let mut text = format!("{}, network {}", plain(&one.name), network(one.network()));
    for detail in [&one.phone_number, &one.push_name] {
        if !detail.is_empty() {
            text.push_str(&format!(", {}", plain(detail)));
        }
    }
    text
}

fn received(message: &Message) -> String {
    let sender = message.sender.as_ref().map(who).unwrap_or_default();
    format!("from {sender}: {}", says(message.content.as_ref()))
}

fn sent(message: &Message) -> String {
    let chat = message.chat.as_ref().map(which).unwrap_or_default();
    format!("to {chat}: {}", says(message.content.as_ref()))
}

/// A person, by the best name there is.
fn who(party: &Party) -> String {
    let address = [&party.phone_number, &party.jid, &party.lid]
        .into_iter()
        .find(|text| !text.is_empty());
    match (party.name.as_str(), address) {
        ("", Some(address)) => plain(address),
        ("", None) => "somebody".to_owned(),
        (name, Some(address)) => format!("{} ({})", plain(name), plain(address)),
        (name, None) => plain(name),
    }
}

/// A conversation, by the person in it or its id.
pub fn which(chat: &Chat) -> String {
    match &chat.party {
        Some(party) => who(party),
        None => plain(&chat.id),
    }
}

fn group(group: &Group) -> String {
    format!("{} ({})", plain(&group.subject), plain(&group.id))
}

fn by(actor: Option<&Party>) -> String {
    actor
        .map(|actor| format!(" by {}", who(actor)))
        .unwrap_or_default()
}

fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

fn says(content: Option<&MessageContent>) -> String {
    content.map(content::in_words).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{ChatKind, MessageReceived, TextContent, message_content::Content};

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 5 })
    }

    #[test]
    fn columns_align() {
        let rows = vec![
            vec!["1".to_owned(), "ännchen".to_owned(), "x".to_owned()],
            vec!["20".to_owned(), "b".to_owned(), String::new()],
        ];
        assert_eq!(
            table(&["#", "NAME", "Z"], &rows),
            "#   NAME     Z\n1   ännchen  x\n20  b"
        );
        assert_eq!(table(&["#", "NAME"], &[]), "#  NAME");
        assert_eq!(
            fields(&[
                ("a", "1".into()),
                ("nothing", String::new()),
                ("long", "2".into())
            ]),
            "a:    1\nlong: 2"
        );
    }

    #[test]
    fn names_are_short() {
        assert_eq!(state(InstanceState::LoggedOut), "logged out");
        assert_eq!(network(Network::Whatsapp), "whatsapp");
        assert_eq!(pairing_code("ABCD1234"), "ABCD-1234");
        assert_eq!(pairing_code("ABCD"), "ABCD");
        assert_eq!(time(at(1_700_000_000).as_ref()), "2023-11-14T22:13:20Z");
        assert_eq!(time(None), "");
    }

    #[test]
    fn an_event_is_one_line() {
        let message = Message {
            sender: Some(Party {
                phone_number: "15550001111".into(),
                name: "Ann\u{202e}".into(),
                ..Party::default()
            }),
            chat: Some(Chat {
                id: "15550001111@s.whatsapp.net".into(),
                kind: ChatKind::Direct.into(),
                party: None,
            }),
            content: Some(MessageContent {
                content: Some(Content::Text(TextContent {
                    text: "two\nlines \u{1b}[2J".into(),
                    link_preview: None,
                })),
            }),
            ..Message::default()
        };
        let shown = event(&Event {
            instance_number: 3,
            r#type: "message.received".into(),
            occur_time: at(1_700_000_000),
            payload: Some(Payload::MessageReceived(MessageReceived {
                message: Some(message),
            })),
            ..Event::default()
        });
        assert_eq!(
            shown,
            "2023-11-14T22:13:20Z  #3  message.received    from Ann\\u{202e} (15550001111): two\\nlines \\u{1b}[2J"
        );
    }

    #[test]
    fn an_event_of_a_newer_server_is_shown_by_its_type() {
        let shown = event(&Event {
            r#type: "call.updated".into(),
            instance_number: 1,
            record_time: at(0),
            ..Event::default()
        });
        assert_eq!(shown, "1970-01-01T00:00:00Z  #1  call.updated");
    }

    #[test]
    fn a_state_tells_why() {
        let shown = connection(&ConnectionUpdated {
            state: InstanceState::Banned.into(),
            previous_state: InstanceState::Connecting.into(),
            reason: "too many messages".into(),
            code: 402,
            banned_until: at(1_700_000_000),
            ..ConnectionUpdated::default()
        });
        assert_eq!(
            shown,
            "connecting -> banned: too many messages (code 402) until 2023-11-14T22:13:20Z"
        );
    }
}
