//! A group of many real phones and a real client: everybody reads everything once, and costs do not run away.

use std::collections::BTreeSet;

use super::{groups::new_group, *};

/// Many enough to need several batches of anything, few enough for a test.
const CROWD: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_reads_everything_once() {
    let sandbox = sandbox().await;
    let ada = phone(&sandbox, "Ada").await;
    let (gateway, device) = Gateway::paired(&sandbox, ada).await;
    let mut crowd = Vec::new();
    for at in 1..CROWD {
        crowd.push(phone(&sandbox, &format!("Phone {at}")).await);
    }
    let (group, refused) = sandbox
        .create_group(
            crowd[0],
            new_group("All", &[&[ada], &crowd[1..]].concat(), true),
        )
        .await
        .unwrap();
    assert!(refused.is_empty());
    for _ in 0..3 {
        let id = gateway.send(group.jid(), "to all of you").await;
        for reader in &crowd {
            let message = seen(&sandbox, *reader, |message| message.id == id).await;
            assert_eq!((message.group, message.sender), (Some(group), device));
        }
        let mut confirmed = BTreeSet::new();
        while confirmed.len() < crowd.len() {
            let pick = |event: &Event| match event {
                Event::Receipt(receipt)
                    if receipt.message_ids.iter().any(|found| **found == *id) =>
                {
                    Some(receipt.source.sender.user.to_string())
                }
                _ => None,
            };
            confirmed.insert(gateway.events.next("a receipt", pick).await);
        }
    }
    sandbox
        .send_group_text(crowd[1], group, "and to you")
        .await
        .unwrap();
    gateway.received("and to you").await;
    sandbox
        .change_members(crowd[0], group, MemberChange::Remove, &crowd[CROWD / 2..])
        .await
        .unwrap();
    gateway.send(group.jid(), "to the rest of you").await;
    for reader in &crowd[..CROWD / 2] {
        seen(&sandbox, *reader, |message| {
            message.text.as_deref() == Some("to the rest of you")
        })
        .await;
    }
    until("nothing waits for the device", || {
        sandbox.phone(ada).unwrap().companions[0].queued == 0
    })
    .await;
    gateway.stop().await;
    sandbox.shutdown().await;
}
