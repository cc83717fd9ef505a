//! The part of the gRPC face that is about groups.

use std::time::{Duration, UNIX_EPOCH};

use tonic::{Response, Status};

use super::{Answer, duration, number, proto_duration, timestamp};
use crate::proto::sandbox_v1::{self as pb, update_group_request::Setting};
use crate::sandbox::{
    Group, GroupAdds, GroupId, GroupSetting, GroupText, Invitation, Joined, MemberChange,
    MemberOutcome, NewGroup, Number, Rank, Sandbox, SandboxError,
};

pub(super) fn id(text: &str) -> Result<GroupId, SandboxError> {
    text.parse()
        .map_err(|error: crate::sandbox::InvalidGroupId| {
            SandboxError::invalid("group", error.to_string())
        })
}

/// Refuses to one person what only goes to a group.
pub(super) fn check_none(request: &pb::SendTextRequest) -> Result<(), SandboxError> {
    let set = [
        ("mentions", !request.mentions.is_empty()),
        ("quoted_id", !request.quoted_id.is_empty()),
    ];
    match set.into_iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(SandboxError::invalid(field, "is for groups only")),
        None => Ok(()),
    }
}

pub(super) fn text(request: pb::SendTextRequest) -> GroupText {
    GroupText {
        text: request.text,
        mentions: request.mentions,
        quoted_id: (!request.quoted_id.is_empty()).then_some(request.quoted_id),
        ..GroupText::default()
    }
}

pub(super) async fn create(
    sandbox: &Sandbox,
    request: pb::CreateGroupRequest,
) -> Answer<pb::CreateGroupResponse> {
    let phone = number("phone", &request.phone)?;
    let new = NewGroup {
        subject: request.subject,
        members: members(sandbox, &request.members)?,
        number_addressed: request.number_addressed,
    };
    let (group, refused) = sandbox.create_group(phone, new).await?;
    Ok(Response::new(pb::CreateGroupResponse {
        group: Some(show(sandbox, group)?),
        refused: refused.into_iter().map(Into::into).collect(),
    }))
}

pub(super) async fn update(
    sandbox: &Sandbox,
    request: pb::UpdateGroupRequest,
) -> Answer<pb::UpdateGroupResponse> {
    let (phone, group) = (number("phone", &request.phone)?, id(&request.group)?);
    let setting = match request.setting {
        Some(Setting::Subject(text)) => GroupSetting::Subject(text),
        Some(Setting::Description(text)) => GroupSetting::Description(text),
        Some(Setting::Announce(on)) => GroupSetting::Announce(on),
        Some(Setting::Locked(on)) => GroupSetting::Locked(on),
        Some(Setting::Ephemeral(time)) => {
            let seconds = duration("ephemeral", time)?.as_secs();
            let seconds = u32::try_from(seconds)
                .map_err(|_| SandboxError::invalid("ephemeral", "is too long"))?;
            GroupSetting::Ephemeral(seconds)
        }
        Some(Setting::Approval(on)) => GroupSetting::Approval(on),
        Some(Setting::MembersAdd(on)) => GroupSetting::MembersAdd(on),
        Some(Setting::Picture(jpeg)) => GroupSetting::Picture(jpeg.to_vec()),
        Some(Setting::History(on)) => GroupSetting::History(on),
        None => return Err(SandboxError::invalid("setting", "name one").into()),
    };
    sandbox.set_group(phone, group, setting).await?;
    Ok(Response::new(pb::UpdateGroupResponse {
        group: Some(show(sandbox, group)?),
    }))
}

pub(super) async fn change_members(
    sandbox: &Sandbox,
    request: pb::ChangeGroupMembersRequest,
) -> Answer<pb::ChangeGroupMembersResponse> {
    let (phone, group) = (number("phone", &request.phone)?, id(&request.group)?);
    let change = match request.change() {
        pb::GroupMemberChange::Unspecified => {
            return Err(SandboxError::invalid("change", "say what to do").into());
        }
        pb::GroupMemberChange::Add => MemberChange::Add,
        pb::GroupMemberChange::Remove => MemberChange::Remove,
        pb::GroupMemberChange::Promote => MemberChange::Promote,
        pb::GroupMemberChange::Demote => MemberChange::Demote,
        pb::GroupMemberChange::Approve => MemberChange::Approve,
        pb::GroupMemberChange::Reject => MemberChange::Reject,
    };
    if request.members.is_empty() {
        return Err(SandboxError::invalid("members", "name at least one").into());
    }
    let members = members(sandbox, &request.members)?;
    let outcomes = sandbox
        .change_members(phone, group, change, &members)
        .await?;
    Ok(Response::new(pb::ChangeGroupMembersResponse {
        outcomes: outcomes.into_iter().map(Into::into).collect(),
        group: Some(show(sandbox, group)?),
    }))
}

pub(super) async fn invite(
    sandbox: &Sandbox,
    phone: &str,
    group: &str,
    reset: bool,
) -> Result<String, SandboxError> {
    let (phone, group) = (number("phone", phone)?, id(group)?);
    sandbox.group_invite(phone, group, reset).await
}

pub(super) async fn join(
    sandbox: &Sandbox,
    request: pb::JoinGroupRequest,
) -> Answer<pb::JoinGroupResponse> {
    let phone = number("phone", &request.phone)?;
    let joined = match request.invitation {
        None if request.code.is_empty() => {
            return Err(SandboxError::invalid("code", "set code or invitation").into());
        }
        None => sandbox.join_group(phone, &request.code).await?,
        Some(invitation) => {
            let group = id(&request.group)?;
            let expires = invitation.expire_time.unwrap_or_default().seconds;
            let invitation = Invitation {
                code: invitation.code,
                expires: u64::try_from(expires).unwrap_or_default(),
            };
            sandbox.accept_invitation(phone, group, &invitation).await?
        }
    };
    let (group, waiting) = match joined {
        Joined::Member(group) => (group, false),
        Joined::Waiting(group) => (group, true),
    };
    Ok(Response::new(pb::JoinGroupResponse {
        group: group.jid().to_string(),
        waiting,
    }))
}

/// A group as it is now.
pub(super) fn show(sandbox: &Sandbox, group: GroupId) -> Result<pb::Group, Status> {
    Ok(shown(sandbox, sandbox.group(group)?))
}

/// A group with the other names of its members.
pub(super) fn shown(sandbox: &Sandbox, group: Group) -> pb::Group {
    let members = group
        .members
        .iter()
        .map(|(number, member)| pb::GroupMember {
            number: number.to_string(),
            lid: sandbox
                .phone(*number)
                .map(|phone| phone.lid.jid().to_string())
                .unwrap_or_default(),
            rank: pb::GroupRank::from(member.rank).into(),
        });
    let members = members.collect();
    let ephemeral = (group.ephemeral > 0).then(|| Duration::from_secs(group.ephemeral.into()));
    pb::Group {
        id: group.id.jid().to_string(),
        subject: group.subject.text,
        description: group
            .description
            .map(|known| known.text)
            .unwrap_or_default(),
        creator: group.creator.to_string(),
        create_time: Some(timestamp(UNIX_EPOCH + Duration::from_secs(group.created))),
        number_addressed: !group.lid_addressed,
        members,
        announce: group.announce,
        locked: group.locked,
        ephemeral: ephemeral.map(proto_duration),
        approval: group.approval,
        members_add: group.members_add,
        history: group.history,
        invite_code: group.invite,
        requests: group.requests.keys().map(Number::to_string).collect(),
        picture_id: group.picture.map(|picture| picture.id).unwrap_or_default(),
    }
}

fn members(sandbox: &Sandbox, names: &[String]) -> Result<Vec<Number>, SandboxError> {
    // Somebody unknown may be named on purpose: what the network says of that is what one wants to see.
    names
        .iter()
        .map(|name| sandbox.resolve(name).or_else(|_| number("members", name)))
        .collect()
}

impl From<Rank> for pb::GroupRank {
    fn from(rank: Rank) -> Self {
        match rank {
            Rank::Member => Self::Member,
            Rank::Admin => Self::Admin,
            Rank::Owner => Self::Owner,
        }
    }
}

impl From<GroupAdds> for pb::GroupAdds {
    fn from(adds: GroupAdds) -> Self {
        match adds {
            GroupAdds::Everyone => Self::Everyone,
            GroupAdds::Contacts => Self::Contacts,
            GroupAdds::Nobody => Self::Nobody,
        }
    }
}

impl From<pb::GroupAdds> for GroupAdds {
    fn from(adds: pb::GroupAdds) -> Self {
        match adds {
            pb::GroupAdds::Unspecified | pb::GroupAdds::Everyone => Self::Everyone,
            pb::GroupAdds::Contacts => Self::Contacts,
            pb::GroupAdds::Nobody => Self::Nobody,
        }
    }
}

impl From<MemberOutcome> for pb::GroupMemberOutcome {
    fn from(outcome: MemberOutcome) -> Self {
        Self {
            number: outcome.number.to_string(),
            code: outcome.code.into(),
            invitation: outcome.invitation.map(|invitation| pb::GroupInvitation {
                code: invitation.code,
                expire_time: Some(timestamp(
                    UNIX_EPOCH + Duration::from_secs(invitation.expires),
                )),
            }),
        }
    }
}
