//! What a phone does to groups: create, change, come, go. By the same requests as any other device.

use wacore_binary::{Jid, Node, Server, builder::NodeBuilder};

use super::Phone;
use crate::sandbox::{
    address::{Number, User},
    error::SandboxError,
    group::{GroupId, MEMBER_ADD, mode_node},
    wire,
};

const NAMESPACE: &str = "w:g2";
const PICTURES: &str = "w:profile:picture";

/// A group to be created.
#[derive(Debug, Clone, Default)]
pub struct NewGroup {
    /// What it is called.
    pub subject: String,
    /// Who is to be in it beside its creator.
    pub members: Vec<Number>,
    /// Its members are named by number instead of by LID.
    pub number_addressed: bool,
}

/// What to change about members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberChange {
    /// Let them in.
    Add,
    /// Throw them out.
    Remove,
    /// Make them admins.
    Promote,
    /// Make them ordinary members.
    Demote,
    /// Let in who asked to come.
    Approve,
    /// Turn away who asked to come.
    Reject,
}

/// What became of a change for one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberOutcome {
    /// Who.
    pub number: Number,
    /// 200 when it was done, else WhatsApp's code for why not: 403 privacy, 404 unknown or not there, 409 there
    /// already, 419 the group is full …
    pub code: u16,
    /// The invitation to send to somebody who may not simply be added.
    pub invitation: Option<Invitation>,
}

/// An invitation of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// What the person has to know.
    pub code: String,
    /// Good until then, in Unix seconds.
    pub expires: u64,
}

/// What became of an attempt to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// A member now.
    Member(GroupId),
    /// An admin has to say yes.
    Waiting(GroupId),
}

/// One setting of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupSetting {
    /// What it is called.
    Subject(String),
    /// What it is about; nothing when empty.
    Description(String),
    /// Only admins write.
    Announce(bool),
    /// Only admins change subject, description, picture and timer.
    Locked(bool),
    /// Messages disappear after so many seconds; 0 never.
    Ephemeral(u32),
    /// Admins let in whoever comes by the invite code.
    Approval(bool),
    /// Every member adds others.
    MembersAdd(bool),
    /// Newcomers are sent what was written before.
    History(bool),
    /// A JPEG image; no picture when empty.
    Picture(Vec<u8>),
}

impl MemberChange {
    fn tag(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Promote => "promote",
            Self::Demote => "demote",
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

impl Phone {
    /// Creates a group; also says who could not be added.
    pub async fn create_group(
        &self,
        new: NewGroup,
    ) -> Result<(GroupId, Vec<MemberOutcome>), SandboxError> {
        let mut create = NodeBuilder::new("create").attr("subject", new.subject);
        if new.number_addressed {
            create = create.attr("addressing_mode", "pn");
        }
        let create = create.children(participants(&new.members)).build();
        let reply = self.ask("set", NAMESPACE, everywhere(), create).await?;
        let group = reply.get_optional_child("group");
        let id = group.and_then(|group| wire::text(group, "id")?.parse().ok());
        let id = id.ok_or_else(|| SandboxError::crypto("the network answers without a group"))?;
        let refused = group.map(|group| self.outcomes(group)).unwrap_or_default();
        let refused = refused.into_iter().filter(|outcome| outcome.code != 200);
        Ok((id, refused.collect()))
    }

    /// Changes members, one outcome for each.
    pub async fn change_members(
        &self,
        group: GroupId,
        change: MemberChange,
        members: &[Number],
    ) -> Result<Vec<MemberOutcome>, SandboxError> {
        let node = NodeBuilder::new(change.tag())
            .children(participants(members))
            .build();
        let review = matches!(change, MemberChange::Approve | MemberChange::Reject);
        let node = if review {
            NodeBuilder::new("membership_requests_action")
                .children([node])
                .build()
        } else {
            node
        };
        let reply = self.ask("set", NAMESPACE, group.jid(), node).await?;
        let mut answer = reply.children().and_then(|children| children.first());
        if review {
            answer = answer.and_then(|action| action.children()?.first());
        }
        Ok(answer.map(|node| self.outcomes(node)).unwrap_or_default())
    }

    fn outcomes(&self, node: &Node) -> Vec<MemberOutcome> {
        let Some(network) = self.network.upgrade() else {
            return Vec::new();
        };
        let state = network.lock();
        node.get_children_by_tag("participant")
            .filter_map(|person| {
                let jid = wire::jid(person, "jid")?;
                let number = match (state.account_of(&jid), User::of(&jid)?) {
                    (Some((account, _)), _) => account.number,
                    // Nobody's.
                    (None, User::Number(number)) => number,
                    (None, User::Lid(_)) => return None,
                };
                let invitation = person.get_optional_child("add_request").and_then(|ticket| {
                    Some(Invitation {
                        code: wire::text(ticket, "code")?,
                        expires: wire::number(ticket, "expiration")?,
                    })
                });
                Some(MemberOutcome {
                    number,
                    code: wire::number(person, "error").unwrap_or(200),
                    invitation,
                })
            })
            .collect()
    }

    /// Changes a setting.
    pub async fn set_group(
        &self,
        group: GroupId,
        setting: GroupSetting,
    ) -> Result<(), SandboxError> {
        let toggle = |on: bool, tags: [&'static str; 2]| wire::empty(tags[usize::from(!on)]);
        let node = match setting {
            GroupSetting::Subject(text) => wire::leaf("subject", text),
            GroupSetting::Description(text) => self.description(group, &text)?,
            GroupSetting::Announce(on) => toggle(on, ["announcement", "not_announcement"]),
            GroupSetting::Locked(on) => toggle(on, ["locked", "unlocked"]),
            GroupSetting::History(on) => toggle(on, ["group_history", "no_group_history"]),
            GroupSetting::Ephemeral(0) => wire::empty("not_ephemeral"),
            GroupSetting::Ephemeral(seconds) => NodeBuilder::new("ephemeral")
                .attr("expiration", seconds)
                .build(),
            GroupSetting::Picture(jpeg) => {
                let picture = NodeBuilder::new("picture").attr("type", "image");
                let picture = (!jpeg.is_empty()).then(|| picture.bytes(jpeg).build());
                self.ask("set", PICTURES, group.jid(), picture).await?;
                return Ok(());
            }
            GroupSetting::MembersAdd(on) => mode_node("member_add_mode", on, MEMBER_ADD),
            GroupSetting::Approval(on) => {
                let state = if on { "on" } else { "off" };
                let join = NodeBuilder::new("group_join").attr("state", state).build();
                NodeBuilder::new("membership_approval_mode")
                    .children([join])
                    .build()
            }
        };
        self.ask("set", NAMESPACE, group.jid(), node).await?;
        Ok(())
    }

    fn description(&self, group: GroupId, text: &str) -> Result<Node, SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let state = network.lock();
        let known = state.groups.get(&group);
        let known = known.ok_or(SandboxError::NoSuchGroup(group))?;
        let mut node = NodeBuilder::new("description");
        if let Some(now) = &known.description {
            node = node.attr("prev", now.id.as_str());
        }
        Ok(if text.is_empty() {
            node.attr("delete", "true").build()
        } else {
            node.children([wire::leaf("body", text)]).build()
        })
    }

    /// The invite code of a group; a new one if the old is to be worthless.
    pub async fn group_invite(&self, group: GroupId, reset: bool) -> Result<String, SandboxError> {
        let kind = if reset { "set" } else { "get" };
        let reply = self
            .ask(kind, NAMESPACE, group.jid(), wire::empty("invite"))
            .await?;
        let code = reply
            .get_optional_child("invite")
            .and_then(|invite| wire::text(invite, "code"));
        code.ok_or_else(|| SandboxError::crypto("the network answers without a code"))
    }

    /// Comes into a group by its invite code.
    pub async fn join_group(&self, code: &str) -> Result<Joined, SandboxError> {
        let invite = NodeBuilder::new("invite").attr("code", code).build();
        let reply = self.ask("set", NAMESPACE, everywhere(), invite).await?;
        joined(&reply)
    }

    /// Comes into a group by an invitation in person.
    pub async fn accept_invitation(
        &self,
        group: GroupId,
        invitation: &Invitation,
    ) -> Result<Joined, SandboxError> {
        let accept = NodeBuilder::new("accept")
            .attr("code", invitation.code.as_str())
            .attr("expiration", invitation.expires)
            .build();
        joined(&self.ask("set", NAMESPACE, group.jid(), accept).await?)
    }

    /// Leaves a group.
    pub async fn leave_group(&self, group: GroupId) -> Result<(), SandboxError> {
        let named = NodeBuilder::new("group").attr("id", group.jid()).build();
        let leave = NodeBuilder::new("leave").children([named]).build();
        self.ask("set", NAMESPACE, everywhere(), leave).await?;
        Ok(())
    }
}

/// Whom requests are for that name no group, or their group inside.
fn everywhere() -> Jid {
    Jid::new("", Server::Group)
}

fn participants(numbers: &[Number]) -> impl Iterator<Item = Node> {
    numbers.iter().map(|number| {
        NodeBuilder::new("participant")
            .attr("jid", number.jid())
            .build()
    })
}

fn joined(reply: &Node) -> Result<Joined, SandboxError> {
    let id = |tag: &str| GroupId::of(&wire::jid(reply.get_optional_child(tag)?, "jid")?);
    let member = id("group").map(Joined::Member);
    let answer = member.or_else(|| id("membership_approval_request").map(Joined::Waiting));
    answer.ok_or_else(|| SandboxError::crypto("the network answers without a group"))
}
