//! GroupService: checks what a caller asks of a group, hands it to the instance, shows the answer.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use tonic::{Request, Response, Status, codec::CompressionEncoding};

use super::{
    access, page,
    requests::mark_of,
    status::{self, Reason, refuse},
};
use crate::{
    auth::Caller,
    domain::{
        limits,
        permission::Permission,
        recipient::{Recipient, group_jid},
    },
    events::system_time,
    proto::v1::{
        self,
        group_service_server::{GroupService, GroupServiceServer},
        join_group_request::By,
    },
    storage::{InstanceRow, Storage},
    wa::{
        GroupEdit, GroupFault, GroupRefusal, GroupSetting, Groups, Invite, NewGroup, Picture,
        Registry, Somebody, invite_code,
    },
};

const LIST: &str = "ListGroups";

/// What an update mask may name.
const FIELDS: &str = "subject, description, picture, announce, locked, ephemeral_seconds, \
                      join_approval, members_may_add, history_for_newcomers";

/// The service.
pub struct GroupCalls {
    storage: Arc<dyn Storage>,
    registry: Arc<Registry>,
}

/// What every call begins with.
struct Called<T> {
    caller: Caller,
    row: InstanceRow,
    groups: Arc<Groups>,
    asked: T,
}

impl GroupCalls {
    /// The service, on this store and these sessions.
    pub fn server(storage: Arc<dyn Storage>, registry: Arc<Registry>) -> GroupServiceServer<Self> {
        GroupServiceServer::new(Self { storage, registry })
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
    }

    /// Who calls, for which instance, and its groups.
    async fn called<T>(
        &self,
        request: Request<T>,
        permission: Permission,
        instance: impl Fn(&T) -> &str,
    ) -> Result<Called<T>, Status> {
        let storage = self.storage.as_ref();
        let (caller, row, asked) = access::called(storage, request, permission, instance).await?;
        let groups = self.registry.groups(row.number)?;
        Ok(Called {
            caller,
            row,
            groups,
            asked,
        })
    }
}

#[tonic::async_trait]
impl GroupService for GroupCalls {
    async fn create_group(
        &self,
        request: Request<v1::CreateGroupRequest>,
    ) -> Result<Response<v1::CreateGroupResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "CreateGroup")?;
        let asked = called.asked;
        let new = NewGroup {
            subject: subject("subject", asked.subject)?,
            description: description(asked.description)?,
            participants: people("participants", asked.participants)?,
            announce: asked.announce,
            locked: asked.locked,
            ephemeral_seconds: timer(asked.ephemeral_seconds)?,
            join_approval: asked.join_approval,
            members_may_add: !asked.only_admins_add,
        };
        Ok(Response::new(called.groups.create(new, mark).await?))
    }

    async fn get_group(
        &self,
        request: Request<v1::GetGroupRequest>,
    ) -> Result<Response<v1::GetGroupResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsRead, |asked| &asked.instance)
            .await?;
        let group = called.groups.get(&group(&called.asked.group)?).await?;
        Ok(Response::new(v1::GetGroupResponse { group: Some(group) }))
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsRead, |asked| &asked.instance)
            .await?;
        let size = page::size(called.asked.page_size)?;
        let after = page::after(LIST, &called.asked.page_token)?;
        let groups = called.groups.list(after.as_deref(), size + 1).await?;
        let (groups, next_page_token) = page::cut(LIST, groups, size, |last| last.id.clone());
        Ok(Response::new(v1::ListGroupsResponse {
            groups,
            next_page_token,
        }))
    }

    async fn update_group(
        &self,
        request: Request<v1::UpdateGroupRequest>,
    ) -> Result<Response<v1::UpdateGroupResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "UpdateGroup")?;
        let jid = group(&called.asked.group)?;
        let edits = edits(called.asked).await?;
        Ok(Response::new(called.groups.update(jid, edits, mark).await?))
    }

    async fn update_participants(
        &self,
        request: Request<v1::UpdateParticipantsRequest>,
    ) -> Result<Response<v1::UpdateParticipantsResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(
            called.caller,
            called.row,
            called.asked,
            "UpdateParticipants"
        )?;
        let jid = group(&called.asked.group)?;
        let action = v1::ParticipantAction::try_from(called.asked.action).unwrap_or_default();
        if action == v1::ParticipantAction::Unspecified {
            return Err(status::field_invalid("action", "must say what to do"));
        }
        let people = some_people(called.asked.participants)?;
        let updating = called.groups.update_participants(jid, action, people, mark);
        Ok(Response::new(updating.await?))
    }

    async fn get_invite_link(
        &self,
        request: Request<v1::GetInviteLinkRequest>,
    ) -> Result<Response<v1::GetInviteLinkResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsWrite, |asked| &asked.instance)
            .await?;
        let jid = group(&called.asked.group)?;
        let (link, code) = called.groups.invite_link(&jid, false).await?;
        Ok(Response::new(v1::GetInviteLinkResponse { link, code }))
    }

    async fn reset_invite_link(
        &self,
        request: Request<v1::ResetInviteLinkRequest>,
    ) -> Result<Response<v1::ResetInviteLinkResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "ResetInviteLink")?;
        let jid = group(&called.asked.group)?;
        let resetting = called.groups.reset_invite_link(jid, mark);
        Ok(Response::new(resetting.await?))
    }

    async fn get_invite_info(
        &self,
        request: Request<v1::GetInviteInfoRequest>,
    ) -> Result<Response<v1::GetInviteInfoResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsRead, |asked| &asked.instance)
            .await?;
        let invite = invite_link(&called.asked.invite)?;
        let group = called.groups.invite_info(&invite).await?;
        Ok(Response::new(v1::GetInviteInfoResponse {
            group: Some(group),
        }))
    }

    async fn join_group(
        &self,
        request: Request<v1::JoinGroupRequest>,
    ) -> Result<Response<v1::JoinGroupResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "JoinGroup")?;
        let invite = match called.asked.by {
            None => return Err(status::field_invalid("invite", "must say what to join")),
            Some(By::Invite(link)) => Invite::Link(invite_link(&link)?),
            Some(By::PersonalInvite(invite)) => personal(invite)?,
        };
        Ok(Response::new(called.groups.join(invite, mark).await?))
    }

    async fn leave_group(
        &self,
        request: Request<v1::LeaveGroupRequest>,
    ) -> Result<Response<v1::LeaveGroupResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(called.caller, called.row, called.asked, "LeaveGroup")?;
        let jid = group(&called.asked.group)?;
        Ok(Response::new(called.groups.leave(jid, mark).await?))
    }

    async fn list_join_requests(
        &self,
        request: Request<v1::ListJoinRequestsRequest>,
    ) -> Result<Response<v1::ListJoinRequestsResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsWrite, |asked| &asked.instance)
            .await?;
        let jid = group(&called.asked.group)?;
        let requests = called.groups.join_requests(&jid).await?;
        Ok(Response::new(v1::ListJoinRequestsResponse { requests }))
    }

    async fn review_join_requests(
        &self,
        request: Request<v1::ReviewJoinRequestsRequest>,
    ) -> Result<Response<v1::ReviewJoinRequestsResponse>, Status> {
        let called = self
            .called(request, Permission::GroupsWrite, |asked| &asked.instance)
            .await?;
        let mark = mark_of!(
            called.caller,
            called.row,
            called.asked,
            "ReviewJoinRequests"
        )?;
        let jid = group(&called.asked.group)?;
        let approve = match v1::JoinDecision::try_from(called.asked.decision) {
            Ok(v1::JoinDecision::Approve) => true,
            Ok(v1::JoinDecision::Reject) => false,
            _ => return Err(status::field_invalid("decision", "must say what to answer")),
        };
        let people = some_people(called.asked.participants)?;
        let reviewing = called.groups.review(jid, approve, people, mark);
        Ok(Response::new(reviewing.await?))
    }
}

fn group(text: &str) -> Result<String, Status> {
    group_jid(text).map_err(|why| {
        refuse(Reason::GroupIdInvalid, format!("group {why}"))
            .field("group", why)
            .into()
    })
}

/// A group's name within WhatsApp's limits. `field` names it in the request.
pub(super) fn subject(field: &str, text: String) -> Result<String, Status> {
    let limit = limits::SUBJECT_CHARS;
    if text.trim().is_empty() || text.chars().count() > limit {
        let description = format!("must have 1 to {limit} characters");
        return Err(refuse(
            Reason::GroupSubjectInvalid,
            format!("{field} {description}"),
        )
        .with("limit", limit)
        .field(field, description)
        .into());
    }
    Ok(text)
}

fn description(text: String) -> Result<String, Status> {
    let limit = limits::DESCRIPTION_CHARS;
    if text.chars().count() > limit {
        let description = format!("must have at most {limit} characters");
        return Err(refuse(
            Reason::GroupDescriptionInvalid,
            format!("description {description}"),
        )
        .with("limit", limit)
        .field("description", description)
        .into());
    }
    Ok(text)
}

fn timer(seconds: u32) -> Result<u32, Status> {
    let most = limits::EPHEMERAL_SECONDS;
    if seconds > most {
        let description = format!("must be at most {most}");
        return Err(status::field_invalid("ephemeral_seconds", description));
    }
    Ok(seconds)
}

/// People in a list of the request, each once. `field` names the list.
pub(super) fn people(field: &str, texts: Vec<String>) -> Result<Vec<Somebody>, Status> {
    // The account itself is in every group of its own.
    let limit = limits::GROUP_MEMBERS - 1;
    if texts.len() > limit {
        let description = format!("must name at most {limit} people");
        return Err(refuse(
            Reason::ParticipantsTooMany,
            format!("{field} {description}"),
        )
        .with("limit", limit)
        .field(field, description)
        .into());
    }
    let mut people = Vec::with_capacity(texts.len());
    let mut seen = HashSet::new();
    for (number, text) in texts.into_iter().enumerate() {
        let path = format!("{field}[{number}]");
        let recipient = person(&path, &text)?;
        if seen.insert(recipient.clone()) {
            people.push(Somebody { text, recipient });
        }
    }
    Ok(people)
}

fn some_people(texts: Vec<String>) -> Result<Vec<Somebody>, Status> {
    if texts.is_empty() {
        return Err(status::field_invalid("participants", "must name somebody"));
    }
    people("participants", texts)
}

pub(super) fn person(field: &str, text: &str) -> Result<Recipient, Status> {
    let why = match Recipient::parse(text) {
        Ok(Recipient::Group(_)) => "must be a person",
        Ok(person) => return Ok(person),
        Err(why) => why,
    };
    Err(refuse(Reason::RecipientInvalid, format!("{field} {why}"))
        .field(field, why)
        .into())
}

async fn edits(asked: v1::UpdateGroupRequest) -> Result<Vec<GroupEdit>, Status> {
    let mask = asked.update_mask.map(|mask| mask.paths).unwrap_or_default();
    let mut wanted: HashSet<String> = mask.into_iter().collect();
    if wanted.is_empty() {
        let description = format!("must name what to change: {FIELDS}");
        return Err(status::field_invalid("update_mask", description));
    }
    let mut edits = Vec::with_capacity(wanted.len());
    if wanted.remove("subject") {
        edits.push(GroupEdit::Subject(subject("subject", asked.subject)?));
    }
    if wanted.remove("description") {
        edits.push(GroupEdit::Description(description(asked.description)?));
    }
    if wanted.remove("picture") {
        edits.push(GroupEdit::Picture(picture(asked.picture).await?));
    }
    for (name, setting) in [
        ("announce", GroupSetting::Announce(asked.announce)),
        ("locked", GroupSetting::Locked(asked.locked)),
        (
            "ephemeral_seconds",
            GroupSetting::Ephemeral(timer(asked.ephemeral_seconds)?),
        ),
        (
            "join_approval",
            GroupSetting::JoinApproval(asked.join_approval),
        ),
        (
            "members_may_add",
            GroupSetting::MembersMayAdd(asked.members_may_add),
        ),
        (
            "history_for_newcomers",
            GroupSetting::History(asked.history_for_newcomers),
        ),
    ] {
        if wanted.remove(name) {
            edits.push(GroupEdit::Setting(setting));
        }
    }
    if !wanted.is_empty() {
        let description = format!("may name only {FIELDS}");
        return Err(status::field_invalid("update_mask", description));
    }
    Ok(edits)
}

async fn picture(bytes: Bytes) -> Result<Option<Picture>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    // To read one takes a while.
    let read = tokio::task::spawn_blocking(move || Picture::read(&bytes)).await;
    match read {
        Ok(Ok(picture)) => Ok(Some(picture)),
        Ok(Err(fault)) => Err(group_refused(GroupRefusal {
            fault,
            field: "picture".to_owned(),
            code: 0,
        })),
        Err(error) => {
            tracing::error!(%error, "a picture could not be read");
            Err(status::internal())
        }
    }
}

/// The code of an invite, if it is one as far as one can tell without asking.
fn invite_link(text: &str) -> Result<String, Status> {
    let code = invite_code(text);
    let named = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if code.is_empty() || text.len() > 256 || !code.chars().all(named) {
        return Err(group_refused(GroupRefusal {
            fault: GroupFault::InviteInvalid,
            field: "invite".to_owned(),
            code: 0,
        }));
    }
    Ok(code.to_owned())
}

fn personal(invite: v1::PersonalInvite) -> Result<Invite, Status> {
    let wanted = invite.invite.unwrap_or_default();
    let jid = group_jid(&wanted.group).map_err(|why| {
        refuse(Reason::GroupIdInvalid, format!("group {why}"))
            .field("personal_invite.invite.group", why)
    })?;
    if wanted.code.is_empty() {
        return Err(status::field_invalid(
            "personal_invite.invite.code",
            "must not be empty",
        ));
    }
    Ok(Invite::Personal {
        group: jid,
        code: wanted.code,
        expires: wanted.expire_time.as_ref().and_then(system_time),
        inviter: person("personal_invite.inviter", &invite.inviter)?,
    })
}

/// A refusal about a group, for callers.
pub(super) fn group_refused(refusal: GroupRefusal) -> Status {
    let sentence = refusal.to_string();
    let (reason, description) = match refusal.fault {
        GroupFault::NotFound => (Reason::GroupNotFound, "must be a group that there is"),
        GroupFault::NotMember => (
            Reason::GroupNotMember,
            "must be a group that the account is in",
        ),
        GroupFault::NotAdmin => (
            Reason::GroupAdminRequired,
            "may be asked for by admins of the group only",
        ),
        GroupFault::PictureInvalid => (
            Reason::PictureInvalid,
            "must be a JPEG or PNG of at most 2 MiB and 4,096 pixels a side",
        ),
        GroupFault::InviteInvalid => (
            Reason::InviteInvalid,
            "must be an invite link, its code, or a personal invite",
        ),
        GroupFault::InviteRevoked => (Reason::InviteRevoked, "must still be good"),
        GroupFault::Full => (Reason::GroupFull, "must have room"),
        GroupFault::JoinRefused => (
            Reason::GroupJoinRefused,
            "must be of a group that lets the account in",
        ),
        GroupFault::ChangedMeanwhile => (
            Reason::GroupChangedMeanwhile,
            "was changed by somebody else meanwhile",
        ),
        GroupFault::RateLimited(_) => (Reason::WhatsappRateLimited, "must be asked for later"),
        GroupFault::Refused => (Reason::GroupRefused, "was refused by WhatsApp"),
    };
    let mut refused = refuse(reason, sentence);
    if refusal.code != 0 {
        refused = refused.with("code", refusal.code);
    }
    if let GroupFault::RateLimited(patience) = refusal.fault {
        refused = refused.retry_after(patience);
    }
    refused.field(refusal.field, description).into()
}
