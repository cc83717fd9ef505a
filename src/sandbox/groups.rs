//! Driving groups: what phones do in them, and a look at them from outside.

use wacore_binary::builder::NodeBuilder;
use waproto::{
    buffa::{Message as _, MessageField},
    whatsapp::{ContextInfo, Message, message::ExtendedTextMessage},
};

use super::{
    Sandbox,
    address::{DeviceAddress, Number},
    error::SandboxError,
    group::{Group, GroupId, News},
    phone::{
        groups::{GroupSetting, Invitation, Joined, MemberChange, MemberOutcome, NewGroup},
        send::{SentText, check_text},
    },
};

/// A text for a group.
#[derive(Debug, Clone, Default)]
pub struct GroupText {
    /// What it says.
    pub text: String,
    /// Who is mentioned: JIDs, as they go over the wire.
    pub mentions: Vec<String>,
    /// The message in the phone's inbox that it answers.
    pub quoted_id: Option<String>,
    /// Devices that are not given the key to read it and have to ask for it.
    pub withheld_from: Vec<DeviceAddress>,
}

impl From<&str> for GroupText {
    fn from(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ..Self::default()
        }
    }
}

impl Sandbox {
    /// A group as it is now.
    pub fn group(&self, id: GroupId) -> Result<Group, SandboxError> {
        let group = self.network.lock().groups.get(&id).cloned();
        group.ok_or(SandboxError::NoSuchGroup(id))
    }

    /// All groups, or those one account is in, by id.
    pub fn groups(&self, member: Option<Number>) -> Vec<Group> {
        let state = self.network.lock();
        let groups = state.groups.values();
        groups
            .filter(|group| member.is_none_or(|number| group.members.contains_key(&number)))
            .cloned()
            .collect()
    }

    /// A phone creates a group. Also answers with who could not be added.
    pub async fn create_group(
        &self,
        phone: Number,
        new: NewGroup,
    ) -> Result<(GroupId, Vec<MemberOutcome>), SandboxError> {
        self.network.find_phone(phone)?.create_group(new).await
    }

    /// A phone changes members of a group, with an outcome for each.
    pub async fn change_members(
        &self,
        phone: Number,
        group: GroupId,
        change: MemberChange,
        members: &[Number],
    ) -> Result<Vec<MemberOutcome>, SandboxError> {
        let phone = self.network.find_phone(phone)?;
        phone.change_members(group, change, members).await
    }

    /// A phone changes a setting of a group.
    pub async fn set_group(
        &self,
        phone: Number,
        group: GroupId,
        setting: GroupSetting,
    ) -> Result<(), SandboxError> {
        self.network
            .find_phone(phone)?
            .set_group(group, setting)
            .await
    }

    /// A phone looks up the invite code of a group, or makes it worthless and gets a new one.
    pub async fn group_invite(
        &self,
        phone: Number,
        group: GroupId,
        reset: bool,
    ) -> Result<String, SandboxError> {
        self.network
            .find_phone(phone)?
            .group_invite(group, reset)
            .await
    }

    /// A phone joins by an invite code.
    pub async fn join_group(&self, phone: Number, code: &str) -> Result<Joined, SandboxError> {
        self.network.find_phone(phone)?.join_group(code).await
    }

    /// A phone joins by an invitation that an admin has written to its account.
    pub async fn accept_invitation(
        &self,
        phone: Number,
        group: GroupId,
        invitation: &Invitation,
    ) -> Result<Joined, SandboxError> {
        let phone = self.network.find_phone(phone)?;
        phone.accept_invitation(group, invitation).await
    }

    /// A phone leaves a group.
    pub async fn leave_group(&self, phone: Number, group: GroupId) -> Result<(), SandboxError> {
        self.network.find_phone(phone)?.leave_group(group).await
    }

    /// A phone writes to a group; returns when the network has it.
    pub async fn send_group_text(
        &self,
        phone: Number,
        group: GroupId,
        text: impl Into<GroupText>,
    ) -> Result<SentText, SandboxError> {
        let GroupText {
            text,
            mentions,
            quoted_id,
            withheld_from,
        } = text.into();
        check_text(&text)?;
        let phone = self.network.find_phone(phone)?;
        let mut context = ContextInfo {
            mentioned_jid: mentions,
            ..Default::default()
        };
        if let Some(id) = quoted_id {
            let quoted = phone.inbox.find(&id).ok_or_else(|| {
                SandboxError::invalid("quoted_id", "no message in the phone's inbox has this id")
            })?;
            let by = quoted.sender.number;
            let named = {
                let state = self.network.lock();
                let known = state.groups.get(&group);
                let namespace = known.ok_or(SandboxError::NoSuchGroup(group))?.namespace();
                let account = state.accounts.get(&by);
                account.map(|account| account.jid(namespace).to_string())
            };
            let message = Message::decode_from_slice(&quoted.message).unwrap_or_default();
            context.stanza_id = Some(id);
            context.participant = named;
            context.quoted_message = MessageField::some(message);
        }
        let message = Message {
            extended_text_message: MessageField::some(ExtendedTextMessage {
                text: Some(text),
                context_info: MessageField::some(context),
                ..Default::default()
            }),
            ..Default::default()
        };
        phone.send_to_group(group, message, &withheld_from).await
    }

    /// A phone loses the key by which a device writes to a group, and has to ask for it when it writes again.
    pub async fn forget_sender_key(
        &self,
        phone: Number,
        group: GroupId,
        device: DeviceAddress,
    ) -> Result<(), SandboxError> {
        let phone = self.network.find_phone(phone)?;
        phone.forget_sender_key(group, device).await
    }

    /// A group ceases to exist, as when WhatsApp ends it; its members are told why.
    pub fn end_group(&self, group: GroupId, reason: &str) -> Result<(), SandboxError> {
        let mut state = self.network.lock();
        let ended = state.groups.get(&group).cloned();
        let mut ended = ended.ok_or(SandboxError::NoSuchGroup(group))?;
        let what = NodeBuilder::new("delete").attr("reason", reason).build();
        let audience: Vec<Number> = std::mem::take(&mut ended.members).into_keys().collect();
        let news = News {
            actor: None,
            ..News::to(audience, ended.creator, what)
        };
        state
            .change_group(ended, vec![news])
            .map_err(|_| SandboxError::Storage(std::io::Error::other("the change was not stored")))
    }
}
