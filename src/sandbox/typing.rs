//! What accounts seem to be doing in a chat: writing or recording. Said to whoever is there, and forgotten.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use wacore_binary::{Node, builder::NodeBuilder};

use super::{
    Sandbox,
    address::{DeviceAddress, Number},
    audience::Audience,
    error::SandboxError,
    group::GroupId,
    network::State,
    wire,
};

/// What a phone remembers of it; older goes.
const REMEMBERED: usize = 200;

/// What somebody seems to be doing in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typing {
    /// Writing.
    Composing,
    /// Recording a voice note.
    Recording,
    /// Nothing any more.
    Paused,
}

impl Typing {
    /// What a stanza says.
    fn of(node: &Node) -> Option<Self> {
        let said = node.children()?.first()?;
        match &*said.tag {
            "composing" if wire::is(said, "media", "audio") => Some(Self::Recording),
            "composing" => Some(Self::Composing),
            "paused" => Some(Self::Paused),
            _ => None,
        }
    }
}

/// What a phone was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenTyping {
    /// Who.
    pub sender: DeviceAddress,
    /// The group, if it was in one.
    pub group: Option<GroupId>,
    /// What they seem to be doing.
    pub typing: Typing,
    /// When it was shown.
    pub time: SystemTime,
}

/// What a phone was shown lately.
#[derive(Default)]
pub(super) struct Shown(Mutex<VecDeque<SeenTyping>>);

impl Shown {
    fn entries(&self) -> MutexGuard<'_, VecDeque<SeenTyping>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a stanza of this sender.
    pub(super) fn show(&self, sender: DeviceAddress, node: &Node) {
        let Some(typing) = Typing::of(node) else {
            return;
        };
        let from = wire::jid(node, "from");
        let mut entries = self.entries();
        entries.push_back(SeenTyping {
            sender,
            group: from.and_then(|from| GroupId::of(&from)),
            typing,
            time: SystemTime::now(),
        });
        if entries.len() > REMEMBERED {
            entries.pop_front();
        }
    }
}

impl State {
    /// `<chatstate>` from a device: shown to the devices of those in the chat that are there.
    pub(super) fn handle_chat_state(&mut self, from: DeviceAddress, node: &Node) {
        let (Some(to), Some(said)) = (wire::jid(node, "to"), node.children()) else {
            return;
        };
        let Some(sender) = self.accounts.get(&from.number) else {
            return;
        };
        let shown = NodeBuilder::new("chatstate").children(said.to_vec());
        let (shown, devices): (_, Vec<DeviceAddress>) = match Audience::of(&to) {
            Some(Audience::Group(id)) => {
                let group = self.groups.get(&id);
                let Some(group) = group.filter(|one| one.members.contains_key(&from.number)) else {
                    return;
                };
                let participant = sender.device_jid(group.namespace(), from.device);
                let shown = shown.attr("from", to).attr("participant", participant);
                (shown, self.group_devices(group).collect())
            }
            Some(Audience::Status) => return,
            None => {
                let Some((account, namespace)) = self.account_of(&to) else {
                    return;
                };
                let shown = shown.attr("from", sender.device_jid(namespace, from.device));
                (shown, account.addresses().collect())
            }
        };
        let shown = std::sync::Arc::new(shown.build());
        for device in devices {
            if device.number != from.number {
                self.push(device, shown.clone());
            }
        }
    }
}

impl Sandbox {
    /// What a phone was shown lately of others who write or record, oldest first. A restart forgets it.
    pub fn typing(&self, phone: Number) -> Result<Vec<SeenTyping>, SandboxError> {
        let phone = self.network.find_phone(phone)?;
        let entries = phone.typing.entries();
        Ok(entries.iter().cloned().collect())
    }
}
