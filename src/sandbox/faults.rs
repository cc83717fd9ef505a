//! Faults on purpose: rules that drop, delay, duplicate or refuse stanzas between the network and its devices.
//!
//! Decides what happens to a stanza; never sends one.

use std::time::Duration;

use wacore_binary::Node;

use super::{
    address::{DeviceAddress, Number},
    error::SandboxError,
    wire,
};

const MAX_RULES: usize = 256;
const MAX_DELAY: Duration = Duration::from_secs(600);
const MAX_DUPLICATES: u32 = 16;

/// Which way a stanza goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a device to the network.
    FromDevice,
    /// From the network to a device.
    ToDevice,
}

/// What happens to a stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// It vanishes.
    Drop,
    /// It arrives later; others overtake it.
    Delay(Duration),
    /// It arrives this many times more.
    Duplicate(u32),
    /// It is not done, and the device is told so: requests and messages from devices only.
    Refuse(Refusal),
}

/// How the network refuses what a device asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// WhatsApp's number of the reason, such as 429.
    pub code: u16,
    /// After how many seconds to try again; 0 does not say.
    pub backoff: u32,
}

/// What becomes of one stanza.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives: one entry per copy, after how long. None vanishes.
    Copies(Vec<Duration>),
    /// Its sender is told that it is refused.
    Refused(Refusal),
}

/// Which stanzas a rule takes; what is not set matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultMatch {
    /// Only one direction.
    pub direction: Option<Direction>,
    /// Only stanzas with this tag.
    pub tag: Option<String>,
    /// Only stanzas with a child of this tag.
    pub child: Option<String>,
    /// Only stanzas with this `xmlns`.
    pub xmlns: Option<String>,
    /// Only this account's devices. Connections not paired yet count as device 0 of the placeholder number.
    pub number: Option<Number>,
    /// Only devices with this number.
    pub device: Option<u16>,
}

/// A rule as added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRule {
    /// Which stanzas.
    pub matches: FaultMatch,
    /// What happens to them.
    pub action: FaultAction,
    /// Lets this many pass first.
    pub skip: u32,
    /// Ends after this many; `None` never.
    pub count: Option<u32>,
}

/// A rule at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveRule {
    /// Its number.
    pub id: u64,
    /// The rule; `skip` and `count` go down as it works.
    pub rule: FaultRule,
    /// How many stanzas it has hit.
    pub hits: u64,
}

/// The rules of a network, tried in the order they were added; the first match decides.
#[derive(Default)]
pub struct Faults {
    rules: Vec<ActiveRule>,
    last_id: u64,
}

impl Faults {
    /// Adds a rule.
    pub fn add(&mut self, rule: FaultRule) -> Result<u64, SandboxError> {
        match rule.action {
            FaultAction::Delay(delay) if delay.is_zero() || delay > MAX_DELAY => {
                return Err(SandboxError::invalid(
                    "delay",
                    "must be over 0 and at most 10 minutes",
                ));
            }
            FaultAction::Duplicate(times) if times == 0 || times > MAX_DUPLICATES => {
                return Err(SandboxError::invalid("duplicate", "must be 1 to 16"));
            }
            FaultAction::Refuse(refusal) if !(400..600).contains(&refusal.code) => {
                return Err(SandboxError::invalid(
                    "refuse",
                    "the code must be 400 to 599",
                ));
            }
            FaultAction::Refuse(_) if rule.matches.direction != Some(Direction::FromDevice) => {
                return Err(SandboxError::invalid(
                    "refuse",
                    "only what devices send can be refused; match their direction",
                ));
            }
            _ => {}
        }
        if self.rules.len() >= MAX_RULES {
            return Err(SandboxError::Exhausted(
                "there are 256 fault rules already; clear some",
            ));
        }
        self.last_id += 1;
        self.rules.push(ActiveRule {
            id: self.last_id,
            rule,
            hits: 0,
        });
        Ok(self.last_id)
    }

    /// The rules, used-up ones included.
    pub fn list(&self) -> Vec<ActiveRule> {
        self.rules.clone()
    }

    /// Removes the rules with these ids, all of them when none is named; says how many went.
    pub fn clear(&mut self, ids: &[u64]) -> usize {
        let before = self.rules.len();
        self.rules
            .retain(|active| !ids.is_empty() && !ids.contains(&active.id));
        before - self.rules.len()
    }

    /// Decides about a stanza.
    pub fn decide(&mut self, direction: Direction, device: DeviceAddress, node: &Node) -> Fate {
        let hit = self.rules.iter_mut().find(|active| {
            active.rule.count != Some(0) && active.rule.matches.takes(direction, device, node)
        });
        let Some(active) = hit else {
            return Fate::Copies(vec![Duration::ZERO]);
        };
        if active.rule.skip > 0 {
            active.rule.skip -= 1;
            return Fate::Copies(vec![Duration::ZERO]);
        }
        if let Some(count) = &mut active.rule.count {
            *count -= 1;
        }
        active.hits += 1;
        Fate::Copies(match active.rule.action {
            FaultAction::Drop => Vec::new(),
            FaultAction::Delay(delay) => vec![delay],
            FaultAction::Duplicate(times) => vec![Duration::ZERO; times as usize + 1],
            FaultAction::Refuse(refusal) => return Fate::Refused(refusal),
        })
    }
}

impl Fate {
    /// How often it arrives, and when.
    pub fn copies(self) -> Vec<Duration> {
        match self {
            Self::Copies(copies) => copies,
            Self::Refused(_) => Vec::new(),
        }
    }
}

impl FaultMatch {
    fn takes(&self, direction: Direction, device: DeviceAddress, node: &Node) -> bool {
        self.direction.is_none_or(|wanted| wanted == direction)
            && self.number.is_none_or(|wanted| wanted == device.number)
            && self.device.is_none_or(|wanted| wanted == device.device)
            && self.tag.as_deref().is_none_or(|wanted| node.tag == wanted)
            && self
                .xmlns
                .as_deref()
                .is_none_or(|wanted| wire::is(node, "xmlns", wanted))
            && self
                .child
                .as_deref()
                .is_none_or(|wanted| node.get_optional_child(wanted).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wacore_binary::builder::NodeBuilder;

    const DEVICE: DeviceAddress = DeviceAddress::UNREGISTERED;

    fn copies(faults: &mut Faults, direction: Direction) -> Vec<Duration> {
        let message = NodeBuilder::new("message").build();
        faults.decide(direction, DEVICE, &message).copies()
    }

    fn rule(action: FaultAction) -> FaultRule {
        FaultRule {
            matches: FaultMatch {
                tag: Some("message".to_owned()),
                direction: Some(Direction::ToDevice),
                ..FaultMatch::default()
            },
            action,
            skip: 1,
            count: Some(1),
        }
    }

    #[test]
    fn a_rule_skips_then_counts_then_rests() {
        let mut faults = Faults::default();
        faults.add(rule(FaultAction::Drop)).unwrap();
        for (direction, wanted) in [
            (Direction::FromDevice, 1),
            (Direction::ToDevice, 1),
            (Direction::ToDevice, 0),
            (Direction::ToDevice, 1),
        ] {
            assert_eq!(copies(&mut faults, direction).len(), wanted);
        }
        assert_eq!(faults.list()[0].hits, 1);
    }

    #[test]
    fn duplicates_and_delays() {
        let mut faults = Faults::default();
        let id = faults
            .add(FaultRule {
                skip: 0,
                ..rule(FaultAction::Duplicate(2))
            })
            .unwrap();
        assert_eq!(copies(&mut faults, Direction::ToDevice).len(), 3);
        assert_eq!(faults.clear(&[id]), 1);
        faults
            .add(FaultRule {
                skip: 0,
                ..rule(FaultAction::Delay(Duration::from_secs(1)))
            })
            .unwrap();
        assert_eq!(
            copies(&mut faults, Direction::ToDevice),
            [Duration::from_secs(1)]
        );
        assert!(faults.add(rule(FaultAction::Duplicate(1000))).is_err());
        // Nobody asks the network's own stanzas for anything.
        let refuse = |code| FaultAction::Refuse(Refusal { code, backoff: 0 });
        assert!(faults.add(rule(refuse(429))).is_err());
        let mut from_device = rule(refuse(42));
        from_device.matches.direction = Some(Direction::FromDevice);
        assert!(faults.add(from_device).is_err());
        assert!(
            faults
                .add(rule(FaultAction::Delay(Duration::ZERO)))
                .is_err()
        );
    }
}
