//! Coming into a group by invitation: the code for everybody, and the one made out to a person.

use wacore_binary::{Node, builder::NodeBuilder};

use super::{Answer, named, outcome, participants};
use crate::sandbox::{
    address::Number,
    group::{Group, News, RequestMethod, View},
    network::State,
    wire::{self, WireError},
};

/// The code, for who may hand it out.
pub(super) fn code(actor: Number, group: &Group) -> Answer {
    group.check_member(actor)?;
    if !group.members_invite && !group.is_admin(actor) {
        return Err(WireError::UNAUTHORIZED);
    }
    Ok(vec![code_node(group)])
}

/// A new code; the old one is worthless.
pub(super) fn reset(state: &mut State, actor: Number, mut group: Group) -> Answer {
    group.check_member(actor)?;
    if !group.is_admin(actor) {
        return Err(WireError::UNAUTHORIZED);
    }
    group.reset_invite();
    let code = code_node(&group);
    let news = News::to_members(&group, actor, code.clone());
    state.change_group(group, vec![news])?;
    Ok(vec![code])
}

fn code_node(group: &Group) -> Node {
    NodeBuilder::new("invite")
        .attr("code", group.invite.as_str())
        .build()
}

/// The group behind a code, for who thinks of coming.
pub(super) fn preview(state: &State, asked: &Node) -> Answer {
    let group = find(state, asked)?;
    Ok(vec![state.group_node(group, View::OUTSIDE)])
}

fn find<'s>(state: &'s State, asked: &Node) -> Result<&'s Group, WireError> {
    let code = wire::text(asked, "code").ok_or(WireError::BAD_REQUEST)?;
    let group = state.invites.get(&code).and_then(|id| state.groups.get(id));
    let group = group.ok_or(WireError::NOT_ACCEPTABLE)?;
    if group.invite == code {
        Ok(group)
    } else {
        Err(WireError::GONE)
    }
}

/// Comes in by the code, or asks to where admins decide.
pub(super) fn join(state: &mut State, actor: Number, asked: &Node) -> Answer {
    let mut group = find(state, asked)?.clone();
    if group.rank(actor).is_some() {
        return Err(WireError::CONFLICT);
    }
    if group.banned.contains(&actor) {
        return Err(WireError::NOT_ALLOWED);
    }
    if group.is_full() {
        return Err(WireError::FULL);
    }
    let id = group.id.jid();
    if !group.approval {
        let before = group.members.keys().copied().collect();
        group.admit(actor);
        let news = participants::arrival(state, &group, before, &[actor], actor, Some("invite"));
        state.change_group(group, news.into())?;
        return Ok(vec![NodeBuilder::new("group").attr("jid", id).build()]);
    }
    if !group.requests.contains_key(&actor) {
        if !group.request(actor, RequestMethod::InviteLink, actor) {
            return Err(WireError::FULL);
        }
        let wish = participants::wish(state, &group, &[actor], actor, "invite_link");
        state.change_group(group, vec![wish])?;
    }
    Ok(vec![
        NodeBuilder::new("membership_approval_request")
            .attr("jid", id)
            .build(),
    ])
}

/// Comes in by an invitation in person, as if added by who wrote it.
pub(super) fn accept(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    if group.rank(actor).is_some() {
        return Err(WireError::CONFLICT);
    }
    let admin = check_ticket(actor, &group, asked)?;
    if group.is_full() {
        return Err(WireError::FULL);
    }
    let before = group.members.keys().copied().collect();
    group.admit(actor);
    let id = group.id.jid();
    let news = participants::arrival(state, &group, before, &[actor], admin, None);
    state.change_group(group, news.into())?;
    Ok(vec![NodeBuilder::new("group").attr("jid", id).build()])
}

/// Who invited, if the invitation is good.
pub(super) fn check_ticket(
    actor: Number,
    group: &Group,
    asked: &Node,
) -> Result<Number, WireError> {
    let code = wire::text(asked, "code").ok_or(WireError::BAD_REQUEST)?;
    match group.tickets.get(&actor) {
        Some(ticket) if ticket.code == code && ticket.expires > wire::now() => Ok(ticket.admin),
        _ => Err(WireError::GONE),
    }
}

/// Takes invitations in person back.
pub(super) fn revoke(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    group.check_admin(actor)?;
    let mut results = Vec::new();
    for named in named(state, asked) {
        let ticket = named
            .number
            .and_then(|number| group.tickets.remove(&number));
        let refusal = ticket.is_none().then_some(WireError::NOT_FOUND);
        results.push(outcome(state, &group, &named, refusal).build());
    }
    state.change_group(group, Vec::new())?;
    Ok(vec![NodeBuilder::new("revoke").children(results).build()])
}
