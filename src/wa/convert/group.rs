//! Groups and what happens in them, in our words.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use whatsapp_rust::{
    Jid,
    features::{GroupMetadata, GroupParticipant, ParticipantType},
    types::events::{GroupUpdate, PictureUpdate},
    types::message::AddressingMode,
    wacore::{
        iq::groups::GroupInfoResponse,
        protocol::ProtocolNode as _,
        stanza::groups::{
            GroupNotificationAction, GroupParticipantInfo, GroupParticipantType,
            MembershipRequestMethod,
        },
    },
    wacore_binary::NodeRef,
};

use super::{NAME_BYTES, cut, ids, label};
use crate::{
    domain::limits::{DESCRIPTION_CHARS, SUBJECT_CHARS},
    events::timestamp,
    proto::v1,
};

/// Something that happened in a group.
#[derive(Clone, Debug)]
pub struct News {
    /// The group's JID.
    pub group: String,
    /// Who did it.
    pub actor: Option<v1::Party>,
    /// When.
    pub time: SystemTime,
    /// What.
    pub action: Action,
}

/// A setting of a group, as it has become or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Whether only admins write.
    Announce(bool),
    /// Whether only admins change the group.
    Locked(bool),
    /// How long messages live, in seconds; 0 is for ever.
    Ephemeral(u32),
    /// Whether joining needs an admin.
    JoinApproval(bool),
    /// Whether every member may add others.
    MembersMayAdd(bool),
    /// Whether newcomers see what was written before.
    History(bool),
}

/// What happens in a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Members came; with WhatsApp's word for why.
    Add(Vec<v1::GroupParticipant>, String),
    /// Members went; with WhatsApp's word for why.
    Remove(Vec<v1::GroupParticipant>, String),
    /// Members became admins.
    Promote(Vec<v1::GroupParticipant>),
    /// Admins became members.
    Demote(Vec<v1::GroupParticipant>),
    /// A new subject, by whom and when.
    Subject(String, Option<v1::Party>, Option<SystemTime>),
    /// A new description; empty is none.
    Description(String),
    /// A new picture, by WhatsApp's id; empty is none.
    Picture(String),
    /// A setting is another one.
    Setting(Setting),
    /// Whether WhatsApp has suspended it.
    Suspended(bool),
    /// Here is a group with the account in it.
    Create(Box<v1::Group>),
    /// The group is gone.
    Delete,
    /// People ask to join, in this way; or no longer do.
    JoinRequests(v1::GroupJoinRequestChange, Vec<v1::Party>, String),
    /// Something that can only be learnt by asking.
    Doubt,
}

/// What a notification tells; `None` for what changes nothing that we show.
pub fn news(update: &GroupUpdate) -> Option<News> {
    let actor = update.participant.as_ref().filter(|jid| fits(jid));
    let name = update.notify.as_deref().unwrap_or_default();
    let actor = actor.map(|jid| ids::party([Some(jid), update.participant_pn.as_ref()], name));
    let action = action(&update.action, actor.as_ref())?;
    fits(&update.group_jid).then(|| News {
        group: update.group_jid.to_non_ad_string(),
        actor,
        time: update.timestamp.into(),
        action,
    })
}

/// What the change of a picture tells, if it is that of a group.
pub fn picture_news(update: &PictureUpdate) -> Option<News> {
    if !whatsapp_rust::wacore_binary::JidExt::is_group(&update.jid) || !fits(&update.jid) {
        return None;
    }
    let author = update.author.as_ref().filter(|jid| fits(jid));
    Some(News {
        group: update.jid.to_non_ad_string(),
        actor: author.map(|jid| ids::party([Some(jid), None], "")),
        time: update.timestamp.into(),
        action: Action::Picture(match (&update.picture_id, update.removed) {
            (Some(id), false) => label(id).into_owned(),
            _ => String::new(),
        }),
    })
}

fn action(action: &GroupNotificationAction, actor: Option<&v1::Party>) -> Option<Action> {
    use GroupNotificationAction as Told;
    let reason =
        |reason: &Option<String>| label(reason.as_deref().unwrap_or_default()).into_owned();
    Some(match action {
        Told::Add {
            participants,
            reason: why,
        } => Action::Add(people(participants), reason(why)),
        Told::Remove {
            participants,
            reason: why,
        } => Action::Remove(people(participants), reason(why)),
        Told::Promote { participants } => Action::Promote(people(participants)),
        Told::Demote { participants } => Action::Demote(people(participants)),
        Told::Subject {
            subject,
            subject_owner,
            subject_time,
        } => Action::Subject(
            cut(subject, SUBJECT_CHARS),
            subject_owner
                .as_ref()
                .filter(|jid| fits(jid))
                .map(|jid| ids::party([Some(jid), None], "")),
            subject_time.map(seconds),
        ),
        Told::Description { description, .. } => Action::Description(cut(
            description.as_deref().unwrap_or_default(),
            DESCRIPTION_CHARS,
        )),
        Told::Locked { .. } => Action::Setting(Setting::Locked(true)),
        Told::Unlocked => Action::Setting(Setting::Locked(false)),
        Told::Announce => Action::Setting(Setting::Announce(true)),
        Told::NotAnnounce => Action::Setting(Setting::Announce(false)),
        Told::Ephemeral { expiration, .. } => Action::Setting(Setting::Ephemeral(*expiration)),
        Told::MembershipApprovalMode { enabled } => {
            Action::Setting(Setting::JoinApproval(*enabled))
        }
        Told::MemberAddMode { mode } => {
            Action::Setting(Setting::MembersMayAdd(mode == "all_member_add"))
        }
        Told::Suspended => Action::Suspended(true),
        Told::Unsuspended => Action::Suspended(false),
        Told::Delete { .. } => Action::Delete,
        Told::Create { raw } => {
            let node = raw.as_node_ref();
            let group = node.get_optional_child("group")?;
            match of_node(group) {
                Ok(group) => Action::Create(Box::new(group)),
                Err(_) => Action::Doubt,
            }
        }
        Told::MembershipApprovalRequest { request_method, .. } => Action::JoinRequests(
            v1::GroupJoinRequestChange::Created,
            vec![actor?.clone()],
            method(request_method),
        ),
        Told::CreatedMembershipRequests {
            request_method,
            requests,
            ..
        } => Action::JoinRequests(
            v1::GroupJoinRequestChange::Created,
            people(requests)
                .into_iter()
                .filter_map(|one| one.party)
                .collect(),
            method(request_method),
        ),
        Told::RevokedMembershipRequests { participants } => {
            let parties: Vec<_> = participants
                .iter()
                .filter(|jid| fits(jid))
                .map(|jid| ids::party([Some(jid), None], ""))
                .collect();
            let own = |party: &v1::Party| actor.is_some_and(|actor| ids::is_same(actor, party));
            let change = if parties.iter().all(own) {
                v1::GroupJoinRequestChange::Withdrawn
            } else {
                v1::GroupJoinRequestChange::Rejected
            };
            Action::JoinRequests(change, parties, String::new())
        }
        // A member has a new number and the notification does not say whose it was; communities
        // move groups about; and some settings have no words in the library.
        Told::Modify { .. } | Told::Link { .. } | Told::Unlink { .. } => Action::Doubt,
        Told::Unknown { tag } => match tag.as_str() {
            "group_history" => Action::Setting(Setting::History(true)),
            "no_group_history" => Action::Setting(Setting::History(false)),
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether a JID is such as WhatsApp gives.
fn fits(jid: &Jid) -> bool {
    (1..=NAME_BYTES).contains(&jid.user.len())
}

fn method(method: &MembershipRequestMethod) -> String {
    match method {
        MembershipRequestMethod::InviteLink => "invite_link",
        MembershipRequestMethod::LinkedGroupJoin => "linked_group_join",
        MembershipRequestMethod::NonAdminAdd => "non_admin_add",
    }
    .to_owned()
}

fn people(told: &[GroupParticipantInfo]) -> Vec<v1::GroupParticipant> {
    told.iter()
        .filter(|one| fits(&one.jid))
        .map(|one| {
            let other = one.phone_number.as_ref().or(one.lid.as_ref());
            let role = match one.r#type {
                Some(GroupParticipantType::Admin) => v1::GroupRole::Admin,
                Some(GroupParticipantType::SuperAdmin) => v1::GroupRole::Owner,
                _ => v1::GroupRole::Member,
            };
            v1::GroupParticipant {
                party: Some(ids::party([Some(&one.jid), other], "")),
                role: role.into(),
            }
        })
        .collect()
}

/// A group as WhatsApp describes it, but for what only the account knows: whether it is in it.
pub fn of_node(node: &NodeRef<'_>) -> anyhow::Result<v1::Group> {
    let mut group = metadata(&GroupInfoResponse::try_from_node_ref(node)?.into());
    // Those who could not be added stand among the members.
    let mut refused = node.get_children_by_tag("participant");
    if refused.any(|one| one.get_attr("error").is_some()) {
        let refused = node.get_children_by_tag("participant");
        let refused: HashSet<String> = refused
            .filter(|one| one.get_attr("error").is_some())
            .filter_map(|one| Some(one.attrs().optional_jid("jid")?.to_non_ad_string()))
            .collect();
        group.participants.retain(|one| {
            let party = one.party.as_ref();
            !party.is_some_and(|who| refused.contains(&who.lid) || refused.contains(&who.jid))
        });
        group.size = u32::try_from(group.participants.len()).unwrap_or(u32::MAX);
    }
    let mode = node.get_optional_child("member_add_mode");
    let mode = mode.and_then(|mode| mode.content_as_string());
    // As WhatsApp's apps make groups, where it does not say.
    group.members_may_add = mode.is_none_or(|mode| &*mode == "all_member_add");
    Ok(group)
}

fn metadata(group: &GroupMetadata) -> v1::Group {
    let party = |jid: &Option<Jid>, number: &Option<Jid>| {
        let jid = jid.as_ref().filter(|jid| fits(jid))?;
        Some(ids::party([Some(jid), number.as_ref()], ""))
    };
    let time = |unix: Option<u64>| {
        unix.filter(|unix| *unix > 0)
            .map(|unix| timestamp(seconds(unix)))
    };
    let participants: Vec<_> = group.participants.iter().filter_map(participant).collect();
    let size = group.size.unwrap_or_default();
    v1::Group {
        id: group.id.to_non_ad_string(),
        subject: cut(&group.subject, SUBJECT_CHARS),
        subject_time: time(group.subject_time),
        subject_owner: party(&group.subject_owner, &group.subject_owner_pn),
        description: cut(
            group.description.as_deref().unwrap_or_default(),
            DESCRIPTION_CHARS,
        ),
        description_time: time(group.description_time),
        description_owner: party(&group.description_owner, &group.description_owner_pn),
        creator: party(&group.creator, &group.creator_pn),
        create_time: time(group.creation_time),
        announce: group.is_announcement,
        locked: group.is_locked,
        ephemeral_seconds: group
            .ephemeral
            .and_then(|ephemeral| ephemeral.expiration)
            .unwrap_or(0),
        join_approval: group.membership_approval,
        history_for_newcomers: group.has_group_history,
        addressing: match group.addressing_mode {
            AddressingMode::Pn => v1::GroupAddressing::Number,
            AddressingMode::Lid => v1::GroupAddressing::Lid,
        }
        .into(),
        size: size.max(u32::try_from(participants.len()).unwrap_or(u32::MAX)),
        participants,
        community: group
            .parent_group_jid
            .as_ref()
            .filter(|jid| fits(jid))
            .map(ToString::to_string)
            .unwrap_or_default(),
        suspended: group.is_suspended,
        ..Default::default()
    }
}

/// A request to join, if it says whose.
pub fn join_request(node: &NodeRef<'_>) -> Option<v1::JoinRequest> {
    let mut attrs = node.attrs();
    let jid = attrs.optional_jid("jid").filter(fits)?;
    let other = ["phone_number", "lid"]
        .into_iter()
        .find_map(|name| attrs.optional_jid(name));
    let time = attrs.optional_u64("request_time").filter(|unix| *unix > 0);
    Some(v1::JoinRequest {
        party: Some(ids::party([Some(&jid), other.as_ref()], "")),
        request_time: time.map(|unix| timestamp(seconds(unix))),
    })
}

fn participant(one: &GroupParticipant) -> Option<v1::GroupParticipant> {
    if !fits(&one.jid) {
        return None;
    }
    let other = one.phone_number.as_ref().or(one.lid.as_ref());
    let role = match one.participant_type {
        ParticipantType::Member => v1::GroupRole::Member,
        ParticipantType::Admin => v1::GroupRole::Admin,
        ParticipantType::SuperAdmin => v1::GroupRole::Owner,
    };
    Some(v1::GroupParticipant {
        party: Some(ids::party([Some(&one.jid), other], "")),
        role: role.into(),
    })
}

fn seconds(unix: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(unix))
        .unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use whatsapp_rust::{
        NodeBuilder, wacore::stanza::groups::GroupNotification, wacore_binary::Node,
    };

    fn told(participant: Option<Jid>, child: Node) -> Option<News> {
        let mut node = NodeBuilder::new("notification")
            .attr("from", Jid::group("120363000000000001"))
            .attr("type", "w:gp2")
            .attr("t", 1_700_000_000u64);
        if let Some(participant) = &participant {
            node = node.attr("participant", participant);
        }
        let node = node.children([child]).build();
        let mut parsed = GroupNotification::try_from_node_ref(&node.as_node_ref()).unwrap();
        let action = parsed.actions.pop().unwrap();
        news(
            &GroupUpdate::builder()
                .group_jid(parsed.group_jid)
                .maybe_participant(parsed.participant)
                .timestamp(whatsapp_rust::chrono::DateTime::from(seconds(
                    parsed.timestamp,
                )))
                .is_lid_addressing_mode(false)
                .action(action)
                .build(),
        )
    }

    fn named(jid: &Jid) -> Node {
        NodeBuilder::new("participant").attr("jid", jid).build()
    }

    #[test]
    fn members_come_with_both_names() {
        let admin = Jid::lid("900001");
        let one = NodeBuilder::new("participant")
            .attr("jid", Jid::lid("900002"))
            .attr("phone_number", Jid::pn("15550000002"))
            .attr("type", "admin")
            .build();
        let add = NodeBuilder::new("add").attr("reason", "invite");
        let news = told(Some(admin), add.children([one]).build()).unwrap();
        assert_eq!(news.group, "120363000000000001@g.us");
        assert_eq!(news.actor.unwrap().lid, "900001@lid");
        let Action::Add(people, reason) = news.action else {
            panic!("{:?}", news.action);
        };
        assert_eq!(reason, "invite");
        let party = people[0].party.as_ref().unwrap();
        assert_eq!(people[0].role(), v1::GroupRole::Admin);
        assert_eq!(
            (&*party.lid, &*party.phone_number),
            ("900002@lid", "15550000002")
        );
    }

    #[test]
    fn settings_are_read() {
        let action = |tag: &'static str| {
            let node = NodeBuilder::new(tag).build();
            told(None, node).map(|news| news.action)
        };
        assert_eq!(
            action("announcement"),
            Some(Action::Setting(Setting::Announce(true)))
        );
        assert_eq!(
            action("not_announcement"),
            Some(Action::Setting(Setting::Announce(false)))
        );
        assert_eq!(
            action("locked"),
            Some(Action::Setting(Setting::Locked(true)))
        );
        assert_eq!(
            action("unlocked"),
            Some(Action::Setting(Setting::Locked(false)))
        );
        assert_eq!(
            action("not_ephemeral"),
            Some(Action::Setting(Setting::Ephemeral(0)))
        );
        assert_eq!(
            action("group_history"),
            Some(Action::Setting(Setting::History(true)))
        );
        assert_eq!(action("modify"), Some(Action::Doubt));
        assert_eq!(action("something_new"), None);
    }

    #[test]
    fn a_request_that_its_owner_takes_back_is_not_rejected() {
        let (asking, admin) = (Jid::pn("15550000003"), Jid::pn("15550000001"));
        let revoked = || {
            NodeBuilder::new("revoked_membership_requests")
                .children([named(&asking)])
                .build()
        };
        let change = |by: &Jid| match told(Some(by.clone()), revoked()).unwrap().action {
            Action::JoinRequests(change, ..) => change,
            other => panic!("{other:?}"),
        };
        assert_eq!(change(&asking), v1::GroupJoinRequestChange::Withdrawn);
        assert_eq!(change(&admin), v1::GroupJoinRequestChange::Rejected);
    }

    #[test]
    fn a_new_group_is_described_by_its_notification() {
        let group = NodeBuilder::new("group")
            .attr("id", "120363000000000001")
            .attr("subject", "x".repeat(1_000))
            .attr("creation", 1_700_000_000u64)
            .attr("addressing_mode", "lid")
            .children([
                named(&Jid::lid("900001")),
                NodeBuilder::new("participant")
                    .attr("jid", Jid::lid("900002"))
                    .attr("error", "403")
                    .build(),
                NodeBuilder::new("member_add_mode")
                    .bytes(b"admin_add".to_vec())
                    .build(),
            ])
            .build();
        let create = NodeBuilder::new("create").children([group]).build();
        let Action::Create(group) = told(None, create).unwrap().action else {
            panic!();
        };
        assert_eq!(group.subject.len(), SUBJECT_CHARS);
        assert_eq!(group.addressing(), v1::GroupAddressing::Lid);
        assert_eq!((group.size, group.participants.len()), (1, 1));
        assert!(!group.members_may_add);
    }

    #[test]
    fn monstrous_names_are_left_out() {
        let monster = Jid::pn("1".repeat(NAME_BYTES + 1));
        let add = NodeBuilder::new("add").children([named(&monster)]).build();
        let news = told(Some(monster), add).unwrap();
        assert_eq!(news.actor, None);
        assert_eq!(news.action, Action::Add(Vec::new(), String::new()));
    }
}
