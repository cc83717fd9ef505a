//! The options of a message: what it answers, when it disappears, when its caller wants it sent and what its chat is to
//! show until then.

use std::time::{Duration, SystemTime};

use rand::RngExt as _;
use tonic::Status;

use super::{EPHEMERAL_SECONDS, finding::QUOTED_ID_BYTES};
use crate::{
    domain::limits,
    events::system_time,
    grpc::status::{self, Reason, refuse},
    proto::v1::{self, send_delay::Length},
    wa::{Activity, Progress, Timing},
};

/// The id of a message to answer can be one.
pub(in crate::grpc) fn quoted(message_id: &str) -> Result<(), Status> {
    if message_id.len() > QUOTED_ID_BYTES {
        return Err(status::field_invalid("quoted_message_id", "is too long"));
    }
    Ok(())
}

/// A message may disappear then.
pub(in crate::grpc) fn ephemeral(seconds: Option<u32>) -> Result<(), Status> {
    if seconds.is_some_and(|seconds| !EPHEMERAL_SECONDS.contains(&seconds)) {
        return Err(status::field_invalid(
            "ephemeral_seconds",
            "must be 0, 86400, 604800 or 7776000",
        ));
    }
    Ok(())
}

/// What the options mean now. A delay is drawn here, once.
pub(super) fn timing(
    asked: &v1::SendMessageRequest,
    until: Progress,
    now: SystemTime,
) -> Result<Timing, Status> {
    let delay = asked.delay.as_ref().map(delay).transpose()?;
    let delay = delay.unwrap_or_default();
    let send_time = time("send_time", asked.send_time)?;
    if send_time.is_some_and(|time| ahead(time, now) > limits::SEND_AHEAD) {
        let description = "must be at most a year ahead";
        return Err(status::field_invalid("send_time", description));
    }
    let expire_time = time("expire_time", asked.expire_time)?;
    if let Some(end) = expire_time {
        let due = send_time.unwrap_or(now).max(now) + delay;
        let invalid = |description: &str| status::field_invalid("expire_time", description);
        if end <= now {
            return Err(invalid("must be in the future"));
        }
        if end <= due {
            return Err(invalid("must be after send_time and delay"));
        }
        if ahead(end, now) > limits::EXPIRE_AHEAD {
            return Err(invalid("must be at most a year and a day ahead"));
        }
    }
    let activity = match v1::ChatActivity::try_from(asked.presence) {
        Ok(told) => Activity::of(told),
        Err(_) => {
            let description = "must be COMPOSING or RECORDING";
            return Err(status::field_invalid("presence", description));
        }
    };
    Ok(Timing {
        may_wait: until == Progress::Accepted || send_time.is_some() || expire_time.is_some(),
        send_time,
        expire_time,
        delay,
        activity,
    })
}

/// How long a message is held back, if that can be.
fn delay(asked: &v1::SendDelay) -> Result<Duration, Status> {
    let most = limits::DELAY_MS;
    let within = |field: &str, milliseconds: u32| {
        if milliseconds > most {
            let description = format!("must be at most {most}");
            return Err(status::field_invalid(field, description));
        }
        Ok(u64::from(milliseconds))
    };
    let length = asked.length.as_ref();
    let length = length.ok_or_else(|| status::field_invalid("delay", "must say how long"))?;
    Ok(Duration::from_millis(match length {
        Length::FixedMs(milliseconds) => within("delay.fixed_ms", *milliseconds)?,
        Length::Range(range) => {
            let least = within("delay.range.min_ms", range.min_ms)?;
            let most = within("delay.range.max_ms", range.max_ms)?;
            if least > most {
                let description = "must not be less than min_ms";
                return Err(status::field_invalid("delay.range.max_ms", description));
            }
            rand::rng().random_range(least..=most)
        }
    }))
}

fn time(field: &str, asked: Option<pbjson_types::Timestamp>) -> Result<Option<SystemTime>, Status> {
    let Some(asked) = asked else { return Ok(None) };
    match system_time(&asked) {
        Some(time) => Ok(Some(time)),
        None => Err(refuse(Reason::FieldInvalid, format!("{field} is no time"))
            .field(field, "must be a time")
            .into()),
    }
}

fn ahead(time: SystemTime, now: SystemTime) -> Duration {
    time.duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::timestamp;

    fn fixed(milliseconds: u32) -> Option<v1::SendDelay> {
        Some(v1::SendDelay {
            length: Some(Length::FixedMs(milliseconds)),
        })
    }

    fn range(min_ms: u32, max_ms: u32) -> Option<v1::SendDelay> {
        Some(v1::SendDelay {
            length: Some(Length::Range(v1::SendDelayRange { min_ms, max_ms })),
        })
    }

    #[test]
    fn a_delay_is_drawn_from_all_of_its_range() {
        let drawn = |asked: &Option<v1::SendDelay>| delay(asked.as_ref().unwrap()).unwrap();
        assert_eq!(drawn(&fixed(1_200)), Duration::from_millis(1_200));
        assert_eq!(drawn(&range(7, 7)), Duration::from_millis(7));
        let mut seen = [0_u32; 3];
        for _ in 0..300 {
            seen[drawn(&range(1, 3)).as_millis() as usize - 1] += 1;
        }
        assert!(seen.iter().all(|times| *times > 40), "{seen:?}");
    }

    #[test]
    fn what_can_not_be_is_refused_by_its_name() {
        let now = SystemTime::now();
        let in_days = |days: u64| Some(timestamp(now + Duration::from_secs(days * 86_400)));
        let refused = |asked: v1::SendMessageRequest| {
            let error = timing(&asked, Progress::Sent, now).unwrap_err();
            error.message().split(' ').next().unwrap().to_owned()
        };
        let asked = v1::SendMessageRequest::default;
        for (delay, field) in [
            (fixed(limits::DELAY_MS + 1), "delay.fixed_ms"),
            (range(0, limits::DELAY_MS + 1), "delay.range.max_ms"),
            (range(2, 1), "delay.range.max_ms"),
            (Some(v1::SendDelay { length: None }), "delay"),
        ] {
            assert_eq!(refused(v1::SendMessageRequest { delay, ..asked() }), field);
        }
        let late = v1::SendMessageRequest {
            send_time: in_days(366),
            ..asked()
        };
        assert_eq!(refused(late), "send_time");
        for (send_time, expire_time) in [
            (None, Some(timestamp(now))),
            (in_days(2), in_days(1)),
            (in_days(1), in_days(367)),
        ] {
            let asked = v1::SendMessageRequest {
                send_time,
                expire_time,
                ..asked()
            };
            assert_eq!(refused(asked), "expire_time");
        }
        let wrong = v1::SendMessageRequest {
            presence: 9,
            ..asked()
        };
        assert_eq!(refused(wrong), "presence");
    }

    #[test]
    fn only_who_allows_it_waits() {
        let now = SystemTime::now();
        let may_wait =
            |asked: &v1::SendMessageRequest, until| timing(asked, until, now).unwrap().may_wait;
        let plain = v1::SendMessageRequest::default();
        assert!(!may_wait(&plain, Progress::Sent));
        assert!(!may_wait(&plain, Progress::Delivered));
        assert!(may_wait(&plain, Progress::Accepted));
        let delayed = v1::SendMessageRequest {
            delay: fixed(1),
            ..plain.clone()
        };
        assert!(!may_wait(&delayed, Progress::Sent));
        let planned = v1::SendMessageRequest {
            send_time: Some(timestamp(now)),
            ..plain.clone()
        };
        assert!(may_wait(&planned, Progress::Sent));
        let ending = v1::SendMessageRequest {
            expire_time: Some(timestamp(now + Duration::from_secs(60))),
            ..plain
        };
        assert!(may_wait(&ending, Progress::Sent));
    }
}
