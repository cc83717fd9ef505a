//! The library's questions about groups, with answers in our words.
//!
//! Reads the answers itself: the library takes those whom a group refused for members, and overlooks
//! settings that come as bytes.

use anyhow::{Context as _, Result};
use whatsapp_rust::{
    Jid,
    wacore::{
        iq::{
            groups::{
                GetGroupInviteInfoIq, GetMembershipRequestsIq, GroupParticipatingIq, GroupQueryIq,
            },
            spec::IqSpec,
        },
        request::InfoQuery,
    },
    wacore_binary::NodeRef,
};

use crate::{proto::v1, wa::convert::group};

/// What one group is like.
pub(super) struct Look(GroupQueryIq);

/// What all groups of the account are like.
pub(super) struct LookAtAll(GroupParticipatingIq);

/// What the group behind an invite is like.
pub(super) struct LookBehind(GetGroupInviteInfoIq);

/// Who asks to join.
pub(super) struct Requests(GetMembershipRequestsIq);

impl Requests {
    pub(super) fn to(group: &Jid) -> Self {
        Self(GetMembershipRequestsIq::new(group))
    }
}

impl Look {
    pub(super) fn at(group: &Jid) -> Self {
        Self(GroupQueryIq::new(group))
    }
}

impl LookAtAll {
    pub(super) fn new() -> Self {
        Self(GroupParticipatingIq::new())
    }
}

impl LookBehind {
    pub(super) fn code(code: &str) -> Self {
        Self(GetGroupInviteInfoIq::new(code))
    }
}

fn one(response: &NodeRef<'_>) -> Result<v1::Group> {
    let group = response.get_optional_child("group");
    let group = group.or_else(|| response.get_optional_child("community"));
    group::of_node(group.context("an answer without a group")?)
}

impl IqSpec for Look {
    type Response = v1::Group;

    fn build_iq(&self) -> InfoQuery<'static> {
        self.0.build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> Result<v1::Group> {
        one(response)
    }
}

impl IqSpec for LookBehind {
    type Response = v1::Group;

    fn build_iq(&self) -> InfoQuery<'static> {
        self.0.build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> Result<v1::Group> {
        one(response)
    }
}

impl IqSpec for LookAtAll {
    type Response = Vec<v1::Group>;

    fn build_iq(&self) -> InfoQuery<'static> {
        self.0.build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> Result<Vec<v1::Group>> {
        let list = response.get_optional_child("groups");
        let list = list.context("an answer without groups")?;
        let groups = list.children().unwrap_or_default().iter();
        groups
            .filter(|node| node.tag == "group")
            .map(group::of_node)
            .collect()
    }
}

impl IqSpec for Requests {
    type Response = Vec<v1::JoinRequest>;

    fn build_iq(&self) -> InfoQuery<'static> {
        self.0.build_iq()
    }

    fn parse_response(&self, response: &NodeRef<'_>) -> Result<Vec<v1::JoinRequest>> {
        let list = response.get_optional_child("membership_approval_requests");
        let list = list.context("an answer without requests")?;
        let requests = list.get_children_by_tag("membership_approval_request");
        Ok(requests.filter_map(group::join_request).collect())
    }
}
