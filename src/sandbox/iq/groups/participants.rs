//! Who is in a group: adding, removing, ranks, leaving.

use wacore_binary::{Node, builder::NodeBuilder};

use super::{Answer, Named, named, outcome, people};
use crate::sandbox::{
    address::Number,
    group::{Group, GroupId, News, Rank, RequestMethod, View},
    model::GroupAdds,
    network::State,
    wire::{self, WireError},
};

/// What a member hears who may only propose somebody: an admin has to say yes. A code of this network's own.
const PROPOSED: WireError = WireError(202, "accepted");

pub(super) fn add(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    group.check_adder(actor)?;
    let (before, mut added, mut proposed) = (members(&group), Vec::new(), Vec::new());
    let mut results = Vec::new();
    let propose = group.approval && !group.is_admin(actor);
    for named in named(state, asked) {
        let result = match seat(state, &mut group, actor, &named) {
            Ok(number) if propose => {
                if group.request(number, RequestMethod::MemberAdd, actor) {
                    proposed.push(number);
                }
                outcome(state, &group, &named, Some(PROPOSED)).build()
            }
            Ok(number) => {
                group.admit(number);
                added.push(number);
                outcome(state, &group, &named, None).build()
            }
            Err(refusal) => *refusal,
        };
        results.push(result);
    }
    let mut news = Vec::new();
    if !added.is_empty() {
        news.extend(arrival(state, &group, before, &added, actor, None));
    }
    if !proposed.is_empty() {
        news.push(wish(state, &group, &proposed, actor, "non_admin_add"));
    }
    state.change_group(group, news)?;
    Ok(vec![NodeBuilder::new("add").children(results).build()])
}

/// Whether somebody can be added; if not, the answer about them. Invites whom privacy keeps out.
pub(super) fn seat(
    state: &State,
    group: &mut Group,
    actor: Number,
    named: &Named<'_>,
) -> Result<Number, Box<Node>> {
    let refused = |refusal: NodeBuilder| Err(Box::new(refusal.build()));
    let Some(account) = named.number.and_then(|number| state.accounts.get(&number)) else {
        return refused(outcome(state, group, named, Some(WireError::NOT_FOUND)));
    };
    let number = account.number;
    if group.rank(number).is_some() {
        return refused(outcome(state, group, named, Some(WireError::CONFLICT)));
    }
    if group.is_full() {
        return refused(outcome(state, group, named, Some(WireError::FULL)));
    }
    let welcome = match account.group_adds {
        GroupAdds::Everyone => true,
        GroupAdds::Contacts => account.peers.contains(&actor),
        GroupAdds::Nobody => false,
    };
    if welcome {
        return Ok(number);
    }
    let mut refusal = outcome(state, group, named, Some(WireError::FORBIDDEN));
    if group.is_admin(actor) {
        let ticket = group.invite_person(number, actor);
        let invitation = NodeBuilder::new("add_request")
            .attr("code", ticket.code.as_str())
            .attr("expiration", ticket.expires)
            .build();
        refusal = refusal.children([invitation]);
    }
    refused(refusal)
}

/// The news that people have come: the whole group for them, who they are for the others.
pub(super) fn arrival(
    state: &State,
    group: &Group,
    others: Vec<Number>,
    added: &[Number],
    actor: Number,
    reason: Option<&str>,
) -> [News; 2] {
    let (mut tell, mut show) = (
        people(state, group, "add", added),
        NodeBuilder::new("create").children([state.group_node(group, View::FULL)]),
    );
    if let Some(reason) = reason {
        tell = tell.attr("reason", reason);
        show = show.attr("reason", reason);
    }
    [
        News::to(others, actor, tell.build()),
        News::to(added.to_vec(), actor, show.build()),
    ]
}

/// The news that somebody would like people to come.
pub(super) fn wish(
    state: &State,
    group: &Group,
    people: &[Number],
    actor: Number,
    method: &str,
) -> News {
    let people = people
        .iter()
        .filter_map(|number| state.person("requested_user", group, *number))
        .map(NodeBuilder::build);
    let wish = NodeBuilder::new("created_membership_requests")
        .attr("request_method", method)
        .children(people)
        .build();
    News::to_admins(group, actor, wish)
}

pub(super) fn remove(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    group.check_admin(actor)?;
    let (before, mut removed, mut results) = (members(&group), Vec::new(), Vec::new());
    for named in named(state, asked) {
        let rank = named.number.and_then(|number| group.rank(number));
        let refusal = match (named.number, rank) {
            (Some(number), Some(rank)) if rank < Rank::Owner && number != actor => {
                group.dismiss(number);
                group.banned.insert(number);
                removed.push(number);
                None
            }
            // Nobody removes the owner, and who wants to go leaves.
            (_, Some(_)) => Some(WireError::NOT_ACCEPTABLE),
            (_, None) => Some(WireError::NOT_FOUND),
        };
        results.push(outcome(state, &group, &named, refusal).build());
    }
    let mut news = Vec::new();
    if !removed.is_empty() {
        let what = people(state, &group, "remove", &removed).build();
        news.push(News::to(before, actor, what));
    }
    state.change_group(group, news)?;
    Ok(vec![NodeBuilder::new("remove").children(results).build()])
}

/// Makes members admins, or admins members. Who is so already counts as done.
pub(super) fn appoint(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    group.check_admin(actor)?;
    let (tag, rank) = match &*asked.tag {
        "promote" => ("promote", Rank::Admin),
        _ => ("demote", Rank::Member),
    };
    let (mut changed, mut results) = (Vec::new(), Vec::new());
    for named in named(state, asked) {
        let known = named.number.and_then(|number| group.rank(number));
        let refusal = match (named.number, known) {
            // Nobody demotes the owner, and somebody has to decide.
            (Some(_), Some(Rank::Owner)) if rank == Rank::Member => Some(WireError::NOT_ACCEPTABLE),
            (Some(_), Some(Rank::Admin)) if rank == Rank::Member && group.admins().count() == 1 => {
                Some(WireError::NOT_ACCEPTABLE)
            }
            (Some(number), Some(known)) => {
                if known != rank && known != Rank::Owner {
                    group.appoint(number, rank);
                    changed.push(number);
                }
                None
            }
            _ => Some(WireError::NOT_FOUND),
        };
        results.push(outcome(state, &group, &named, refusal).build());
    }
    let mut news = Vec::new();
    if !changed.is_empty() {
        let what = people(state, &group, tag, &changed).build();
        news.push(News::to_members(&group, actor, what));
    }
    state.change_group(group, news)?;
    Ok(vec![NodeBuilder::new(tag).children(results).build()])
}

/// Leaves the groups named. A lone group that cannot be left refuses the whole request.
pub(super) fn leave(state: &mut State, actor: Number, asked: &Node) -> Answer {
    let groups: Vec<Option<GroupId>> = asked
        .get_children_by_tag("group")
        .map(|node| {
            let by_jid = wire::jid(node, "id").as_ref().and_then(GroupId::of);
            by_jid.or_else(|| wire::text(node, "id")?.parse().ok())
        })
        .collect();
    if groups.is_empty() {
        return Err(WireError::BAD_REQUEST);
    }
    let alone = groups.len() == 1;
    let mut results = Vec::new();
    for id in groups {
        let id = id.ok_or(WireError::BAD_REQUEST)?;
        let result = NodeBuilder::new("group").attr("id", id.jid());
        results.push(match leave_one(state, actor, id) {
            Ok(()) => result.build(),
            Err(error) if alone => return Err(error),
            Err(error) => result.attr("error", error.0).build(),
        });
    }
    Ok(vec![NodeBuilder::new("leave").children(results).build()])
}

fn leave_one(state: &mut State, actor: Number, id: GroupId) -> Result<(), WireError> {
    let group = state.groups.get(&id).cloned();
    let mut group = group.ok_or(WireError::NOT_FOUND)?;
    group.check_member(actor)?;
    let before = members(&group);
    let heir = group.dismiss(actor);
    let what = people(state, &group, "remove", &[actor]).build();
    let mut news = vec![News::to(before, actor, what)];
    if let Some(heir) = heir {
        let what = people(state, &group, "promote", &[heir]).build();
        news.push(News {
            actor: None,
            ..News::to_members(&group, heir, what)
        });
    }
    state.change_group(group, news)
}

fn members(group: &Group) -> Vec<Number> {
    group.members.keys().copied().collect()
}
