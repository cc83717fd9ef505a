//! What a group is called and how it is set.

use wacore_binary::{Node, builder::NodeBuilder};

use super::{Answer, content};
use crate::sandbox::{
    address::Number,
    group::{self, Description, Group, MAX_DESCRIPTION, MAX_SUBJECT, MEMBER_ADD, News, Subject},
    keys::random_bytes,
    network::State,
    wire::{self, WireError},
};

/// Timers that WhatsApp knows: a day, a week, ninety days.
const TIMERS: [u32; 3] = [86_400, 604_800, 7_776_000];

pub(super) fn change(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    match &*asked.tag {
        "subject" => set_subject(state, actor, group, asked),
        "description" => set_description(state, actor, group, asked),
        tag => {
            if matches!(tag, "ephemeral" | "not_ephemeral") {
                group.check_editor(actor)?;
            } else {
                group.check_admin(actor)?;
            }
            set(&mut group, asked)?;
            let what = announced(&group, asked);
            let news = News::to_members(&group, actor, what);
            state.change_group(group, vec![news])?;
            Ok(Vec::new())
        }
    }
}

/// Sets what a node names, whoever asks.
pub(super) fn set(group: &mut Group, setting: &Node) -> Result<(), WireError> {
    match &*setting.tag {
        "announcement" => group.announce = true,
        "not_announcement" => group.announce = false,
        "locked" => group.locked = true,
        "unlocked" => group.locked = false,
        "group_history" => group.history = true,
        "no_group_history" => group.history = false,
        "no_frequently_forwarded" => group.no_forwarded = true,
        "frequently_forwarded_ok" => group.no_forwarded = false,
        "not_ephemeral" => group.ephemeral = 0,
        "ephemeral" => {
            let seconds = wire::number(setting, "expiration").ok_or(WireError::BAD_REQUEST)?;
            if seconds != 0 && !TIMERS.contains(&seconds) {
                return Err(WireError::BAD_REQUEST);
            }
            group.ephemeral = seconds;
        }
        "member_add_mode" => {
            let word = content(setting)?;
            if !MEMBER_ADD.contains(&word.as_str()) {
                return Err(WireError::BAD_REQUEST);
            }
            group.members_add = word == MEMBER_ADD[0];
        }
        "membership_approval_mode" => {
            let join = setting.get_optional_child("group_join");
            let state = join.and_then(|join| wire::text(join, "state"));
            group.approval = match state.as_deref() {
                Some("on") => true,
                Some("off") => false,
                _ => return Err(WireError::BAD_REQUEST),
            };
        }
        _ => return Err(WireError::NOT_IMPLEMENTED),
    }
    Ok(())
}

/// What is told about a setting that has just been set.
fn announced(group: &Group, setting: &Node) -> Node {
    match &*setting.tag {
        "ephemeral" | "not_ephemeral" => group::ephemeral(group),
        "membership_approval_mode" => group::approval(group),
        "member_add_mode" => group::mode_node("member_add_mode", group.members_add, MEMBER_ADD),
        tag => NodeBuilder::new_dynamic(tag.to_owned())
            .attr("v_id", group.version)
            .build(),
    }
}

/// Refuses what is no name for a group.
pub(super) fn check_subject(text: &str) -> Result<(), WireError> {
    let length = text.chars().count();
    if text.trim().is_empty() || length > MAX_SUBJECT {
        return Err(WireError::NOT_ACCEPTABLE);
    }
    Ok(())
}

fn set_subject(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    group.check_editor(actor)?;
    let text = content(asked)?;
    check_subject(&text)?;
    group.subject = Subject {
        text,
        by: actor,
        time: wire::now(),
    };
    let what = NodeBuilder::new("subject")
        .attr("subject", group.subject.text.as_str())
        .attr("s_t", group.subject.time);
    let what = state.named(&group, actor, what, "s_o", "s_o_pn").build();
    let news = News::to_members(&group, actor, what);
    state.change_group(group, vec![news])?;
    Ok(Vec::new())
}

fn set_description(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    group.check_editor(actor)?;
    let current = group.description.as_ref().map(|now| now.id.as_str());
    if wire::text(asked, "prev").as_deref() != current {
        return Err(WireError::CONFLICT);
    }
    let text = description_text(asked)?;
    let id = wire::text(asked, "id").unwrap_or_else(version_id);
    let what = NodeBuilder::new("description").attr("id", id.as_str());
    let what = if text.is_empty() {
        group.description = None;
        what.children([wire::empty("delete")])
    } else {
        let body = wire::leaf("body", text.as_bytes());
        group.description = Some(Description {
            id,
            text,
            by: actor,
            time: wire::now(),
        });
        what.children([body])
    };
    let news = News::to_members(&group, actor, what.build());
    state.change_group(group, vec![news])?;
    Ok(Vec::new())
}

/// The text in a `<description>`; empty when it is to go.
pub(super) fn description_text(node: &Node) -> Result<String, WireError> {
    let text = match node.get_optional_child("body") {
        Some(body) if !wire::is(node, "delete", "true") => content(body)?,
        _ => String::new(),
    };
    if text.chars().count() > MAX_DESCRIPTION {
        return Err(WireError::NOT_ACCEPTABLE);
    }
    Ok(text)
}

/// A name for a version of a description whose author gave none.
pub(super) fn version_id() -> String {
    hex::encode_upper(random_bytes::<4>())
}
