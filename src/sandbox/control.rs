//! The gRPC face of [`Sandbox`]: reads requests, calls the handle, writes answers. Decides nothing.

mod calls;
mod faults;
mod groups;
mod messages;

use std::time::{Duration, SystemTime};

use futures::{StreamExt, stream::BoxStream};
use pbjson_types::Timestamp;
use tonic::{Request, Response, Status};

use super::{
    ActiveRule, Chat, DeviceAddress, Direction, InboxMessage, LoginFailure, MediaFault,
    MediaFaultAction, Number, PhoneInfo, PhoneOptions, Sandbox, SandboxError, WireEntry,
};
use crate::proto::sandbox_v1::{
    self as pb, add_media_fault_request::Action as MediaAction,
    sandbox_service_server::SandboxService,
};

const MAX_PUSH_NAME: usize = 100;

/// Serves `wagate.sandbox.v1.SandboxService`.
#[derive(Clone)]
pub struct ControlService {
    sandbox: Sandbox,
}

impl ControlService {
    pub(super) fn new(sandbox: Sandbox) -> Self {
        Self { sandbox }
    }
}

impl From<SandboxError> for Status {
    fn from(error: SandboxError) -> Self {
        let text = error.to_string();
        match error {
            SandboxError::Invalid { .. } | SandboxError::WrongCode => {
                Status::invalid_argument(text)
            }
            SandboxError::NoSuchPhone(_)
            | SandboxError::NoSuchUser(_)
            | SandboxError::NoSuchDevice(_)
            | SandboxError::NoSuchGroup(_)
            | SandboxError::NoSuchCall(_)
            | SandboxError::NothingToPair { .. } => Status::not_found(text),
            SandboxError::Exists { .. } => Status::already_exists(text),
            SandboxError::NotConnected(_)
            | SandboxError::Refused(_)
            | SandboxError::NotRinging(_)
            | SandboxError::NotTalking(_) => Status::failed_precondition(text),
            SandboxError::Denied { code, .. } => match code {
                401 | 403 | 405 => Status::permission_denied(text),
                404 => Status::not_found(text),
                400 | 406 => Status::invalid_argument(text),
                409 => Status::already_exists(text),
                _ => Status::failed_precondition(text),
            },
            SandboxError::Exhausted(_) => Status::resource_exhausted(text),
            SandboxError::TimedOut => Status::deadline_exceeded(text),
            SandboxError::Closed => Status::unavailable(text),
            SandboxError::Listen { .. }
            | SandboxError::Storage(_)
            | SandboxError::Damaged { .. }
            | SandboxError::Crypto(_) => Status::internal(text),
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl SandboxService for ControlService {
    async fn get_network_info(
        &self,
        _: Request<pb::GetNetworkInfoRequest>,
    ) -> Answer<pb::GetNetworkInfoResponse> {
        Ok(Response::new(pb::GetNetworkInfoResponse {
            websocket_url: self.sandbox.ws_url(),
            noise_static_key: self.sandbox.static_key().to_vec().into(),
            root_key: self.sandbox.root_key().to_vec().into(),
            placeholder_number: self.sandbox.placeholder_number().to_string(),
        }))
    }

    async fn create_phone(
        &self,
        request: Request<pb::CreatePhoneRequest>,
    ) -> Answer<pb::CreatePhoneResponse> {
        let request = request.into_inner();
        if request.push_name.len() > MAX_PUSH_NAME {
            return Err(SandboxError::invalid("push_name", "must have at most 100 bytes").into());
        }
        let options = PhoneOptions {
            number: optional_number("number", &request.number)?,
            lid_addressed: request.lid_addressed,
            dormant: request.dormant,
            group_adds: request.group_adds().into(),
            push_name: request.push_name,
        };
        let phone = self.sandbox.create_phone(options).await?;
        Ok(Response::new(pb::CreatePhoneResponse {
            phone: Some(phone.into()),
        }))
    }

    async fn list_phones(
        &self,
        _: Request<pb::ListPhonesRequest>,
    ) -> Answer<pb::ListPhonesResponse> {
        let phones = self.sandbox.phones().into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListPhonesResponse { phones }))
    }

    async fn scan_qr(&self, request: Request<pb::ScanQrRequest>) -> Answer<pb::ScanQrResponse> {
        let request = request.into_inner();
        let phone = number("phone", &request.phone)?;
        let device = self.sandbox.scan_qr(phone, &request.qr).await?;
        Ok(Response::new(pb::ScanQrResponse {
            device: Some(device.into()),
        }))
    }

    async fn enter_pairing_code(
        &self,
        request: Request<pb::EnterPairingCodeRequest>,
    ) -> Answer<pb::EnterPairingCodeResponse> {
        let request = request.into_inner();
        let phone = number("phone", &request.phone)?;
        let device = self.sandbox.enter_code(phone, &request.code).await?;
        Ok(Response::new(pb::EnterPairingCodeResponse {
            device: Some(device.into()),
        }))
    }

    async fn send_text(
        &self,
        request: Request<pb::SendTextRequest>,
    ) -> Answer<pb::SendTextResponse> {
        let request = request.into_inner();
        let phone = number("phone", &request.phone)?;
        let chat = messages::chat(&self.sandbox, &request.to)?;
        if !matches!(chat, Chat::Group(_)) {
            groups::check_none(&request)?;
        }
        if !request.id.is_empty() && !matches!(chat, Chat::User(_)) {
            return Err(SandboxError::invalid("id", "is for messages to one person only").into());
        }
        let sent = match chat {
            Chat::Group(group) => {
                let text = groups::text(request);
                self.sandbox.send_group_text(phone, group, text).await?
            }
            Chat::User(to) if request.id.is_empty() => {
                self.sandbox.send_text(phone, to, &request.text).await?
            }
            Chat::User(to) => {
                self.sandbox
                    .send_text_as(phone, to, &request.text, request.id)
                    .await?
            }
            Chat::Status => self.sandbox.post_status(phone, &request.text).await?,
        };
        Ok(Response::new(pb::SendTextResponse {
            id: sent.id,
            send_time: Some(timestamp(sent.time)),
        }))
    }

    async fn send_message(
        &self,
        request: Request<pb::SendMessageRequest>,
    ) -> Answer<pb::SendMessageResponse> {
        messages::send(&self.sandbox, request.into_inner()).await
    }

    async fn star_message(
        &self,
        request: Request<pb::StarMessageRequest>,
    ) -> Answer<pb::StarMessageResponse> {
        messages::star(&self.sandbox, request.into_inner()).await
    }

    async fn delete_message_for_me(
        &self,
        request: Request<pb::DeleteMessageForMeRequest>,
    ) -> Answer<pb::DeleteMessageForMeResponse> {
        messages::delete_for_me(&self.sandbox, request.into_inner()).await
    }

    async fn list_message_marks(
        &self,
        request: Request<pb::ListMessageMarksRequest>,
    ) -> Answer<pb::ListMessageMarksResponse> {
        messages::marks(&self.sandbox, &request.into_inner().phone).await
    }

    async fn create_group(
        &self,
        request: Request<pb::CreateGroupRequest>,
    ) -> Answer<pb::CreateGroupResponse> {
        groups::create(&self.sandbox, request.into_inner()).await
    }

    async fn get_group(
        &self,
        request: Request<pb::GetGroupRequest>,
    ) -> Answer<pb::GetGroupResponse> {
        let group = groups::show(&self.sandbox, groups::id(&request.into_inner().group)?)?;
        Ok(Response::new(pb::GetGroupResponse { group: Some(group) }))
    }

    async fn list_groups(
        &self,
        request: Request<pb::ListGroupsRequest>,
    ) -> Answer<pb::ListGroupsResponse> {
        let member = optional_number("member", &request.into_inner().member)?;
        let groups = self.sandbox.groups(member);
        let groups = groups
            .into_iter()
            .map(|group| groups::shown(&self.sandbox, group));
        Ok(Response::new(pb::ListGroupsResponse {
            groups: groups.collect(),
        }))
    }

    async fn update_group(
        &self,
        request: Request<pb::UpdateGroupRequest>,
    ) -> Answer<pb::UpdateGroupResponse> {
        groups::update(&self.sandbox, request.into_inner()).await
    }

    async fn change_group_members(
        &self,
        request: Request<pb::ChangeGroupMembersRequest>,
    ) -> Answer<pb::ChangeGroupMembersResponse> {
        groups::change_members(&self.sandbox, request.into_inner()).await
    }

    async fn get_group_invite(
        &self,
        request: Request<pb::GetGroupInviteRequest>,
    ) -> Answer<pb::GetGroupInviteResponse> {
        let pb::GetGroupInviteRequest { phone, group } = request.into_inner();
        let code = groups::invite(&self.sandbox, &phone, &group, false).await?;
        Ok(Response::new(pb::GetGroupInviteResponse { code }))
    }

    async fn reset_group_invite(
        &self,
        request: Request<pb::ResetGroupInviteRequest>,
    ) -> Answer<pb::ResetGroupInviteResponse> {
        let pb::ResetGroupInviteRequest { phone, group } = request.into_inner();
        let code = groups::invite(&self.sandbox, &phone, &group, true).await?;
        Ok(Response::new(pb::ResetGroupInviteResponse { code }))
    }

    async fn join_group(
        &self,
        request: Request<pb::JoinGroupRequest>,
    ) -> Answer<pb::JoinGroupResponse> {
        groups::join(&self.sandbox, request.into_inner()).await
    }

    async fn leave_group(
        &self,
        request: Request<pb::LeaveGroupRequest>,
    ) -> Answer<pb::LeaveGroupResponse> {
        let request = request.into_inner();
        let (phone, group) = (
            number("phone", &request.phone)?,
            groups::id(&request.group)?,
        );
        self.sandbox.leave_group(phone, group).await?;
        Ok(Response::new(pb::LeaveGroupResponse {}))
    }

    async fn end_group(
        &self,
        request: Request<pb::EndGroupRequest>,
    ) -> Answer<pb::EndGroupResponse> {
        let request = request.into_inner();
        let reason = match request.reason.as_str() {
            "" => "ended",
            reason => reason,
        };
        self.sandbox
            .end_group(groups::id(&request.group)?, reason)?;
        Ok(Response::new(pb::EndGroupResponse {}))
    }

    async fn start_call(
        &self,
        request: Request<pb::StartCallRequest>,
    ) -> Answer<pb::StartCallResponse> {
        calls::start(&self.sandbox, request.into_inner()).await
    }

    async fn accept_call(
        &self,
        request: Request<pb::AcceptCallRequest>,
    ) -> Answer<pb::AcceptCallResponse> {
        let pb::AcceptCallRequest { phone, call_id } = request.into_inner();
        let call = self
            .sandbox
            .accept_call(number("phone", &phone)?, &call_id)?;
        let call = Some(call.into());
        Ok(Response::new(pb::AcceptCallResponse { call }))
    }

    async fn reject_call(
        &self,
        request: Request<pb::RejectCallRequest>,
    ) -> Answer<pb::RejectCallResponse> {
        let pb::RejectCallRequest { phone, call_id } = request.into_inner();
        let call = self
            .sandbox
            .reject_call(number("phone", &phone)?, &call_id)?;
        let call = Some(call.into());
        Ok(Response::new(pb::RejectCallResponse { call }))
    }

    async fn end_call(&self, request: Request<pb::EndCallRequest>) -> Answer<pb::EndCallResponse> {
        let pb::EndCallRequest { phone, call_id } = request.into_inner();
        let call = self.sandbox.end_call(number("phone", &phone)?, &call_id)?;
        let call = Some(call.into());
        Ok(Response::new(pb::EndCallResponse { call }))
    }

    async fn list_calls(
        &self,
        request: Request<pb::ListCallsRequest>,
    ) -> Answer<pb::ListCallsResponse> {
        calls::list(&self.sandbox, &request.into_inner().phone)
    }

    async fn list_chat_states(
        &self,
        request: Request<pb::ListChatStatesRequest>,
    ) -> Answer<pb::ListChatStatesResponse> {
        messages::chat_states(&self.sandbox, &request.into_inner().phone)
    }

    type StreamInboxStream = BoxStream<'static, Result<pb::StreamInboxResponse, Status>>;

    async fn stream_inbox(
        &self,
        request: Request<pb::StreamInboxRequest>,
    ) -> Answer<Self::StreamInboxStream> {
        let request = request.into_inner();
        let phone = number("phone", &request.phone)?;
        let stop = self.sandbox.network.stop.clone();
        let messages = self
            .sandbox
            .inbox(phone, request.after_sequence)?
            .take_until(stop.cancelled_owned())
            .map({
                let sandbox = self.sandbox.clone();
                move |message| {
                    Ok(pb::StreamInboxResponse {
                        message: Some(inbox_message(&sandbox, phone, message)),
                    })
                }
            });
        Ok(Response::new(messages.boxed()))
    }

    async fn unlink_device(
        &self,
        request: Request<pb::UnlinkDeviceRequest>,
    ) -> Answer<pb::UnlinkDeviceResponse> {
        let request = request.into_inner();
        self.sandbox
            .unlink_device(device(&request.phone, request.device)?)?;
        Ok(Response::new(pb::UnlinkDeviceResponse {}))
    }

    async fn switch_phone(
        &self,
        request: Request<pb::SwitchPhoneRequest>,
    ) -> Answer<pb::SwitchPhoneResponse> {
        let request = request.into_inner();
        let phone = number("phone", &request.phone)?;
        self.sandbox.switch_phone(phone, request.on).await?;
        Ok(Response::new(pb::SwitchPhoneResponse {}))
    }

    async fn reinstall_phone(
        &self,
        request: Request<pb::ReinstallPhoneRequest>,
    ) -> Answer<pb::ReinstallPhoneResponse> {
        let phone = number("phone", &request.into_inner().phone)?;
        self.sandbox.reinstall_phone(phone).await?;
        let phone = Some(self.sandbox.phone(phone)?.into());
        Ok(Response::new(pb::ReinstallPhoneResponse { phone }))
    }

    async fn limit_strangers(
        &self,
        request: Request<pb::LimitStrangersRequest>,
    ) -> Answer<pb::LimitStrangersResponse> {
        let request = request.into_inner();
        let phone = number("phone", &request.phone)?;
        let length = duration("length", request.length.unwrap_or_default())?;
        let end = self.sandbox.limit_strangers(phone, length)?;
        Ok(Response::new(pb::LimitStrangersResponse {
            end_time: Some(timestamp(end)),
        }))
    }

    async fn drop_connection(
        &self,
        request: Request<pb::DropConnectionRequest>,
    ) -> Answer<pb::DropConnectionResponse> {
        let request = request.into_inner();
        self.sandbox
            .drop_connection(device(&request.phone, request.device)?)?;
        Ok(Response::new(pb::DropConnectionResponse {}))
    }

    async fn fail_next_login(
        &self,
        request: Request<pb::FailNextLoginRequest>,
    ) -> Answer<pb::FailNextLoginResponse> {
        let request = request.into_inner();
        if !(400..600).contains(&request.reason) {
            return Err(SandboxError::invalid("reason", "must be 400 to 599").into());
        }
        let failure = LoginFailure {
            reason: code("reason", request.reason)?,
            code: request.code,
            expire: match request.expire {
                Some(expire) => Some(duration("expire", expire)?.as_secs()),
                None => None,
            },
        };
        let number = optional_number("phone", &request.phone)?;
        let device = request.device.map(device_number).transpose()?;
        self.sandbox.fail_next_login(number, device, failure)?;
        Ok(Response::new(pb::FailNextLoginResponse {}))
    }

    async fn send_stream_error(
        &self,
        request: Request<pb::SendStreamErrorRequest>,
    ) -> Answer<pb::SendStreamErrorResponse> {
        let request = request.into_inner();
        let device = device(&request.phone, request.device)?;
        let code = request.code.map(|value| code("code", value)).transpose()?;
        let conflict = Some(request.conflict.as_str()).filter(|conflict| !conflict.is_empty());
        self.sandbox.send_stream_error(device, code, conflict)?;
        Ok(Response::new(pb::SendStreamErrorResponse {}))
    }

    async fn add_fault_rule(
        &self,
        request: Request<pb::AddFaultRuleRequest>,
    ) -> Answer<pb::AddFaultRuleResponse> {
        let rule = request.into_inner().rule;
        let rule = rule.ok_or_else(|| SandboxError::invalid("rule", "is missing"))?;
        let rule = faults::rule_of(rule)?;
        let id = self.sandbox.add_fault(rule.clone())?;
        let active = ActiveRule { id, rule, hits: 0 };
        Ok(Response::new(pb::AddFaultRuleResponse {
            rule: Some(active.into()),
        }))
    }

    async fn list_fault_rules(
        &self,
        _: Request<pb::ListFaultRulesRequest>,
    ) -> Answer<pb::ListFaultRulesResponse> {
        let rules = self.sandbox.faults().into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListFaultRulesResponse { rules }))
    }

    async fn clear_fault_rules(
        &self,
        request: Request<pb::ClearFaultRulesRequest>,
    ) -> Answer<pb::ClearFaultRulesResponse> {
        let cleared = self.sandbox.clear_faults(&request.into_inner().ids);
        Ok(Response::new(pb::ClearFaultRulesResponse {
            cleared: saturating(cleared),
        }))
    }

    async fn add_media_fault(
        &self,
        request: Request<pb::AddMediaFaultRequest>,
    ) -> Answer<pb::AddMediaFaultResponse> {
        let request = request.into_inner();
        let action = match request.action {
            Some(MediaAction::Status(status)) => MediaFaultAction::Status(code("status", status)?),
            Some(MediaAction::BytesPerSecond(rate)) => MediaFaultAction::Slow(rate),
            Some(MediaAction::BreakAfterBytes(bytes)) => MediaFaultAction::BreakAfter(bytes),
            Some(MediaAction::Damage(true)) => MediaFaultAction::Damage,
            Some(MediaAction::Damage(false)) | None => {
                return Err(SandboxError::invalid("action", "is missing").into());
            }
        };
        self.sandbox.add_media_fault(MediaFault {
            uploads: request.uploads,
            downloads: request.downloads,
            action,
            count: (request.count > 0).then_some(request.count),
        })?;
        Ok(Response::new(pb::AddMediaFaultResponse {}))
    }

    async fn clear_media_faults(
        &self,
        _: Request<pb::ClearMediaFaultsRequest>,
    ) -> Answer<pb::ClearMediaFaultsResponse> {
        self.sandbox.clear_media_faults();
        Ok(Response::new(pb::ClearMediaFaultsResponse {}))
    }

    async fn expire_media(
        &self,
        _: Request<pb::ExpireMediaRequest>,
    ) -> Answer<pb::ExpireMediaResponse> {
        self.sandbox.expire_media()?;
        Ok(Response::new(pb::ExpireMediaResponse {}))
    }

    async fn get_wire_log(
        &self,
        request: Request<pb::GetWireLogRequest>,
    ) -> Answer<pb::GetWireLogResponse> {
        let request = request.into_inner();
        let device = device(&request.phone, request.device)?;
        let entries = self.sandbox.wire_log(device, request.after_sequence);
        Ok(Response::new(pb::GetWireLogResponse {
            entries: entries.into_iter().map(Into::into).collect(),
        }))
    }
}

fn number(field: &'static str, text: &str) -> Result<Number, SandboxError> {
    text.parse()
        .map_err(|error: super::InvalidNumber| SandboxError::invalid(field, error.to_string()))
}

fn optional_number(field: &'static str, text: &str) -> Result<Option<Number>, SandboxError> {
    (!text.is_empty()).then(|| number(field, text)).transpose()
}

fn device_number(device: u32) -> Result<u16, SandboxError> {
    u16::try_from(device).map_err(|_| SandboxError::invalid("device", "must be at most 65535"))
}

fn device(phone: &str, device: u32) -> Result<DeviceAddress, SandboxError> {
    Ok(number("phone", phone)?.device(device_number(device)?))
}

fn code(field: &'static str, value: u32) -> Result<u16, SandboxError> {
    u16::try_from(value).map_err(|_| SandboxError::invalid(field, "must be at most 65535"))
}

fn duration(field: &'static str, value: pbjson_types::Duration) -> Result<Duration, SandboxError> {
    match (u64::try_from(value.seconds), u32::try_from(value.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => Err(SandboxError::invalid(
            field,
            "must be a duration of 0 or more",
        )),
    }
}

fn proto_duration(duration: Duration) -> pbjson_types::Duration {
    pbjson_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

fn saturating(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl From<Direction> for pb::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::FromDevice => Self::FromDevice,
            Direction::ToDevice => Self::ToDevice,
        }
    }
}

impl From<DeviceAddress> for pb::Device {
    fn from(address: DeviceAddress) -> Self {
        Self {
            number: address.number.to_string(),
            device: address.device.into(),
        }
    }
}

impl From<PhoneInfo> for pb::Phone {
    fn from(phone: PhoneInfo) -> Self {
        let companions = phone.companions.into_iter().map(|companion| pb::Companion {
            device: companion.device.device.into(),
            connected: companion.connected,
            queued: saturating(companion.queued),
        });
        Self {
            number: phone.number.to_string(),
            lid: phone.lid.jid().to_string(),
            push_name: phone.push_name,
            lid_addressed: phone.lid_addressed,
            dormant: phone.dormant,
            switched_off: phone.switched_off,
            group_adds: pb::GroupAdds::from(phone.group_adds).into(),
            companions: companions.collect(),
        }
    }
}

impl From<WireEntry> for pb::WireEntry {
    fn from(entry: WireEntry) -> Self {
        Self {
            sequence: entry.sequence,
            time: Some(timestamp(entry.time)),
            direction: pb::Direction::from(entry.direction).into(),
            stanza: entry.text,
            copies: saturating(entry.copies),
            delay: (!entry.delay.is_zero()).then(|| proto_duration(entry.delay)),
        }
    }
}

fn inbox_message(sandbox: &Sandbox, phone: Number, message: InboxMessage) -> pb::InboxMessage {
    let money = messages::money(sandbox, &message);
    pb::InboxMessage {
        money,
        sequence: message.sequence,
        view_once: message.is_view_once(),
        id: message.id,
        chat: message.chat.to_string(),
        sender: message.sender.number.to_string(),
        sender_device: message.sender.device.into(),
        from_me: message.sender.number == phone,
        by_lid: message.by_lid,
        push_name: message.push_name,
        send_time: Some(timestamp(message.time)),
        text: message.text.unwrap_or_default(),
        message: message.message,
        group: message
            .group
            .map(|group| group.jid().to_string())
            .unwrap_or_default(),
        status: message.status,
    }
}
