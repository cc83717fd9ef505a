//! Requests in the form of GraphQL (`w:mex`): settings of groups that are asked for in no other way, and whom an
//! account may write to.

use serde::Deserialize;
use serde_json::json;
use wacore_binary::Node;

use super::Answer;
use crate::sandbox::{
    address::DeviceAddress,
    group::{GroupId, MEMBER_LINK, MEMBER_SHARE, News, mode_node},
    network::State,
    wire::{self, WireError},
};

/// The stored query by which clients change a group.
const UPDATE_GROUP: &str = "9418211574894172";

/// The stored query by which clients ask whether they may write to strangers.
const STRANGERS: &str = "23983697327930364";

#[derive(Deserialize)]
struct Query {
    variables: Variables,
}

#[derive(Deserialize)]
struct Variables {
    group_id: String,
    update: Update,
}

/// One of the settings.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Update {
    MemberLinkMode(String),
    MemberShareGroupHistoryMode(String),
}

/// Whether a word leaves something to all members or to admins.
fn for_members(word: &str, words: [&str; 2]) -> Result<bool, WireError> {
    let at = words
        .iter()
        .position(|known| word.eq_ignore_ascii_case(known));
    at.map(|at| at == 0).ok_or(WireError::BAD_REQUEST)
}

fn strangers(state: &State, from: DeviceAddress) -> String {
    let until = state.limited_until(from.number);
    let told = json!({
        "is_active": until.is_some(),
        "time_enforcement_ends": until.map(|until| until.to_string()),
        "enforcement_type": until.map(|_| "DEFAULT"),
    });
    json!({"data": {"xwa2_fetch_account_reachout_timelock": told}}).to_string()
}

pub(super) fn answer(state: &mut State, from: DeviceAddress, node: &Node) -> Answer {
    let query = node
        .get_optional_child("query")
        .ok_or(WireError::BAD_REQUEST)?;
    if wire::is(query, "query_id", STRANGERS) {
        return Ok(vec![wire::leaf("result", strangers(state, from))]);
    }
    if !wire::is(query, "query_id", UPDATE_GROUP) {
        return Err(WireError::NOT_IMPLEMENTED);
    }
    let body = wire::bytes(query).unwrap_or_default();
    let Query { variables } =
        serde_json::from_slice(body).map_err(|_| WireError::NOT_IMPLEMENTED)?;
    let id: GroupId = variables
        .group_id
        .parse()
        .map_err(|_| WireError::NOT_FOUND)?;
    let group = state.groups.get(&id).cloned();
    let mut group = group.ok_or(WireError::NOT_FOUND)?;
    group.check_admin(from.number)?;
    let what = match variables.update {
        Update::MemberLinkMode(word) => {
            group.members_invite = for_members(&word, MEMBER_LINK)?;
            mode_node("member_link_mode", group.members_invite, MEMBER_LINK)
        }
        Update::MemberShareGroupHistoryMode(word) => {
            group.members_share = for_members(&word, MEMBER_SHARE)?;
            mode_node(
                "member_share_group_history_mode",
                group.members_share,
                MEMBER_SHARE,
            )
        }
    };
    let news = News::to_members(&group, from.number, what);
    state.change_group(group, vec![news])?;
    let done = json!({"id": id.jid().to_string(), "state": "ACTIVE"});
    let answer = json!({"data": {"xwa2_group_update_property": done}});
    Ok(vec![wire::leaf("result", answer.to_string())])
}
