//! Wishes to become a member, where admins decide.

use wacore_binary::{Node, builder::NodeBuilder};

use super::{Answer, named, outcome, participants, people};
use crate::sandbox::{
    address::Number,
    group::{Group, News, RequestMethod},
    network::State,
    wire::WireError,
};

/// Who waits.
pub(super) fn list(state: &State, actor: Number, group: &Group) -> Answer {
    group.check_admin(actor)?;
    let requests = group.requests.iter().filter_map(|(number, request)| {
        let method = match request.method {
            RequestMethod::InviteLink => "invite_link",
            RequestMethod::MemberAdd => "non_admin_add",
        };
        let mut node = state
            .person("membership_approval_request", group, *number)?
            .attr("request_time", request.time)
            .attr("request_method", method);
        if request.by != *number
            && let Some(by) = state.accounts.get(&request.by)
        {
            node = node.attr("requestor", by.jid(group.namespace()));
        }
        Some(node.build())
    });
    Ok(vec![
        NodeBuilder::new("membership_approval_requests")
            .children(requests)
            .build(),
    ])
}

/// An admin lets people in or turns them away.
pub(super) fn review(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    group.check_admin(actor)?;
    let verdict = asked.children().and_then(|children| children.first());
    let verdict = verdict.ok_or(WireError::BAD_REQUEST)?;
    let (tag, approve) = match &*verdict.tag {
        "approve" => ("approve", true),
        "reject" => ("reject", false),
        _ => return Err(WireError::BAD_REQUEST),
    };
    let before = group.members.keys().copied().collect();
    let (mut heard, mut results) = (Vec::new(), Vec::new());
    for named in named(state, verdict) {
        let waits = named
            .number
            .filter(|number| group.requests.contains_key(number));
        let refusal = match waits {
            None => Some(WireError::NOT_FOUND),
            Some(_) if approve && group.is_full() => Some(WireError::FULL),
            Some(number) => {
                if approve {
                    group.admit(number);
                } else {
                    group.requests.remove(&number);
                }
                heard.push(number);
                None
            }
        };
        results.push(outcome(state, &group, &named, refusal).build());
    }
    let news = match (heard.is_empty(), approve) {
        (true, _) => Vec::new(),
        (false, true) => {
            participants::arrival(state, &group, before, &heard, actor, Some("invite")).into()
        }
        (false, false) => vec![withdrawal(state, &group, &heard, actor)],
    };
    state.change_group(group, news)?;
    let verdict = NodeBuilder::new(tag).children(results).build();
    Ok(vec![
        NodeBuilder::new("membership_requests_action")
            .children([verdict])
            .build(),
    ])
}

/// Somebody does not want to come any more, or a member takes a proposal back.
pub(super) fn cancel(state: &mut State, actor: Number, mut group: Group, asked: &Node) -> Answer {
    let (mut gone, mut results) = (Vec::new(), Vec::new());
    for named in named(state, asked) {
        let own = named.number.filter(|number| {
            let request = group.requests.get(number);
            request.is_some_and(|request| *number == actor || request.by == actor)
        });
        if let Some(number) = own {
            group.requests.remove(&number);
            gone.push(number);
        }
        let refusal = own.is_none().then_some(WireError::NOT_FOUND);
        results.push(outcome(state, &group, &named, refusal).build());
    }
    let news = match gone.is_empty() {
        true => Vec::new(),
        false => vec![withdrawal(state, &group, &gone, actor)],
    };
    state.change_group(group, news)?;
    Ok(vec![
        NodeBuilder::new("cancel_membership_requests")
            .children(results)
            .build(),
    ])
}

fn withdrawal(state: &State, group: &Group, gone: &[Number], actor: Number) -> News {
    let what = people(state, group, "revoked_membership_requests", gone).build();
    let audience = group.admins().chain(gone.iter().copied()).collect();
    News::to(audience, actor, what)
}
