//! Calls: the signalling between the devices of those who talk, and driving phones that call.
//!
//! The network carries what devices say of a call to the devices they name, through the queue like all else, and
//! has no mind of its own about calls. Carries no sound: there is no relay.

use std::{sync::Arc, time::Duration};

use wacore_binary::{Jid, Node, NodeContent, builder::NodeBuilder};

use super::{
    Sandbox,
    address::{DeviceAddress, Namespace, Number},
    error::SandboxError,
    group::GroupId,
    model::Account,
    network::State,
    phone::calls::{Callee, PhoneCall},
    queue::Delivery,
    store::Batch,
    wire::{self, WireError},
};

/// What callers' devices say of themselves.
const PLATFORM: &str = "android";
const VERSION: &str = "2.25.1.1";

impl State {
    /// `<call>` from a device.
    pub(super) fn handle_call(&mut self, from: DeviceAddress, node: &Node) {
        let action = node.children().and_then(|children| children.first());
        let (Some(to), Some(action)) = (wire::jid(node, "to"), action) else {
            return;
        };
        let id = wire::text(node, "id").unwrap_or_else(|| self.fresh_id());
        let routed = self
            .call_deliveries(from, &id, &to, action)
            .and_then(|deliveries| self.enqueue_where_room(deliveries, Batch::default()));
        let mut ack = NodeBuilder::new("ack")
            .attr("class", "call")
            .attr("type", action.tag.as_ref())
            .attr("id", id)
            .attr("from", to)
            .attr("t", wire::now());
        if let Err(error) = routed {
            ack = ack.attr("error", error.0);
        }
        self.push(from, ack.build());
    }

    fn call_deliveries(
        &self,
        from: DeviceAddress,
        id: &str,
        to: &Jid,
        action: &Node,
    ) -> Result<Vec<Delivery>, WireError> {
        let sender = self.accounts.get(&from.number);
        let sender = sender.ok_or(WireError::FORBIDDEN)?;
        let may_reach = self.reach_of_call(from, to)?;
        let mut deliveries = Vec::new();
        for (jid, enc) in targets(to, action) {
            let (account, namespace) = self.account_of(&jid).ok_or(WireError::BAD_REQUEST)?;
            if !may_reach.contains(&account.number) {
                return Err(WireError::FORBIDDEN);
            }
            let address = account.number.device(jid.device);
            // One that was unlinked meanwhile hears nothing.
            if address == from || !account.devices.contains_key(&jid.device) {
                continue;
            }
            let caller = sender.device_jid(namespace, from.device);
            let said = said_to(sender, namespace, action, enc);
            let call = NodeBuilder::new("call")
                .attr("from", caller)
                .attr("id", id)
                .attr("t", wire::now())
                .attr("notify", sender.push_name.as_str())
                .attr("platform", PLATFORM)
                .attr("version", VERSION)
                .children([said]);
            deliveries.push((address, Arc::new(call.build())));
        }
        Ok(deliveries)
    }

    /// Whose devices a device may name: those of a person, or of the members of a group that it is in.
    fn reach_of_call(&self, from: DeviceAddress, to: &Jid) -> Result<Vec<Number>, WireError> {
        let Some(id) = GroupId::of(to) else {
            let (account, _) = self.account_of(to).ok_or(WireError::NOT_FOUND)?;
            return Ok(vec![account.number]);
        };
        let group = self.groups.get(&id).ok_or(WireError::NOT_FOUND)?;
        if !group.members.contains_key(&from.number) {
            return Err(WireError::FORBIDDEN);
        }
        Ok(group.members.keys().copied().collect())
    }
}

/// The devices that something is said to, each with the key that is for it alone.
fn targets<'n>(to: &Jid, action: &'n Node) -> Vec<(Jid, Option<&'n Node>)> {
    match action.get_optional_child("destination") {
        Some(destination) => destination
            .get_children_by_tag("to")
            .filter_map(|item| Some((wire::jid(item, "jid")?, item.get_optional_child("enc"))))
            .collect(),
        None => vec![(to.clone(), None)],
    }
}

/// What one device hears: without what is for the others, and with JIDs that are JIDs.
fn said_to(sender: &Account, namespace: Namespace, action: &Node, enc: Option<&Node>) -> Node {
    let mut said = action.clone();
    for key in ["call-creator", "group-jid"] {
        if let Some(jid) = wire::jid(action, key) {
            said.attrs.insert(key, jid);
        }
    }
    if namespace == Namespace::Lid && action.tag == "offer" {
        said.attrs.insert("caller_pn", sender.number.jid());
    }
    let children = action.children().unwrap_or_default().iter();
    let shared = children.filter(|child| child.tag != "destination").cloned();
    let children: Vec<Node> = shared.chain(enc.cloned()).collect();
    said.content = (!children.is_empty()).then_some(NodeContent::Nodes(children));
    said
}

impl Sandbox {
    /// A phone calls somebody, or a group, and rings for so long.
    pub async fn start_call(
        &self,
        phone: Number,
        to: Callee,
        video: bool,
        ring: Duration,
    ) -> Result<PhoneCall, SandboxError> {
        let phone = self.network.find_phone(phone)?;
        phone.start_call(to, video, ring).await
    }

    /// A phone answers a call that rings there.
    pub fn accept_call(&self, phone: Number, call_id: &str) -> Result<PhoneCall, SandboxError> {
        self.network.find_phone(phone)?.accept_call(call_id)
    }

    /// A phone rejects a call that rings there.
    pub fn reject_call(&self, phone: Number, call_id: &str) -> Result<PhoneCall, SandboxError> {
        self.network.find_phone(phone)?.reject_call(call_id)
    }

    /// A phone ends a call that it placed or answered.
    pub fn end_call(&self, phone: Number, call_id: &str) -> Result<PhoneCall, SandboxError> {
        self.network.find_phone(phone)?.end_call(call_id)
    }

    /// The latest calls of a phone, oldest first.
    pub fn calls(&self, phone: Number) -> Result<Vec<PhoneCall>, SandboxError> {
        Ok(self.network.find_phone(phone)?.calls())
    }
}
