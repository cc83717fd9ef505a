//! The part of the gRPC face that is about calls.

use std::time::Duration;

use tonic::Response;

use super::{Answer, duration, number, timestamp};
use crate::proto::sandbox_v1 as pb;
use crate::sandbox::{CallProgress, Callee, GroupId, PhoneCall, Sandbox, SandboxError};

/// How long a phone rings that was not told how long.
const RING_TIME: Duration = Duration::from_secs(45);

/// The longest it may be told to.
const LONGEST: Duration = Duration::from_secs(600);

pub(super) async fn start(
    sandbox: &Sandbox,
    request: pb::StartCallRequest,
) -> Answer<pb::StartCallResponse> {
    let phone = number("phone", &request.phone)?;
    let to = match request.to.parse::<GroupId>() {
        Ok(group) => Callee::Group(group),
        Err(_) => Callee::Number(sandbox.resolve(&request.to)?),
    };
    let ring = match request.ring_time {
        Some(told) => duration("ring_time", told)?,
        None => RING_TIME,
    };
    if ring > LONGEST {
        return Err(SandboxError::invalid("ring_time", "must be at most 10 minutes").into());
    }
    let call = sandbox.start_call(phone, to, request.video, ring).await?;
    Ok(Response::new(pb::StartCallResponse {
        call: Some(call.into()),
    }))
}

pub(super) fn list(sandbox: &Sandbox, phone: &str) -> Answer<pb::ListCallsResponse> {
    let calls = sandbox.calls(number("phone", phone)?)?;
    Ok(Response::new(pb::ListCallsResponse {
        calls: calls.into_iter().map(Into::into).collect(),
    }))
}

impl From<PhoneCall> for pb::PhoneCall {
    fn from(call: PhoneCall) -> Self {
        let number = |number: crate::sandbox::Number| number.to_string();
        Self {
            id: call.id,
            peer: call.peer.map(number).unwrap_or_default(),
            group: call
                .group
                .map(|group| group.jid().to_string())
                .unwrap_or_default(),
            outgoing: call.outgoing,
            video: call.video,
            state: pb::PhoneCallState::from(call.progress).into(),
            by: call.by.map(Into::into),
            reason: call.reason.unwrap_or_default(),
            start_time: Some(timestamp(call.start)),
        }
    }
}

impl From<CallProgress> for pb::PhoneCallState {
    fn from(progress: CallProgress) -> Self {
        match progress {
            CallProgress::Calling => Self::Calling,
            CallProgress::Ringing => Self::Ringing,
            CallProgress::Accepted => Self::Accepted,
            CallProgress::Rejected => Self::Rejected,
            CallProgress::TimedOut => Self::TimedOut,
            CallProgress::Ended => Self::Ended,
        }
    }
}
