//! JIDs are JID-typed in everything the network says, also where a client wrote them as text: independent clients
//! take nothing else.

use tokio::sync::mpsc;
use wacore_binary::{Node, builder::NodeBuilder, node::NodeValue};

use super::*;
use crate::sandbox::network::{Line, Network, Outgoing, Role};

/// Attributes that name somebody.
const NAMES: [&str; 14] = [
    "from",
    "to",
    "jid",
    "lid",
    "val",
    "participant",
    "recipient",
    "sender_lid",
    "sender_pn",
    "peer_recipient_pn",
    "target_sender_jid",
    "call-creator",
    "caller_pn",
    "group-jid",
];

fn assert_typed(node: &Node) {
    for (key, value) in node.attrs.iter() {
        let typed = matches!(value, NodeValue::Jid(_));
        assert!(
            typed || !NAMES.contains(&&**key),
            "{key} of {node:?} is text"
        );
    }
    node.children()
        .unwrap_or_default()
        .iter()
        .for_each(assert_typed);
}

/// All that is on its way to a device, checked.
fn drain(outgoing: &mut mpsc::Receiver<Outgoing>) -> Vec<Node> {
    let mut nodes = Vec::new();
    while let Ok(Outgoing::Stanza(node) | Outgoing::Last(node)) = outgoing.try_recv() {
        assert_typed(&node);
        nodes.push(Node::clone(&node));
    }
    nodes
}

fn iq(xmlns: &'static str, kind: &'static str, child: Node) -> Node {
    NodeBuilder::new("iq")
        .attr("to", "s.whatsapp.net")
        .attr("id", "7")
        .attr("xmlns", xmlns)
        .attr("type", kind)
        .children([child])
        .build()
}

#[tokio::test]
async fn everything_the_network_says_is_typed() {
    let (store, records) = Store::open(None).unwrap();
    let network = Network::restore(store, MediaHost::open(None).unwrap(), &records).unwrap();
    let create = |lid_addressed| {
        network.create_phone(PhoneOptions {
            lid_addressed,
            ..PhoneOptions::default()
        })
    };
    let (ada, bob) = (create(false).await.unwrap(), create(true).await.unwrap());
    let attach = |address| {
        let (line, outgoing) = Line::new();
        (network.lock().attach(address, line), outgoing)
    };
    let (ada_connection, mut to_ada) = attach(ada.address());
    let (bob_connection, mut to_bob) = attach(bob.address());
    let from_ada = |node| network.receive(ada_connection, Role::Device(ada.address()), node);
    let from_bob = |node| network.receive(bob_connection, Role::Device(bob.address()), node);
    let active = || iq("passive", "set", NodeBuilder::new("active").build());
    from_ada(active());
    from_bob(active());

    let bob_text = format!("{}@s.whatsapp.net", bob.number);
    let user = || {
        NodeBuilder::new("user")
            .attr("jid", bob_text.as_str())
            .build()
    };
    let protocols = ["devices", "lid", "contact"].map(|name| NodeBuilder::new(name).build());
    let usync = NodeBuilder::new("usync").children([
        NodeBuilder::new("query").children(protocols).build(),
        NodeBuilder::new("list").children([user()]).build(),
    ]);
    from_ada(iq("usync", "get", usync.build()));
    from_ada(iq(
        "encrypt",
        "get",
        NodeBuilder::new("key").children([user()]).build(),
    ));
    let enc = NodeBuilder::new("enc")
        .attr("type", "msg")
        .bytes(vec![1])
        .build();
    let to = NodeBuilder::new("to")
        .attr("jid", bob_text.as_str())
        .children([enc])
        .build();
    let message = NodeBuilder::new("message")
        .attr("to", bob_text.as_str())
        .attr("id", "M")
        .attr("type", "text")
        .children([NodeBuilder::new("participants").children([to]).build()]);
    from_ada(message.build());
    let heard = drain(&mut to_bob);
    assert!(heard.iter().any(|node| node.tag == "message"), "{heard:?}");
    let receipt = NodeBuilder::new("receipt")
        .attr("to", format!("{}@s.whatsapp.net", ada.number))
        .attr("id", "M")
        .attr("participant", bob_text.as_str())
        .attr("recipient", bob_text.as_str());
    from_bob(receipt.build());
    let heard = drain(&mut to_ada);
    let bob_lid = network.lock().accounts[&bob.number].lid.jid();
    let ada_text = format!("{}@s.whatsapp.net", ada.number);
    let offer = NodeBuilder::new("offer")
        .attr("call-id", "C")
        .attr("call-creator", ada_text.as_str())
        .attr("group-jid", "120363000000000000@g.us");
    let call = NodeBuilder::new("call")
        .attr("to", bob_lid.to_string())
        .attr("id", "K")
        .children([offer.build()]);
    from_ada(call.build());
    let called = drain(&mut to_bob);
    assert!(called.iter().any(|node| node.tag == "call"), "{called:?}");
    for tag in ["success", "iq", "ib", "ack", "receipt"] {
        assert!(
            heard.iter().any(|node| node.tag == tag),
            "no {tag} in {heard:?}"
        );
    }
    drain(&mut to_bob);
    network.stop.cancel();
}
