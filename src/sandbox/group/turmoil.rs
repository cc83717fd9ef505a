//! Anybody asks for anything in any order: whatever the network answers, its groups stay groups.

use std::sync::Arc;

use proptest::prelude::*;
use wacore_binary::{Node, builder::NodeBuilder};

use super::{Group, GroupId, MAX_MEMBERS, Rank};
use crate::sandbox::{
    address::{Lid, Number},
    media::MediaHost,
    network::{ConnectionId, Line, Network, Role},
    phone::PhoneOptions,
    store::{Records, Store},
    wire,
};

const PEOPLE: u64 = 5;

/// Something that somebody asks for, some of it of somebody.
#[derive(Debug, Clone)]
struct Step {
    actor: usize,
    what: usize,
    whom: usize,
    on: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let people = 0..PEOPLE as usize;
    let step = (people.clone(), 0..14_usize, people, any::<bool>());
    let step = step.prop_map(|(actor, what, whom, on)| Step {
        actor,
        what,
        whom,
        on,
    });
    prop::collection::vec(step, 1..60)
}

/// A network with a few accounts, each with a device that asks, and one group.
struct Turmoil {
    network: Arc<Network>,
    people: Vec<(Number, ConnectionId)>,
    lines: Vec<tokio::sync::mpsc::Receiver<crate::sandbox::network::Outgoing>>,
    group: GroupId,
}

impl Turmoil {
    async fn new() -> Self {
        let (store, _) = Store::open(None).unwrap();
        let network =
            Network::restore(store, MediaHost::open(None).unwrap(), &Records::default()).unwrap();
        let first = network.create_phone(PhoneOptions::default()).await.unwrap();
        let (mut people, mut lines) = (Vec::new(), Vec::new());
        let mut state = network.lock();
        let mut template = state.accounts[&first.number].clone();
        let companion = template.devices[&0].clone();
        template.devices.insert(1, companion);
        for at in 0..PEOPLE {
            let mut account = template.clone();
            account.number = Number::from(first.number.get() + 1 + at);
            account.lid = Lid::from(910_000_000 + at);
            let device = account.number.device(1);
            state.insert_account(account);
            let (line, outgoing) = Line::new();
            people.push((device.number, state.attach(device, line)));
            lines.push(outgoing);
        }
        let id = GroupId::random();
        let group = Group::new(id, people[0].0, "Tea".to_owned(), true);
        state.change_group(group, Vec::new()).unwrap();
        drop(state);
        Self {
            network,
            people,
            lines,
            group: id,
        }
    }

    fn take(&mut self, step: &Step) {
        let (actor, connection) = self.people[step.actor];
        let whom = self.people[step.whom].0;
        let known = self.network.lock().groups.get(&self.group).cloned();
        let code = known.as_ref().map(|group| group.invite.clone());
        let ticket = known.and_then(|group| Some(group.tickets.get(&actor)?.code.clone()));
        let person = NodeBuilder::new("participant")
            .attr("jid", whom.jid())
            .build();
        let people = |tag: &'static str| NodeBuilder::new(tag).children([person.clone()]).build();
        let toggle = |tags: [&'static str; 2]| wire::empty(tags[usize::from(step.on)]);
        let review = |tag| {
            let action = NodeBuilder::new("membership_requests_action");
            action.children([people(tag)]).build()
        };
        let coded = |tag: &'static str, code: Option<String>| {
            NodeBuilder::new(tag)
                .attr("code", code.unwrap_or_default())
                .build()
        };
        let everywhere = wacore_binary::Jid::new("", wacore_binary::Server::Group);
        let here = self.group.jid();
        let (to, what) = match step.what {
            0 | 1 => (here, people("add")),
            2 => (here, people("remove")),
            3 => (here, people("promote")),
            4 => (here, people("demote")),
            5 => (here, review("approve")),
            6 => (here, review("reject")),
            7 => (here, wire::empty("invite")),
            8 => (here, coded("accept", ticket)),
            9 => (everywhere, coded("invite", code)),
            10 => {
                let group = NodeBuilder::new("group").attr("id", here).build();
                (
                    everywhere,
                    NodeBuilder::new("leave").children([group]).build(),
                )
            }
            11 => (here, people("cancel_membership_requests")),
            12 => {
                let word = if step.on { "on" } else { "off" };
                let join = NodeBuilder::new("group_join").attr("state", word).build();
                let mode = NodeBuilder::new("membership_approval_mode").children([join]);
                (here, mode.build())
            }
            _ => (here, toggle(["locked", "unlocked"])),
        };
        let request = NodeBuilder::new("iq")
            .attr("to", to)
            .attr("type", "set")
            .attr("id", "1")
            .attr("xmlns", "w:g2")
            .children([what])
            .build();
        self.network
            .receive(connection, Role::Device(actor.device(1)), request);
        self.answered(step);
    }

    /// Whoever asked is answered, and nobody's line is left to fill up.
    fn answered(&mut self, step: &Step) {
        use crate::sandbox::network::Outgoing;
        let mut replies = 0;
        for (at, line) in self.lines.iter_mut().enumerate() {
            while let Ok(outgoing) = line.try_recv() {
                if let Outgoing::Stanza(node) = outgoing {
                    replies += usize::from(at == step.actor && is_reply(&node));
                }
            }
        }
        assert_eq!(replies, 1, "{step:?}");
    }

    fn check(&self) {
        let state = self.network.lock();
        for group in state.groups.values() {
            assert!(!group.members.is_empty() && group.members.len() <= MAX_MEMBERS);
            assert!(group.admins().next().is_some(), "somebody decides");
            let owners = group
                .members
                .values()
                .filter(|member| member.rank == Rank::Owner);
            assert!(owners.count() <= 1);
            for number in group.members.keys() {
                assert!(!group.requests.contains_key(number));
                assert!(!group.tickets.contains_key(number));
                assert!(!group.banned.contains(number));
            }
        }
        let codes = state.groups.values().flat_map(Group::codes).count();
        assert_eq!(state.invites.len(), codes, "every code leads somewhere");
    }
}

fn is_reply(node: &Node) -> bool {
    node.tag == "iq" && (wire::is(node, "type", "result") || wire::is(node, "type", "error"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn groups_stay_groups(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut turmoil = Turmoil::new().await;
            for step in &steps {
                turmoil.take(step);
                turmoil.check();
            }
            turmoil.network.stop.cancel();
        });
    }
}
