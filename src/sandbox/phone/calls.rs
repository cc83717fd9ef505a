//! A phone that calls and is called: what it says to which device, and what its screen shows.
//!
//! The caller's phone decides: it tells the other devices of whoever answered or rejected to stop ringing, and
//! gives up when nobody does. Nothing of it outlives the process, and there is no sound.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use wacore::stanza::call::{
    AcceptParams, CAPABILITY_OFFER, CAPABILITY_VIDEO_OFFER, DEFAULT_AUDIO_RATES, OfferDeviceKey,
    OfferParams, REJECT_REASON_BUSY, TERMINATE_REASON_ACCEPTED_ELSEWHERE,
    TERMINATE_REASON_GROUP_CALL_ENDED, TERMINATE_REASON_REJECTED_ELSEWHERE,
    TERMINATE_REASON_TIMEOUT, TerminateParams, build_accept, build_offer, build_preaccept,
    build_reject, build_terminate,
};
use wacore_binary::{Jid, Node, NodeContent, builder::NodeBuilder};
use waproto::{
    buffa::MessageField,
    whatsapp::{Message, message},
};

use super::{Phone, send::message_id};
use crate::sandbox::{
    address::{DeviceAddress, Number},
    error::SandboxError,
    group::GroupId,
    keys::random_bytes,
    network::{ConnectionId, Network, State},
    store::Batch,
    wire,
};

/// Calls that a phone remembers.
const REMEMBERED: usize = 200;

/// Who is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callee {
    /// One person.
    Number(Number),
    /// All other members of a group.
    Group(GroupId),
}

/// A call as a phone sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhoneCall {
    /// WhatsApp's id of it.
    pub id: String,
    /// The other side, where it is one person.
    pub peer: Option<Number>,
    /// The group that is called.
    pub group: Option<GroupId>,
    /// This phone calls.
    pub outgoing: bool,
    /// With pictures.
    pub video: bool,
    /// How far it has come.
    pub progress: CallProgress,
    /// Which device answered or rejected it, where this phone knows.
    pub by: Option<DeviceAddress>,
    /// WhatsApp's word for why it ended.
    pub reason: Option<String>,
    /// When it began.
    pub start: SystemTime,
}

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallProgress {
    /// No device has said yet that it rings.
    Calling,
    /// It rings.
    Ringing,
    /// Somebody answered.
    Accepted,
    /// Nobody who was called wanted it.
    Rejected,
    /// Nobody answered in time.
    TimedOut,
    /// It is over.
    Ended,
}

/// The calls of a phone.
#[derive(Default)]
pub struct Calls(Mutex<VecDeque<Known>>);

/// A call and who takes part.
struct Known {
    call: PhoneCall,
    /// The device that calls.
    creator: Jid,
    /// The devices at the other end: those that are called, or the one that calls.
    others: Vec<Other>,
}

struct Other {
    device: DeviceAddress,
    jid: Jid,
    part: Part,
}

/// What a device has to do with a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Rings,
    Talks,
    Out,
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, known: Known) {
        let mut calls = self.lock();
        if calls.len() == REMEMBERED {
            calls.pop_front();
        }
        calls.push_back(known);
    }

    /// Does something with a call; what is to be said comes out.
    fn with<T>(
        &self,
        id: &str,
        act: impl FnOnce(&mut Known) -> Result<T, SandboxError>,
    ) -> Result<(PhoneCall, T), SandboxError> {
        let mut calls = self.lock();
        let known = calls.iter_mut().find(|known| known.call.id == id);
        let known = known.ok_or_else(|| SandboxError::NoSuchCall(id.to_owned()))?;
        let done = act(known)?;
        Ok((known.call.clone(), done))
    }
}

impl CallProgress {
    fn is_over(self) -> bool {
        matches!(self, Self::Rejected | Self::TimedOut | Self::Ended)
    }

    fn rings(self) -> bool {
        matches!(self, Self::Calling | Self::Ringing)
    }
}

impl Known {
    /// The devices with this part, which now have another.
    fn turn(&mut self, wanted: impl Fn(&Other) -> bool, part: Part) -> Vec<Jid> {
        let turned = self.others.iter_mut().filter(|other| wanted(other));
        turned
            .map(|other| {
                other.part = part;
                other.jid.clone()
            })
            .collect()
    }

    /// What tells these devices that it is over for them.
    fn dismiss(&self, devices: Vec<Jid>, reason: Option<&str>) -> Vec<Node> {
        devices
            .iter()
            .map(|to| {
                build_terminate(&TerminateParams {
                    call_id: &self.call.id,
                    to,
                    id: Some(&message_id()),
                    call_creator: &self.creator,
                    reason,
                })
            })
            .collect()
    }

    /// A device answered: the others of its account stop ringing.
    fn accepted(&mut self, by: DeviceAddress) -> Vec<Node> {
        let ringing = |other: &Other| other.device == by && other.part == Part::Rings;
        if self.turn(ringing, Part::Talks).is_empty() {
            return Vec::new();
        }
        if self.call.progress.rings() {
            self.call.progress = CallProgress::Accepted;
            self.call.by = Some(by);
        }
        self.hush(by.number, TERMINATE_REASON_ACCEPTED_ELSEWHERE)
    }

    /// A device rejected: the others of its account stop ringing.
    fn rejected(&mut self, by: DeviceAddress) -> Vec<Node> {
        let ringing = |other: &Other| other.device == by && other.part == Part::Rings;
        if self.turn(ringing, Part::Out).is_empty() {
            return Vec::new();
        }
        let said = self.hush(by.number, TERMINATE_REASON_REJECTED_ELSEWHERE);
        if self.others.iter().all(|other| other.part == Part::Out) {
            self.call.progress = CallProgress::Rejected;
            self.call.by = Some(by);
        }
        said
    }

    fn hush(&mut self, number: Number, reason: &str) -> Vec<Node> {
        let siblings = self.turn(
            |other| other.device.number == number && other.part == Part::Rings,
            Part::Out,
        );
        self.dismiss(siblings, Some(reason))
    }

    /// The other end says that it is over for this phone.
    fn over(&mut self, device: DeviceAddress, reason: Option<String>) {
        self.turn(|other| other.device == device, Part::Out);
        let left = self.others.iter().any(|other| other.part != Part::Out);
        if left || self.call.progress.is_over() {
            return;
        }
        self.call.progress = match reason.as_deref() {
            Some(TERMINATE_REASON_ACCEPTED_ELSEWHERE) => CallProgress::Accepted,
            Some(TERMINATE_REASON_REJECTED_ELSEWHERE) => CallProgress::Rejected,
            Some(TERMINATE_REASON_TIMEOUT) => CallProgress::TimedOut,
            _ => CallProgress::Ended,
        };
        self.call.reason = reason;
    }

    /// This phone ends it.
    fn end(&mut self, progress: CallProgress, reason: Option<&str>) -> Vec<Node> {
        let ringing = self.turn(|other| other.part == Part::Rings, Part::Out);
        let talking = self.turn(|other| other.part == Part::Talks, Part::Out);
        let unheard = match self.call.group {
            Some(_) => reason.or(Some(TERMINATE_REASON_GROUP_CALL_ENDED)),
            None => reason,
        };
        let mut said = self.dismiss(ringing, unheard);
        said.extend(self.dismiss(talking, reason));
        self.call.progress = progress;
        self.call.reason = reason.map(str::to_owned);
        said
    }
}

impl Phone {
    /// The calls that it remembers, oldest first.
    pub fn calls(&self) -> Vec<PhoneCall> {
        let calls = self.calls.lock();
        calls.iter().map(|known| known.call.clone()).collect()
    }

    /// Calls every device of somebody, or of all other members of a group, and gives up after so long.
    pub async fn start_call(
        self: &Arc<Self>,
        to: Callee,
        video: bool,
        ring: Duration,
    ) -> Result<PhoneCall, SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let mut mind = self.mind.lock().await;
        let (route, connection) = {
            let state = network.lock();
            (self.call_route(&state, to)?, self.connection(&state)?)
        };
        let id = message_id();
        let key = Message {
            call: MessageField::some(message::Call {
                call_key: Some(random_bytes::<32>().to_vec()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut batch = Batch::default();
        let (mut keys, mut others) = (Vec::new(), Vec::new());
        for (device, jid) in route.devices {
            let sealed = self
                .seal(&network, &mut mind, device, &key, &mut batch)
                .await;
            let Some(sealed) = sealed else { continue };
            keys.push(OfferDeviceKey {
                device_jid: jid.clone(),
                ciphertext: wire::bytes(&sealed).unwrap_or_default().to_vec(),
                enc_type: wire::text(&sealed, "type").unwrap_or_default(),
            });
            others.push(Other {
                device,
                jid,
                part: Part::Rings,
            });
        }
        // A ratchet that has moved must be stored before what it encrypted can be seen.
        network.store.commit(&batch)?;
        let mut offer = build_offer(&OfferParams {
            call_id: &id,
            to: &route.to,
            call_creator: &route.own,
            device_keys: &keys,
            privacy_token: None,
            capability: Some(if video {
                &CAPABILITY_VIDEO_OFFER
            } else {
                &CAPABILITY_OFFER
            }),
            device_identity: None,
            id: Some(&message_id()),
            multi_device: true,
            video,
            audio_rates: DEFAULT_AUDIO_RATES,
        });
        if let (Callee::Group(group), Some(NodeContent::Nodes(children))) = (to, &mut offer.content)
        {
            for child in children {
                child.attrs.insert("group-jid", group.jid());
            }
        }
        let call = PhoneCall {
            id: id.clone(),
            peer: match to {
                Callee::Number(number) => Some(number),
                Callee::Group(_) => None,
            },
            group: match to {
                Callee::Number(_) => None,
                Callee::Group(group) => Some(group),
            },
            outgoing: true,
            video,
            progress: CallProgress::Calling,
            by: None,
            reason: None,
            start: SystemTime::now(),
        };
        self.calls.remember(Known {
            call: call.clone(),
            creator: route.own,
            others,
        });
        drop(mind);
        network.receive(connection, self.role(), offer);
        let phone = Arc::downgrade(self);
        network.lock().later(ring, move || {
            if let Some(phone) = phone.upgrade() {
                phone.give_up(&id);
            }
        });
        Ok(call)
    }

    /// Nobody answered in time.
    fn give_up(&self, id: &str) {
        let given_up = self.calls.with(id, |known| {
            Ok(match known.call.progress.rings() {
                true => known.end(CallProgress::TimedOut, Some(TERMINATE_REASON_TIMEOUT)),
                false => Vec::new(),
            })
        });
        // One that is no longer remembered is over.
        if let Ok((_, said)) = given_up {
            self.say_surely(said);
        }
    }

    /// Answers a call that rings here.
    pub fn accept_call(&self, id: &str) -> Result<PhoneCall, SandboxError> {
        self.decide(id, |known| {
            known.call.progress = CallProgress::Accepted;
            known.turn(|_| true, Part::Talks);
            known.others.first().map(|caller| {
                build_accept(&AcceptParams {
                    call_id: &known.call.id,
                    to: &caller.jid,
                    id: &message_id(),
                    call_creator: &known.creator,
                    audio_rates: DEFAULT_AUDIO_RATES,
                    relay_te: None,
                    rte: None,
                    voip_settings: None,
                    capability: Some(&CAPABILITY_OFFER),
                    video: known.call.video,
                    peer_abtest_bucket: None,
                    peer_abtest_bucket_id_list: None,
                })
            })
        })
    }

    /// Rejects a call that rings here.
    pub fn reject_call(&self, id: &str) -> Result<PhoneCall, SandboxError> {
        self.decide(id, |known| {
            known.call.progress = CallProgress::Rejected;
            let caller = known.turn(|_| true, Part::Out);
            let caller = caller.first()?;
            Some(build_reject(
                &known.call.id,
                caller,
                &known.creator,
                &message_id(),
            ))
        })
    }

    fn decide(
        &self,
        id: &str,
        act: impl FnOnce(&mut Known) -> Option<Node>,
    ) -> Result<PhoneCall, SandboxError> {
        let own = self.address();
        let (call, said) = self.calls.with(id, |known| {
            if known.call.outgoing || !known.call.progress.rings() {
                return Err(SandboxError::NotRinging(id.to_owned()));
            }
            let said = act(known);
            known.call.by = Some(own);
            Ok(said)
        })?;
        self.say(said.into_iter().collect())?;
        Ok(call)
    }

    /// Ends a call that it placed or answered.
    pub fn end_call(&self, id: &str) -> Result<PhoneCall, SandboxError> {
        let (call, said) = self.calls.with(id, |known| {
            let rings_here = !known.call.outgoing && known.call.progress.rings();
            if rings_here || known.call.progress.is_over() {
                return Err(SandboxError::NotTalking(id.to_owned()));
            }
            Ok(known.end(CallProgress::Ended, None))
        })?;
        self.say(said)?;
        Ok(call)
    }

    /// `<call>` from the network.
    pub(super) fn hear_call(&self, network: &Network, node: &Node) {
        let action = node.children().and_then(|children| children.first());
        let (Some(from), Some(action)) = (wire::jid(node, "from"), action) else {
            return;
        };
        let Some(id) = wire::text(action, "call-id") else {
            return;
        };
        let (device, live) = {
            let state = network.lock();
            let Some((account, _)) = state.account_of(&from) else {
                return;
            };
            let own = state.accounts.get(&self.number);
            let live = own.is_some_and(|account| account.live);
            (account.number.device(from.device), live)
        };
        if action.tag == "offer" {
            self.hear_offer(node, action, id, from, device, live);
            return;
        }
        let heard = self.calls.with(&id, |known| {
            let outgoing = known.call.outgoing;
            Ok(match &*action.tag {
                "preaccept" if outgoing => {
                    known.rings();
                    Vec::new()
                }
                "accept" if outgoing => known.accepted(device),
                "reject" if outgoing && wire::is(action, "reason", REJECT_REASON_BUSY) => {
                    known.turn(|other| other.device == device, Part::Out);
                    Vec::new()
                }
                "reject" if outgoing => known.rejected(device),
                "terminate" => {
                    known.over(device, wire::text(action, "reason"));
                    Vec::new()
                }
                _ => Vec::new(),
            })
        });
        if let Ok((_, said)) = heard {
            self.say_surely(said);
        }
    }

    fn hear_offer(
        &self,
        node: &Node,
        offer: &Node,
        id: String,
        from: Jid,
        device: DeviceAddress,
        live: bool,
    ) {
        let creator = wire::jid(offer, "call-creator").unwrap_or_else(|| from.clone());
        if self.calls().iter().any(|call| call.id == id) {
            return;
        }
        let video = offer.get_optional_child("video").is_some();
        self.calls.remember(Known {
            call: PhoneCall {
                id: id.clone(),
                peer: Some(device.number),
                group: wire::jid(offer, "group-jid").and_then(|jid| GroupId::of(&jid)),
                outgoing: false,
                video,
                progress: CallProgress::Ringing,
                by: None,
                reason: None,
                start: SystemTime::now(),
            },
            creator: creator.clone(),
            others: vec![Other {
                device,
                jid: from.clone(),
                part: Part::Rings,
            }],
        });
        // One that is switched off rings nowhere.
        if !live {
            return;
        }
        let seen = NodeBuilder::new("offer")
            .attr("call-id", id.as_str())
            .attr("call-creator", &creator)
            .build();
        let receipt = NodeBuilder::new("receipt")
            .attr("to", &from)
            .attr("id", wire::text(node, "id").unwrap_or_default())
            .children([seen])
            .build();
        let rings = build_preaccept(
            &id,
            &from,
            &creator,
            &message_id(),
            DEFAULT_AUDIO_RATES,
            video,
        );
        self.say_surely(vec![receipt, rings]);
    }

    /// A receipt: a device says that it has an offer of this phone.
    pub(super) fn hear_offer_receipt(&self, receipt: &Node) {
        let offer = receipt.get_optional_child("offer");
        if let Some(id) = offer.and_then(|offer| wire::text(offer, "call-id")) {
            // One that is no longer remembered is over.
            let _ = self.calls.with(&id, |known| {
                known.rings();
                Ok(())
            });
        }
    }

    fn call_route(&self, state: &State, to: Callee) -> Result<CallRoute, SandboxError> {
        let own = state.accounts.get(&self.number);
        let own = own.ok_or(SandboxError::NoSuchPhone(self.number))?;
        let (to, namespace, called): (Jid, _, Vec<Number>) = match to {
            Callee::Number(number) if number == self.number => {
                return Err(SandboxError::invalid("to", "a phone can't call itself"));
            }
            Callee::Number(number) => {
                let peer = state.accounts.get(&number);
                let peer = peer.ok_or_else(|| SandboxError::NoSuchUser(number.to_string()))?;
                let namespace = own.namespace();
                (peer.jid(namespace), namespace, vec![number])
            }
            Callee::Group(id) => {
                let group = state.groups.get(&id);
                let group = group.ok_or(SandboxError::NoSuchGroup(id))?;
                let others = group.members.keys().copied();
                let others = others.filter(|number| *number != self.number);
                (id.jid(), group.namespace(), others.collect())
            }
        };
        let accounts = called
            .iter()
            .filter_map(|number| state.accounts.get(number));
        let devices = accounts.flat_map(|account| {
            account.addresses().map(move |address| {
                let jid = account.device_jid(namespace, address.device);
                (address, jid)
            })
        });
        Ok(CallRoute {
            own: own.device_jid(namespace, 0),
            devices: devices.collect(),
            to,
        })
    }

    fn connection(&self, state: &State) -> Result<ConnectionId, SandboxError> {
        let link = state.links.get(&self.address());
        let link = link.ok_or(SandboxError::NotConnected(self.address()))?;
        Ok(link.connection)
    }

    fn say(&self, stanzas: Vec<Node>) -> Result<(), SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        let connection = self.connection(&network.lock())?;
        for stanza in stanzas {
            network.receive(connection, self.role(), stanza);
        }
        Ok(())
    }

    /// The same where nobody waits for it.
    fn say_surely(&self, stanzas: Vec<Node>) {
        if let Err(error) = self.say(stanzas) {
            tracing::warn!(%error, "a phone's word about a call is lost");
        }
    }
}

impl Known {
    /// Somewhere it rings.
    fn rings(&mut self) {
        if self.call.progress == CallProgress::Calling {
            self.call.progress = CallProgress::Ringing;
        }
    }
}

/// Whom a call goes to and under which names.
struct CallRoute {
    own: Jid,
    to: Jid,
    devices: Vec<(DeviceAddress, Jid)>,
}
