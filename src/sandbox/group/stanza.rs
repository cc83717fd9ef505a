//! How a group and what happens in it look on the wire, and who is told.
//!
//! The one place where a changed group is stored: with the notifications about it, or not at all. Every device of
//! those concerned is told, also the one that asked for the change, as it gets no other news of its success.

use std::sync::Arc;

use wacore_binary::{Node, builder::NodeBuilder};

use super::{Group, Rank};
use crate::sandbox::{
    address::{Namespace, Number},
    model::Account,
    network::State,
    queue::Delivery,
    store::Batch,
    wire::{self, WireError},
};

/// Something that happened in a group, and who has to know.
pub struct News {
    /// Who is told.
    pub audience: Vec<Number>,
    /// Who did it; nobody if it came about by itself.
    pub actor: Option<Number>,
    /// `w:gp2`, except for pictures.
    pub kind: &'static str,
    /// What.
    pub what: Node,
}

impl News {
    /// For all who are members.
    pub fn to_members(group: &Group, actor: Number, what: Node) -> Self {
        Self::to(group.members.keys().copied().collect(), actor, what)
    }

    /// For those who decide.
    pub fn to_admins(group: &Group, actor: Number, what: Node) -> Self {
        Self::to(group.admins().collect(), actor, what)
    }

    /// For whom it concerns.
    pub fn to(audience: Vec<Number>, actor: Number, what: Node) -> Self {
        Self {
            audience,
            actor: Some(actor),
            kind: "w:gp2",
            what,
        }
    }
}

/// How much of a group is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Who is in it.
    pub members: bool,
    /// What it is about.
    pub description: bool,
}

impl View {
    /// What members see.
    pub const FULL: Self = Self {
        members: true,
        description: true,
    };
    /// What those see who may come in.
    pub const OUTSIDE: Self = Self {
        members: false,
        description: true,
    };
}

impl State {
    /// Stores a changed group together with the news of it and tells the devices concerned. A group without members
    /// is gone.
    pub(in crate::sandbox) fn change_group(
        &mut self,
        group: Group,
        news: Vec<News>,
    ) -> Result<(), WireError> {
        let mut batch = Batch::default();
        if group.members.is_empty() {
            group.delete(&mut batch);
        } else {
            group.save(&mut batch);
        }
        let mut deliveries: Vec<Delivery> = Vec::new();
        for News {
            audience,
            actor,
            kind,
            what,
        } in news
        {
            let notification = Arc::new(self.notification(&group, actor, kind, what));
            let devices = audience
                .iter()
                .filter_map(|number| self.accounts.get(number))
                .flat_map(Account::addresses);
            deliveries.extend(devices.map(|device| (device, notification.clone())));
        }
        self.enqueue_where_room(deliveries, batch)?;
        if let Some(before) = self.groups.remove(&group.id) {
            for code in before.codes() {
                self.invites.remove(code);
            }
        }
        if !group.members.is_empty() {
            for code in group.codes() {
                self.invites.insert(code.to_owned(), group.id);
            }
            self.groups.insert(group.id, group);
        }
        Ok(())
    }

    fn notification(
        &mut self,
        group: &Group,
        actor: Option<Number>,
        kind: &str,
        what: Node,
    ) -> Node {
        let id = self.fresh_id();
        let mut notification = wire::notification(kind, group.id.jid(), &id, vec![what])
            .attr("addressing_mode", mode(group));
        if let Some(actor) = actor.and_then(|actor| self.accounts.get(&actor)) {
            let (key, other) = other_name(actor, group.namespace());
            notification = notification
                .attr("participant", actor.jid(group.namespace()))
                .attr(key, other)
                .attr("notify", actor.push_name.as_str());
        }
        notification.build()
    }

    /// Everybody who shares a group with an account.
    pub(in crate::sandbox) fn fellow_members(&self, number: Number) -> Vec<Number> {
        self.groups
            .values()
            .filter(|group| group.members.contains_key(&number))
            .flat_map(|group| group.members.keys().copied())
            .collect()
    }

    /// `<group>`.
    pub(in crate::sandbox) fn group_node(&self, group: &Group, view: View) -> Node {
        let mut node = NodeBuilder::new("group")
            .attr("id", group.id.to_string())
            .attr("subject", group.subject.text.as_str())
            .attr("s_t", group.subject.time)
            .attr("creation", group.created)
            .attr("size", group.members.len())
            .attr("addressing_mode", mode(group))
            .attr("p_v_id", group.version)
            .attr("a_v_id", group.version);
        node = self.named(group, group.creator, node, "creator", "creator_pn");
        node = self.named(group, group.subject.by, node, "s_o", "s_o_pn");
        let mut children: Vec<Node> = Vec::new();
        if view.members {
            children.extend(group.members.iter().filter_map(|(number, member)| {
                let person = self.person("participant", group, *number)?;
                Some(match member.rank {
                    Rank::Member => person.build(),
                    Rank::Admin => person.attr("type", "admin").build(),
                    Rank::Owner => person.attr("type", "superadmin").build(),
                })
            }));
        }
        if view.description
            && let Some(description) = &group.description
        {
            let node = NodeBuilder::new("description")
                .attr("id", description.id.as_str())
                .attr("t", description.time);
            let node = self.named(group, description.by, node, "participant", "participant_pn");
            let body = wire::leaf("body", description.text.as_bytes());
            children.push(node.children([body]).build());
        }
        children.extend(settings(group));
        node.children(children).build()
    }

    /// Somebody as the group names them, with the other name beside it.
    pub(in crate::sandbox) fn person(
        &self,
        tag: &'static str,
        group: &Group,
        number: Number,
    ) -> Option<NodeBuilder> {
        let account = self.accounts.get(&number)?;
        let person = NodeBuilder::new(tag).attr("jid", account.jid(group.namespace()));
        Some(match group.namespace() {
            Namespace::Lid => person.attr("phone_number", account.number.jid()),
            Namespace::Number => person.attr("lid", account.lid.jid()),
        })
    }

    /// Adds who did something, with the number where the group names people otherwise.
    pub(in crate::sandbox) fn named(
        &self,
        group: &Group,
        number: Number,
        node: NodeBuilder,
        key: &'static str,
        number_key: &'static str,
    ) -> NodeBuilder {
        match self.accounts.get(&number) {
            Some(account) if group.lid_addressed => node
                .attr(key, account.lid.jid())
                .attr(number_key, account.number.jid()),
            Some(account) => node.attr(key, account.number.jid()),
            None => node,
        }
    }
}

fn settings(group: &Group) -> Vec<Node> {
    let mut settings = vec![
        mode_node("member_add_mode", group.members_add, MEMBER_ADD),
        mode_node("member_link_mode", group.members_invite, MEMBER_LINK),
        mode_node(
            "member_share_group_history_mode",
            group.members_share,
            MEMBER_SHARE,
        ),
    ];
    let flags = [
        (group.announce, "announcement"),
        (group.locked, "locked"),
        (group.history, "group_history"),
        (group.no_forwarded, "no_frequently_forwarded"),
    ];
    settings.extend(
        flags
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, tag)| wire::empty(tag)),
    );
    if group.ephemeral > 0 {
        settings.push(ephemeral(group));
    }
    // Clients take the mere presence for "on".
    if group.approval {
        settings.push(approval(group));
    }
    settings
}

/// What `<member_add_mode>` says when members do, and when only admins do.
pub const MEMBER_ADD: [&str; 2] = ["all_member_add", "admin_add"];

/// The same of `<member_link_mode>`.
pub const MEMBER_LINK: [&str; 2] = ["all_member_link", "admin_link"];

/// The same of `<member_share_group_history_mode>`.
pub const MEMBER_SHARE: [&str; 2] = ["all_member_share", "admin_share"];

/// A mode as bytes: clients read it as nothing else.
pub fn mode_node(tag: &'static str, members: bool, words: [&str; 2]) -> Node {
    let word = words[usize::from(!members)];
    wire::leaf(tag, word.as_bytes())
}

/// `<membership_approval_mode>`.
pub fn approval(group: &Group) -> Node {
    let state = if group.approval { "on" } else { "off" };
    let join = NodeBuilder::new("group_join").attr("state", state).build();
    NodeBuilder::new("membership_approval_mode")
        .children([join])
        .build()
}

/// `<ephemeral>` or its absence.
pub fn ephemeral(group: &Group) -> Node {
    match group.ephemeral {
        0 => wire::empty("not_ephemeral"),
        seconds => NodeBuilder::new("ephemeral")
            .attr("expiration", seconds)
            .attr("trigger", 0)
            .build(),
    }
}

/// The word for how a group names its members.
pub fn mode(group: &Group) -> &'static str {
    if group.lid_addressed { "lid" } else { "pn" }
}

/// The name of somebody in the other namespace, and the attribute it travels in.
pub fn other_name(account: &Account, namespace: Namespace) -> (&'static str, wacore_binary::Jid) {
    match namespace {
        Namespace::Number => ("participant_lid", account.lid.jid()),
        Namespace::Lid => ("participant_pn", account.number.jid()),
    }
}
