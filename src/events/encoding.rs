//! Events as bytes: made once when they happen, never decoded on their way to a reader.
//!
//! A body is an encoded `wagate.v1.Event` without the three fields that only the commit decides.
//! Protobuf lets messages be concatenated, so those three are appended once the event is committed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pbjson_types::Timestamp;
use prost::{
    Message as _,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};

use crate::{
    domain::{event_type::EventType, ids::EventId},
    proto::v1::{self, event::Payload},
    storage::{InstanceRow, NewEvent},
};

/// An event for the log. The same thing seen twice upstream has the same `dedupe_key`.
pub fn compose(
    instance: &InstanceRow,
    payload: Payload,
    occur_time: SystemTime,
    dedupe_key: &str,
) -> NewEvent {
    let id = EventId::generate();
    let event_type = type_of(&payload);
    let event = v1::Event {
        payload: Some(payload),
        ..head(instance, id, event_type, occur_time, dedupe_key)
    };
    NewEvent {
        id,
        instance: instance.number,
        event_type,
        body: event.encode_to_vec().into(),
    }
}

/// The events that say a message and nothing else: their payloads have it in their first field.
#[derive(Clone, Copy, Debug)]
pub enum Told {
    /// `message.received`.
    Received,
    /// `message.sent`.
    Sent,
    /// `message.undecryptable`.
    Undecryptable,
}

impl Told {
    /// Its type, and the field that its payload is in an event.
    fn place(self) -> (EventType, u32) {
        match self {
            Self::Received => (EventType::MessageReceived, 26),
            Self::Sent => (EventType::MessageSent, 27),
            Self::Undecryptable => (EventType::MessageUndecryptable, 37),
        }
    }
}

/// What [`compose`] makes of the payload that has this message, whose bytes are there already: most events are of
/// this kind, and a message is encoded for its own row too.
pub fn compose_told(
    instance: &InstanceRow,
    told: Told,
    message: &[u8],
    occur_time: SystemTime,
    dedupe_key: &str,
) -> NewEvent {
    /// Of the message in all three payloads.
    const MESSAGE_FIELD: u32 = 1;
    let id = EventId::generate();
    let (event_type, field) = told.place();
    let head = head(instance, id, event_type, occur_time, dedupe_key);
    let framed = |field, length| key_len(field) + encoded_len_varint(length as u64) + length;
    let payload = framed(MESSAGE_FIELD, message.len());
    let mut body = Vec::with_capacity(head.encoded_len() + framed(field, payload));
    head.encode_raw(&mut body);
    for (field, length) in [(field, payload), (MESSAGE_FIELD, message.len())] {
        encode_key(field, WireType::LengthDelimited, &mut body);
        encode_varint(length as u64, &mut body);
    }
    body.extend_from_slice(message);
    NewEvent {
        id,
        instance: instance.number,
        event_type,
        body: body.into(),
    }
}

/// All of an event that is no payload and is known before the commit.
fn head(
    instance: &InstanceRow,
    id: EventId,
    event_type: EventType,
    occur_time: SystemTime,
    dedupe_key: &str,
) -> v1::Event {
    v1::Event {
        id: id.to_string(),
        instance: instance.id.to_string(),
        instance_number: instance.number.0,
        r#type: event_type.as_str().to_owned(),
        occur_time: Some(timestamp(occur_time)),
        dedupe_key: dedupe_key.to_owned(),
        ..Default::default()
    }
}

fn type_of(payload: &Payload) -> EventType {
    match payload {
        Payload::ConnectionUpdated(_) => EventType::ConnectionUpdated,
        Payload::ConnectionPairing(_) => EventType::ConnectionPairing,
        Payload::ConnectionPairingTimeout(_) => EventType::ConnectionPairingTimeout,
        Payload::InstanceCreated(_) => EventType::InstanceCreated,
        Payload::InstanceUpdated(_) => EventType::InstanceUpdated,
        Payload::InstanceDeleted(_) => EventType::InstanceDeleted,
        Payload::MessageReceived(_) => EventType::MessageReceived,
        Payload::MessageSent(_) => EventType::MessageSent,
        Payload::MessageStatus(_) => EventType::MessageStatus,
        Payload::MessageUpdated(_) => EventType::MessageUpdated,
        Payload::MessageDeleted(_) => EventType::MessageDeleted,
        Payload::MessageUndecryptable(_) => EventType::MessageUndecryptable,
        Payload::GroupCreated(_) => EventType::GroupCreated,
        Payload::GroupUpdated(_) => EventType::GroupUpdated,
        Payload::GroupParticipantsUpdated(_) => EventType::GroupParticipantsUpdated,
        Payload::GroupJoinRequestsUpdated(_) => EventType::GroupJoinRequestsUpdated,
        Payload::CallUpdated(_) => EventType::CallUpdated,
        Payload::ErrorReported(_) => EventType::ErrorReported,
        Payload::ContactCreated(_) => EventType::ContactCreated,
        Payload::ContactUpdated(_) => EventType::ContactUpdated,
        Payload::ContactMerged(_) => EventType::ContactMerged,
        Payload::MediaUpdated(_) => EventType::MediaUpdated,
        Payload::PaymentRequested(_) => EventType::PaymentRequested,
        Payload::PaymentDeclined(_) => EventType::PaymentDeclined,
        Payload::PaymentCancelled(_) => EventType::PaymentCancelled,
        Payload::PaymentSent(_) => EventType::PaymentSent,
        Payload::SendStarted(_) => EventType::SendStarted,
        Payload::SendProgress(_) => EventType::SendProgress,
        Payload::SendFailed(_) => EventType::SendFailed,
        Payload::SendCompleted(_) => EventType::SendCompleted,
        Payload::QueuePaused(_) => EventType::QueuePaused,
        Payload::QueueResumed(_) => EventType::QueueResumed,
        Payload::QueueUpdated(_) => EventType::QueueUpdated,
        Payload::QueueDeleted(_) => EventType::QueueDeleted,
        Payload::Unmapped(_) => EventType::Unmapped,
    }
}

/// A stored `connection.pairing` body without what a phone could be linked with; `None` where there
/// is nothing to blank.
pub fn blanked(body: &[u8]) -> Option<Vec<u8>> {
    let mut event = v1::Event::decode(body).ok()?;
    let Some(Payload::ConnectionPairing(pairing)) = &mut event.payload else {
        return None;
    };
    if pairing.qr_text.is_empty() && pairing.pairing_code.is_empty() {
        return None;
    }
    pairing.qr_text.clear();
    pairing.pairing_code.clear();
    Some(event.encode_to_vec())
}

/// The times that a protobuf timestamp may say: the years 1 to 9999. Anything else has no JSON.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A time as the contract writes it; one that it can't write becomes the nearest that it can.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let (seconds, nanos) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            since.subsec_nanos() as i32,
        ),
        Err(error) => {
            // Protobuf counts nanoseconds forward, also before 1970.
            let before = error.duration();
            let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => (-seconds, 0),
                nanos => (-seconds - 1, 1_000_000_000 - nanos as i32),
            }
        }
    };
    let (first, last) = (*TIMESTAMP_SECONDS.start(), *TIMESTAMP_SECONDS.end());
    match seconds {
        seconds if seconds < first => Timestamp {
            seconds: first,
            nanos: 0,
        },
        seconds if seconds > last => Timestamp {
            seconds: last,
            nanos: 999_999_999,
        },
        seconds => Timestamp { seconds, nanos },
    }
}

/// A time as the contract wrote it; `None` where it is none.
pub fn system_time(timestamp: &Timestamp) -> Option<SystemTime> {
    let nanos = u32::try_from(timestamp.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    let whole = Duration::from_secs(timestamp.seconds.unsigned_abs());
    let second = if timestamp.seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    second?.checked_add(Duration::from_nanos(nanos.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{domain::ids::InstanceNumber, grpc::fake};

    fn pairing(qr_text: &str) -> NewEvent {
        let payload = Payload::ConnectionPairing(v1::ConnectionPairing {
            qr_text: qr_text.to_owned(),
            ..Default::default()
        });
        compose(
            &fake::instance(InstanceNumber(4)),
            payload,
            UNIX_EPOCH,
            "a/b/c",
        )
    }

    #[test]
    fn a_time_that_has_no_json_becomes_the_nearest() {
        let far = Duration::from_secs(u64::MAX / 4);
        let after = timestamp(UNIX_EPOCH + far);
        let before = timestamp(UNIX_EPOCH - far);
        assert_eq!(after.seconds, *TIMESTAMP_SECONDS.end());
        assert_eq!(before.seconds, *TIMESTAMP_SECONDS.start());
        for one in [
            after,
            before,
            timestamp(UNIX_EPOCH - Duration::from_nanos(1)),
        ] {
            assert!((0..1_000_000_000).contains(&one.nanos));
            serde_json::to_string(&one).unwrap();
        }
    }

    #[test]
    fn a_message_that_is_encoded_already_makes_the_same_event() {
        let instance = fake::instance(InstanceNumber(4));
        for id in ["", "3EB0A9", &"long".repeat(9_000)] {
            let known = v1::Message {
                id: id.to_owned(),
                from_me: true,
                ..Default::default()
            };
            let message = Some(known.clone());
            let payloads = [
                (
                    Told::Received,
                    Payload::MessageReceived(v1::MessageReceived {
                        message: message.clone(),
                    }),
                ),
                (
                    Told::Sent,
                    Payload::MessageSent(v1::MessageSent {
                        message: message.clone(),
                    }),
                ),
                (
                    Told::Undecryptable,
                    Payload::MessageUndecryptable(v1::MessageUndecryptable { message }),
                ),
            ];
            for (told, payload) in payloads {
                let whole = compose(&instance, payload, UNIX_EPOCH, "a/b/c");
                let body = known.encode_to_vec();
                let made = compose_told(&instance, told, &body, UNIX_EPOCH, "a/b/c");
                assert_eq!(made.event_type, whole.event_type);
                assert_eq!(made.body.len(), whole.body.len());
                let wanted = v1::Event {
                    id: made.id.to_string(),
                    ..v1::Event::decode(whole.body).unwrap()
                };
                assert_eq!(v1::Event::decode(made.body).unwrap(), wanted);
            }
        }
    }

    #[test]
    fn a_blanked_pairing_links_no_phone() {
        let body = blanked(&pairing("text").body).unwrap();
        let event = v1::Event::decode(&*body).unwrap();
        assert_eq!(
            event.payload,
            Some(Payload::ConnectionPairing(v1::ConnectionPairing::default()))
        );
        assert_eq!(blanked(&body), None);
        assert_eq!(blanked(&[0xff]), None);
    }

    proptest! {
        #[test]
        fn times_survive_the_contract(seconds in -5_000_000_000i64..5_000_000_000, nanos in 0i32..1_000_000_000) {
            let written = Timestamp { seconds, nanos };
            prop_assert_eq!(timestamp(system_time(&written).unwrap()), written);
        }

        #[test]
        fn any_timestamp_is_answered(seconds: i64, nanos: i32) {
            let _ = system_time(&Timestamp { seconds, nanos });
        }
    }
}
