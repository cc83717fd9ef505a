//! What a message needs to know of the group that it goes to.

use std::{collections::HashSet, sync::Arc};

use whatsapp_rust::{Client, Jid};

use super::{Groups, Somebody, members};
use crate::{
    proto::v1,
    wa::{
        convert::{context::Mention, ids::is_same},
        error::WaError,
    },
};

/// Whom a caller wants mentioned.
#[derive(Clone, Debug, Default)]
pub struct Mentions {
    /// All other members.
    pub everyone: bool,
    /// The text stays as it is.
    pub ghost: bool,
    /// These, if not everyone.
    pub mentioned: Vec<Somebody>,
}

impl Groups {
    /// The group, if the account may write into it.
    pub(in crate::wa) async fn to_write(self: &Arc<Self>, jid: &str) -> Result<v1::Group, WaError> {
        let group = self.get(jid).await.map_err(|error| match error {
            WaError::Group(mut refusal) => {
                "recipient".clone_into(&mut refusal.field);
                WaError::Group(refusal)
            }
            other => other,
        })?;
        members::may_write(&group)?;
        Ok(group)
    }

    /// What the account itself is called in a group.
    pub(in crate::wa) fn own_name(&self, group: &v1::Group) -> String {
        let own = self.cache.own();
        name_in(group, &own).to_owned()
    }

    /// The people to mention, as the group calls them.
    pub(in crate::wa) async fn to_mention(
        &self,
        client: &Client,
        group: &v1::Group,
        mentions: &Mentions,
    ) -> Result<Vec<Mention>, WaError> {
        if mentions.everyone {
            let own = self.cache.own();
            let others = group
                .participants
                .iter()
                .filter_map(|one| one.party.as_ref());
            let others = others.filter(|party| !is_same(party, &own));
            let mentioned = others.filter_map(|party| {
                let jid: Jid = name_in(group, party).parse().ok()?;
                let party = party.clone();
                Some(Mention { jid, party })
            });
            return Ok(mentioned.collect());
        }
        let people = self.resolve(client, &mentions.mentioned).await?;
        let roster = members::Roster::of(group);
        let (mut mentioned, mut named) = (Vec::with_capacity(people.len()), HashSet::new());
        for (asked, address) in mentions.mentioned.iter().zip(people) {
            let Some(address) = address else {
                return Err(WaError::NobodyToMention(asked.text.clone()));
            };
            let jid = roster.called(&address);
            if named.insert(jid.clone()) {
                let party = address.party();
                let party = roster.find(&party).cloned().unwrap_or(party);
                mentioned.push(Mention { jid, party });
            }
        }
        Ok(mentioned)
    }
}

/// One of the names of somebody: that of the group's kind, if it is known.
fn name_in<'p>(group: &v1::Group, party: &'p v1::Party) -> &'p str {
    let (first, second) = match group.addressing() {
        v1::GroupAddressing::Lid => (&party.lid, &party.jid),
        _ => (&party.jid, &party.lid),
    };
    if first.is_empty() { second } else { first }
}
