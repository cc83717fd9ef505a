//! The part of the gRPC face that is about fault rules: to and from what goes over gRPC.

use std::time::Duration;

use super::{device_number, duration, optional_number, proto_duration};
use crate::proto::sandbox_v1::{self as pb, fault_rule::Action};
use crate::sandbox::{
    ActiveRule, Direction, FaultAction, FaultMatch, FaultRule, Refusal, SandboxError,
};

/// A rule as a caller writes it.
pub(super) fn rule_of(rule: pb::FaultRule) -> Result<FaultRule, SandboxError> {
    let matches = rule.r#match.unwrap_or_default();
    let text = |text: String| (!text.is_empty()).then_some(text);
    let direction = match matches.direction() {
        pb::Direction::Unspecified => None,
        pb::Direction::FromDevice => Some(Direction::FromDevice),
        pb::Direction::ToDevice => Some(Direction::ToDevice),
    };
    Ok(FaultRule {
        matches: FaultMatch {
            direction,
            number: optional_number("rule.match.number", &matches.number)?,
            device: matches.device.map(device_number).transpose()?,
            tag: text(matches.tag),
            child: text(matches.child),
            xmlns: text(matches.xmlns),
        },
        action: match rule.action {
            Some(Action::Drop(_)) => FaultAction::Drop,
            Some(Action::Delay(delay)) => FaultAction::Delay(duration("rule.delay", delay)?),
            Some(Action::Duplicate(times)) => FaultAction::Duplicate(times),
            Some(Action::Refuse(refusal)) => FaultAction::Refuse(refusal_of(refusal)?),
            None => {
                return Err(SandboxError::invalid(
                    "rule.action",
                    "set drop, delay, duplicate or refuse",
                ));
            }
        },
        skip: rule.skip,
        count: rule.count.filter(|count| *count > 0),
    })
}

fn refusal_of(refusal: pb::FaultRefusal) -> Result<Refusal, SandboxError> {
    let code = u16::try_from(refusal.code)
        .map_err(|_| SandboxError::invalid("refuse", "the code must be 400 to 599"))?;
    let wait = match refusal.retry_after {
        Some(time) => duration("rule.refuse.retry_after", time)?.as_secs(),
        None => 0,
    };
    let backoff = u32::try_from(wait)
        .map_err(|_| SandboxError::invalid("rule.refuse.retry_after", "is too long"))?;
    Ok(Refusal { code, backoff })
}

impl From<ActiveRule> for pb::FaultRule {
    fn from(active: ActiveRule) -> Self {
        let matches = active.rule.matches;
        Self {
            id: active.id,
            r#match: Some(pb::FaultMatch {
                direction: matches
                    .direction
                    .map_or(pb::Direction::Unspecified, Into::into)
                    .into(),
                tag: matches.tag.unwrap_or_default(),
                child: matches.child.unwrap_or_default(),
                xmlns: matches.xmlns.unwrap_or_default(),
                number: matches
                    .number
                    .map(|number| number.to_string())
                    .unwrap_or_default(),
                device: matches.device.map(u32::from),
            }),
            action: Some(match active.rule.action {
                FaultAction::Drop => Action::Drop(pb::FaultDrop {}),
                FaultAction::Delay(delay) => Action::Delay(proto_duration(delay)),
                FaultAction::Duplicate(times) => Action::Duplicate(times),
                FaultAction::Refuse(refusal) => Action::Refuse(pb::FaultRefusal {
                    code: refusal.code.into(),
                    retry_after: (refusal.backoff > 0)
                        .then(|| proto_duration(Duration::from_secs(refusal.backoff.into()))),
                }),
            }),
            skip: active.rule.skip,
            count: active.rule.count,
            hits: active.hits,
        }
    }
}
