//! Why something about a group can't be done, and how WhatsApp says so.

use std::time::Duration;

use whatsapp_rust::{
    ErrorChainExt as _,
    features::{GroupError, MexError},
    request::IqError,
};

use crate::wa::error::WaError;

/// When to try again after WhatsApp asked for patience without saying how much.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why something about a group can't be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupFault {
    /// There is no such group (any more).
    NotFound,
    /// The account is not in it.
    NotMember,
    /// The account is no admin of it.
    NotAdmin,
    /// The picture is none.
    PictureInvalid,
    /// The invite is none.
    InviteInvalid,
    /// The invite is no longer good.
    InviteRevoked,
    /// There is no room.
    Full,
    /// The account may not join.
    JoinRefused,
    /// Somebody else was faster.
    ChangedMeanwhile,
    /// WhatsApp asks for fewer requests.
    RateLimited(Duration),
    /// WhatsApp refuses for another reason.
    Refused,
}

/// A refusal about a group: why, and which field of the request is to blame.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", sentence(.fault))]
pub struct GroupRefusal {
    /// Why.
    pub fault: GroupFault,
    /// The field of the request.
    pub field: String,
    /// WhatsApp's number of it; 0 where it was not asked.
    pub code: u16,
}

fn sentence(fault: &GroupFault) -> &'static str {
    match fault {
        GroupFault::NotFound => "there is no such group",
        GroupFault::NotMember => "the account is not in the group",
        GroupFault::NotAdmin => "only admins of the group may do this",
        GroupFault::PictureInvalid => "the picture is no JPEG or PNG within the limits",
        GroupFault::InviteInvalid => "this is no invite that WhatsApp knows",
        GroupFault::InviteRevoked => "the invite was revoked or has expired",
        GroupFault::Full => "the group has no room",
        GroupFault::JoinRefused => "WhatsApp does not let the account join the group",
        GroupFault::ChangedMeanwhile => "somebody else changed the same thing meanwhile",
        GroupFault::RateLimited(_) => "WhatsApp wants fewer requests from the account",
        GroupFault::Refused => "WhatsApp refused",
    }
}

/// A refusal of our own.
pub(super) fn refuse(fault: GroupFault, field: &str) -> WaError {
    WaError::Group(GroupRefusal {
        fault,
        field: field.to_owned(),
        code: 0,
    })
}

/// What was asked of WhatsApp: the same number means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To show a group.
    Look,
    /// To change a group.
    Change,
    /// To show or use an invite.
    Invite,
    /// To join.
    Join,
}

/// WhatsApp's number of a refusal; `None` if it did not refuse.
pub(super) fn code(error: &GroupError) -> Option<u16> {
    if let GroupError::Mex(MexError::ExtensionError { code, .. }) = error {
        return u16::try_from(*code).ok();
    }
    let refused = error.server_rejection()?;
    Some(refused.code)
}

/// What the library's error is to a caller.
pub(super) fn explain(error: GroupError, asked: Asked, field: &str) -> WaError {
    if matches!(error, GroupError::DescriptionConflict) {
        return refuse(GroupFault::ChangedMeanwhile, field);
    }
    if let GroupError::InvalidRequest(_) = error {
        let fault = match asked {
            Asked::Invite | Asked::Join => GroupFault::InviteInvalid,
            Asked::Look | Asked::Change => GroupFault::Refused,
        };
        return refuse(fault, field);
    }
    let Some(code) = code(&error) else {
        return WaError::Timeout(error.to_string());
    };
    let patience = match &error {
        GroupError::Iq(IqError::ServerError { backoff, .. }) => {
            backoff.map(|seconds| Duration::from_secs(seconds.into()))
        }
        _ => None,
    };
    fault_of(code, asked, patience).map_or_else(
        || WaError::Timeout(format!("WhatsApp answered {code}")),
        |fault| {
            WaError::Group(GroupRefusal {
                fault,
                field: field.to_owned(),
                code,
            })
        },
    )
}

/// The fault of a number; `None` for those that will pass.
fn fault_of(code: u16, asked: Asked, patience: Option<Duration>) -> Option<GroupFault> {
    Some(match (asked, code) {
        (_, 429) => GroupFault::RateLimited(patience.unwrap_or(PATIENCE)),
        (_, 500 | 502..) => return None,
        (_, 419) => GroupFault::Full,
        (Asked::Look, 401 | 403) => GroupFault::NotMember,
        (Asked::Look | Asked::Change, 404 | 410) => GroupFault::NotFound,
        (Asked::Change, 401 | 403) => GroupFault::NotAdmin,
        (Asked::Change, 409) => GroupFault::ChangedMeanwhile,
        (Asked::Invite | Asked::Join, 410 | 436) => GroupFault::InviteRevoked,
        (Asked::Invite | Asked::Join, 400 | 404 | 406) => GroupFault::InviteInvalid,
        (Asked::Join, 412) => GroupFault::Full,
        (Asked::Invite | Asked::Join, 401 | 403 | 405) => GroupFault::JoinRefused,
        _ => GroupFault::Refused,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16) -> GroupError {
        GroupError::Iq(IqError::ServerError {
            code,
            text: "no".to_owned(),
            error_type: None,
            backoff: (code == 429).then_some(7),
        })
    }

    fn fault(code: u16, asked: Asked) -> Option<GroupFault> {
        match explain(answered(code), asked, "group") {
            WaError::Group(refusal) => {
                assert_eq!((refusal.code, &*refusal.field), (code, "group"));
                Some(refusal.fault)
            }
            WaError::Timeout(_) => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_number_means_what_was_asked() {
        use Asked::*;
        for (code, asked, wanted) in [
            (403, Look, Some(GroupFault::NotMember)),
            (404, Look, Some(GroupFault::NotFound)),
            (403, Change, Some(GroupFault::NotAdmin)),
            (409, Change, Some(GroupFault::ChangedMeanwhile)),
            (406, Change, Some(GroupFault::Refused)),
            (410, Join, Some(GroupFault::InviteRevoked)),
            (406, Invite, Some(GroupFault::InviteInvalid)),
            (401, Join, Some(GroupFault::JoinRefused)),
            (419, Join, Some(GroupFault::Full)),
            (
                429,
                Change,
                Some(GroupFault::RateLimited(Duration::from_secs(7))),
            ),
            (503, Change, None),
        ] {
            assert_eq!(fault(code, asked), wanted, "{code} {asked:?}");
        }
    }

    #[test]
    fn silence_is_no_refusal() {
        let silent = explain(GroupError::Iq(IqError::Timeout), Asked::Change, "group");
        assert!(matches!(silent, WaError::Timeout(_)));
    }
}
