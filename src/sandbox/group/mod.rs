//! Groups: who is in them and with which rank, how they are called, and what their members may do.
//!
//! Plain data with its own rules; knows how it is stored, never who is connected. How a group looks on the wire is
//! in `stanza`, how messages go through it in `route`.

#[cfg(test)]
mod crowd;
mod route;
mod stanza;
#[cfg(test)]
mod turmoil;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use wacore_binary::{Jid, Server};

use super::{
    address::{Namespace, Number},
    error::SandboxError,
    keys::random_bytes,
    store::{Batch, Records},
    wire::{self, WireError},
};

pub(super) use route::{recipients, split};
pub(super) use stanza::other_name;
pub use stanza::{
    MEMBER_ADD, MEMBER_LINK, MEMBER_SHARE, News, View, approval, ephemeral, mode, mode_node,
};

/// The most members a group has.
pub const MAX_MEMBERS: usize = 1024;

/// The longest subject, in characters.
pub const MAX_SUBJECT: usize = 100;

/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 2048;

/// Invite codes that are remembered as revoked, so that whoever uses one hears that it was.
const MAX_REVOKED: usize = 50;

/// Requests to join that wait at once.
const MAX_REQUESTS: usize = 1024;

/// How long an invitation of one person is good.
const TICKET_SECONDS: u64 = 3 * 24 * 60 * 60;

/// Groups have numbers of this shape: this and up to twelve digits more.
const FIRST_ID: u64 = 120_363_000_000_000_000;

/// A group, the user part of `…@g.us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(u64);

impl GroupId {
    /// An id nobody has had, as good as surely.
    pub(super) fn random() -> Self {
        Self(FIRST_ID + u64::from_be_bytes(random_bytes()) % 1_000_000_000_000)
    }

    /// The group as the wire knows it.
    pub fn jid(self) -> Jid {
        Jid::group(self.to_string())
    }

    /// The group a JID names.
    pub fn of(jid: &Jid) -> Option<Self> {
        (jid.server == Server::Group)
            .then(|| jid.user.parse().ok().map(Self))
            .flatten()
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Text that names no group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a group such as 120363000000000000@g.us")]
pub struct InvalidGroupId;

impl FromStr for GroupId {
    type Err = InvalidGroupId;

    /// Takes `120363000000000000@g.us`, also without the part from the `@`.
    fn from_str(text: &str) -> Result<Self, InvalidGroupId> {
        let text = text.trim();
        let digits = text.strip_suffix("@g.us").unwrap_or(text);
        match digits.parse() {
            Ok(id) if id >= FIRST_ID => Ok(Self(id)),
            _ => Err(InvalidGroupId),
        }
    }
}

/// What a member may do, from little to much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rank {
    /// Nothing special.
    Member,
    /// Everything but remove the owner.
    Admin,
    /// The one who created the group: an admin whom nobody removes or demotes.
    Owner,
}

/// Somebody in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What the member may do.
    pub rank: Rank,
    /// When the member came, in Unix seconds.
    pub joined: u64,
}

/// The name of a group and who gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// 1 to 100 characters.
    pub text: String,
    /// Who set it.
    pub by: Number,
    /// When, in Unix seconds.
    pub time: u64,
}

/// The description of a group and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Names this version; the next change has to name it, too.
    pub id: String,
    /// 1 to 2048 characters.
    pub text: String,
    /// Who set it.
    pub by: Number,
    /// When, in Unix seconds.
    pub time: u64,
}

/// The picture of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Names this version.
    pub id: u64,
    /// A JPEG image.
    #[serde(with = "super::store::base64_bytes")]
    pub jpeg: Vec<u8>,
}

/// How somebody came to ask for membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestMethod {
    /// By the invite code.
    InviteLink,
    /// A member who may not let anybody in asked for somebody else.
    MemberAdd,
}

/// A wish to become a member that an admin has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// When it was made, in Unix seconds.
    pub time: u64,
    /// How it was made.
    pub method: RequestMethod,
    /// Who made it; not the future member if a member asked for somebody else.
    pub by: Number,
}

/// An invitation of one person who may not simply be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// What the person has to know.
    pub code: String,
    /// Who invited.
    pub admin: Number,
    /// Good until then, in Unix seconds.
    pub expires: u64,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name for life.
    pub id: GroupId,
    /// Its members are named by LID, not by number.
    pub lid_addressed: bool,
    /// Who created it.
    pub creator: Number,
    /// When, in Unix seconds.
    pub created: u64,
    /// What it is called.
    pub subject: Subject,
    /// What it is about.
    pub description: Option<Description>,
    /// Its picture.
    pub picture: Option<Picture>,
    /// Who is in it.
    pub members: BTreeMap<Number, Member>,
    /// Only admins write.
    pub announce: bool,
    /// Only admins change subject, description, picture and timer.
    pub locked: bool,
    /// Messages disappear after so many seconds; 0 never.
    pub ephemeral: u32,
    /// Admins have to let in whoever comes by the invite code.
    pub approval: bool,
    /// Every member adds others, not only admins.
    pub members_add: bool,
    /// Every member hands out the invite code, not only admins.
    pub members_invite: bool,
    /// Newcomers are sent what was written before.
    pub history: bool,
    /// Every member sends newcomers what was written before, not only admins.
    pub members_share: bool,
    /// Messages that were forwarded often are not taken.
    pub no_forwarded: bool,
    /// Lets anybody in who knows it.
    pub invite: String,
    /// Codes that once did, the oldest first.
    pub revoked: VecDeque<String>,
    /// Who waits for an admin.
    pub requests: BTreeMap<Number, Request>,
    /// Who was invited in person.
    pub tickets: BTreeMap<Number, Ticket>,
    /// Who was thrown out and does not come back by the invite code.
    pub banned: BTreeSet<Number>,
    /// Counts changes of the members and their ranks.
    pub version: u64,
}

impl Group {
    /// A new group of its creator alone.
    pub fn new(id: GroupId, creator: Number, subject: String, lid_addressed: bool) -> Self {
        let time = wire::now();
        let owner = Member {
            rank: Rank::Owner,
            joined: time,
        };
        Self {
            id,
            lid_addressed,
            creator,
            created: time,
            subject: Subject {
                text: subject,
                by: creator,
                time,
            },
            description: None,
            picture: None,
            members: [(creator, owner)].into(),
            announce: false,
            locked: false,
            ephemeral: 0,
            approval: false,
            members_add: true,
            members_invite: false,
            history: false,
            members_share: false,
            no_forwarded: false,
            invite: secret(),
            revoked: VecDeque::new(),
            requests: BTreeMap::new(),
            tickets: BTreeMap::new(),
            banned: BTreeSet::new(),
            version: time,
        }
    }

    /// How its members are named.
    pub fn namespace(&self) -> Namespace {
        if self.lid_addressed {
            Namespace::Lid
        } else {
            Namespace::Number
        }
    }

    /// What somebody may do, if a member at all.
    pub fn rank(&self, number: Number) -> Option<Rank> {
        self.members.get(&number).map(|member| member.rank)
    }

    /// True for admins and the owner.
    pub fn is_admin(&self, number: Number) -> bool {
        self.rank(number) >= Some(Rank::Admin)
    }

    /// Refuses who is not a member.
    pub fn check_member(&self, number: Number) -> Result<(), WireError> {
        self.rank(number).map(|_| ()).ok_or(WireError::FORBIDDEN)
    }

    /// Refuses who is not an admin.
    pub fn check_admin(&self, number: Number) -> Result<(), WireError> {
        self.is_admin(number)
            .then_some(())
            .ok_or(WireError::FORBIDDEN)
    }

    /// Refuses who may not change what the group shows of itself.
    pub fn check_editor(&self, number: Number) -> Result<(), WireError> {
        self.check_member(number)?;
        if self.locked {
            self.check_admin(number)?;
        }
        Ok(())
    }

    /// Refuses who may not add others.
    pub fn check_adder(&self, number: Number) -> Result<(), WireError> {
        self.check_member(number)?;
        if !self.members_add {
            self.check_admin(number)?;
        }
        Ok(())
    }

    /// Refuses who may not write.
    pub fn check_speaker(&self, number: Number) -> Result<(), WireError> {
        self.check_member(number)?;
        if self.announce && !self.is_admin(number) {
            return Err(WireError::NOT_ALLOWED);
        }
        Ok(())
    }

    /// Those who are told what only admins hear.
    pub fn admins(&self) -> impl Iterator<Item = Number> {
        self.members
            .iter()
            .filter(|(_, member)| member.rank >= Rank::Admin)
            .map(|(number, _)| *number)
    }

    /// True when nobody else fits in.
    pub fn is_full(&self) -> bool {
        self.members.len() >= MAX_MEMBERS
    }

    /// Lets somebody in, whatever kept them out before.
    pub fn admit(&mut self, number: Number) {
        self.requests.remove(&number);
        self.tickets.remove(&number);
        self.banned.remove(&number);
        let member = Member {
            rank: Rank::Member,
            joined: wire::now(),
        };
        self.members.insert(number, member);
        self.version += 1;
    }

    /// Lets somebody out. Answers with who becomes admin because no admin is left.
    pub fn dismiss(&mut self, number: Number) -> Option<Number> {
        self.members.remove(&number);
        self.version += 1;
        if self.admins().next().is_some() {
            return None;
        }
        let eldest = self
            .members
            .iter_mut()
            .min_by_key(|(number, member)| (member.joined, **number));
        let (number, member) = eldest?;
        member.rank = Rank::Admin;
        Some(*number)
    }

    /// Sets the rank of a member.
    pub fn appoint(&mut self, number: Number, rank: Rank) {
        if let Some(member) = self.members.get_mut(&number) {
            member.rank = rank;
            self.version += 1;
        }
    }

    /// Notes a wish to become a member. False when too many wait already.
    pub fn request(&mut self, number: Number, method: RequestMethod, by: Number) -> bool {
        if self.requests.len() >= MAX_REQUESTS {
            return false;
        }
        let request = Request {
            time: wire::now(),
            method,
            by,
        };
        self.requests.insert(number, request);
        true
    }

    /// Invites one person; the same person's earlier invitation is void.
    pub fn invite_person(&mut self, number: Number, admin: Number) -> &Ticket {
        let now = wire::now();
        self.tickets.retain(|_, ticket| ticket.expires > now);
        self.tickets.entry(number).insert_entry(Ticket {
            code: secret(),
            admin,
            expires: now + TICKET_SECONDS,
        });
        &self.tickets[&number]
    }

    /// Makes the invite code worthless and another one in its place.
    pub fn reset_invite(&mut self) {
        let old = std::mem::replace(&mut self.invite, secret());
        self.revoked.push_back(old);
        if self.revoked.len() > MAX_REVOKED {
            self.revoked.pop_front();
        }
    }

    /// Every code that leads to this group, good or not.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        let revoked = self.revoked.iter().map(String::as_str);
        revoked.chain([self.invite.as_str()])
    }

    /// Stores the group.
    pub fn save(&self, batch: &mut Batch) {
        batch.put(record(self.id), self);
    }

    /// Forgets the group.
    pub fn delete(&self, batch: &mut Batch) {
        batch.delete(record(self.id));
    }

    /// All stored groups.
    pub fn load(records: &Records) -> Result<BTreeMap<GroupId, Self>, SandboxError> {
        records
            .scan::<Self>("group/")
            .map(|record| record.map(|(_, group)| (group.id, group)))
            .collect()
    }
}

fn record(id: GroupId) -> String {
    format!("group/{id}")
}

/// 22 letters and digits that nobody guesses.
fn secret() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    random_bytes::<22>()
        .map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]))
        .iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> (Group, Number, Number) {
        let (owner, other) = (Number::from(15_550_001_000), Number::from(15_550_001_001));
        let group = Group::new(GroupId::random(), owner, "Tea".to_owned(), true);
        (group, owner, other)
    }

    #[test]
    fn groups_are_read_in_both_forms() {
        let id = GroupId(FIRST_ID + 7);
        assert_eq!("120363000000000007@g.us".parse(), Ok(id));
        assert_eq!("120363000000000007".parse(), Ok(id));
        assert_eq!(GroupId::of(&id.jid()), Some(id));
        for text in ["", "15550001000", "15550001000@s.whatsapp.net", "tea@g.us"] {
            assert_eq!(text.parse::<GroupId>(), Err(InvalidGroupId), "{text}");
        }
    }

    #[test]
    fn the_eldest_becomes_admin_when_the_last_one_leaves() {
        let (mut group, owner, other) = group();
        group.admit(other);
        assert_eq!(group.rank(other), Some(Rank::Member));
        assert_eq!(group.dismiss(owner), Some(other));
        assert!(group.is_admin(other));
        assert_eq!(group.dismiss(other), None);
        assert!(group.members.is_empty());
    }

    #[test]
    fn members_do_what_the_settings_let_them() {
        let (mut group, owner, other) = group();
        assert_eq!(group.check_speaker(other), Err(WireError::FORBIDDEN));
        group.admit(other);
        for check in [
            Group::check_speaker,
            Group::check_editor,
            Group::check_adder,
        ] {
            assert_eq!(check(&group, other), Ok(()));
        }
        (group.announce, group.locked, group.members_add) = (true, true, false);
        for check in [
            Group::check_speaker,
            Group::check_editor,
            Group::check_adder,
        ] {
            assert!(check(&group, other).is_err());
            assert_eq!(check(&group, owner), Ok(()));
        }
    }

    #[test]
    fn revoked_codes_are_remembered_for_a_while() {
        let (mut group, ..) = group();
        let first = group.invite.clone();
        group.reset_invite();
        assert_ne!(group.invite, first);
        assert!(group.codes().any(|code| code == first));
        for _ in 0..MAX_REVOKED {
            group.reset_invite();
        }
        assert!(!group.codes().any(|code| code == first));
        assert_eq!(group.codes().count(), MAX_REVOKED + 1);
    }
}
