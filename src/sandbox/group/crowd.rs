//! A group of the largest size, without anybody's cryptography: what the network itself does with it.

use std::{collections::BTreeMap, sync::Arc};

use wacore_binary::{Node, builder::NodeBuilder};

use super::{Group, GroupId, MAX_MEMBERS, News, View};
use crate::sandbox::{
    address::{DeviceAddress, Lid, Number},
    media::MediaHost,
    network::{Line, Network, Role, State},
    phone::PhoneOptions,
    store::{Records, Store},
    wire,
};

/// A network with as many accounts of three devices each as a group has room for.
async fn crowd() -> (Arc<Network>, Vec<Number>) {
    let (store, _) = Store::open(None).unwrap();
    let network =
        Network::restore(store, MediaHost::open(None).unwrap(), &Records::default()).unwrap();
    let first = network.create_phone(PhoneOptions::default()).await.unwrap();
    let mut state = network.lock();
    let template = {
        let account = state.accounts.get_mut(&first.number).unwrap();
        for device in 1..3 {
            let companion = account.devices[&0].clone();
            account.devices.insert(device, companion);
        }
        account.clone()
    };
    let mut numbers = vec![first.number];
    for at in 1..MAX_MEMBERS as u64 {
        let mut account = template.clone();
        account.number = Number::from(first.number.get() + at);
        account.lid = Lid::from(910_000_000 + at);
        numbers.push(account.number);
        state.insert_account(account);
    }
    drop(state);
    (network, numbers)
}

fn waiting(state: &State, device: DeviceAddress, tag: &str) -> Vec<Arc<Node>> {
    let queue = state.queues.get(&device).unwrap();
    let waiting = queue.after(0).map(|(_, node)| node.clone());
    waiting.filter(|node| node.tag == tag).collect()
}

#[tokio::test]
async fn the_largest_group_costs_each_device_one_stanza() {
    let (network, numbers) = crowd().await;
    let author = numbers[0].device(1);
    let mut state = network.lock();
    let mut group = Group::new(GroupId::random(), numbers[0], "All".to_owned(), true);
    for number in &numbers[1..] {
        group.admit(*number);
    }
    assert!(group.is_full());
    let shown = state.group_node(&group, View::FULL);
    let create = NodeBuilder::new("create").children([shown]).build();
    let (id, news) = (group.id, News::to_members(&group, numbers[0], create));
    state.change_group(group, vec![news]).unwrap();
    // All are told, and what they are told exists once.
    let told = waiting(&state, numbers[1].device(2), "notification");
    assert_eq!(told.len(), 1);
    for number in &numbers[2..] {
        for device in 0..3 {
            let same = waiting(&state, number.device(device), "notification");
            assert!(Arc::ptr_eq(&told[0], &same[0]));
        }
    }

    // A message whose key some have and most have not.
    let (line, _outgoing) = Line::new();
    let connection = state.attach(author, line);
    let keys: Vec<Node> = numbers[100..]
        .iter()
        .flat_map(|number| (0..3).map(|device| number.device(device)))
        .map(|device| {
            let account = &state.accounts[&device.number];
            let jid = account.lid.jid().with_device(device.device);
            let enc = wire::leaf("enc", device.to_string());
            NodeBuilder::new("to")
                .attr("jid", jid)
                .children([enc])
                .build()
        })
        .collect();
    let shared = NodeBuilder::new("enc")
        .attr("type", "skmsg")
        .bytes([7; 64])
        .build();
    let message = NodeBuilder::new("message")
        .attr("to", id.jid())
        .attr("id", "A1")
        .attr("type", "text")
        .attr("phash", state.group_hash(&state.groups[&id]).unwrap())
        .children([
            NodeBuilder::new("participants").children(keys).build(),
            shared,
        ])
        .build();
    drop(state);
    network.receive(connection, Role::Device(author), message);
    let state = network.lock();
    assert!(waiting(&state, author, "message").is_empty());
    let mut copies: BTreeMap<usize, usize> = BTreeMap::new();
    for number in &numbers {
        for device in 0..3 {
            let device = number.device(device);
            if device == author {
                continue;
            }
            let messages = waiting(&state, device, "message");
            assert_eq!(messages.len(), 1);
            let ciphertexts: Vec<&Node> = messages[0].get_children_by_tag("enc").collect();
            *copies.entry(ciphertexts.len()).or_default() += 1;
            if let [key, _] = ciphertexts[..] {
                assert_eq!(wire::bytes(key), Some(device.to_string().as_bytes()));
            }
        }
    }
    assert_eq!(copies, BTreeMap::from([(1, 299), (2, 3 * 924)]));
    let ack = state.wire_log.read(author, 0).pop().unwrap();
    assert!(ack.text.starts_with("<ack") && !ack.text.contains("phash"));
}
