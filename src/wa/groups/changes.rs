//! What an action makes of a group, and what the log says of the difference.
//!
//! Pure. Events come from comparing before and after, so a notification that comes twice, or after
//! the answer to the call that caused it, is told once.

use std::{collections::HashSet, time::SystemTime};

use crate::{
    events::timestamp,
    proto::v1::{self, event::Payload},
    wa::convert::{
        group::{Action, News, Setting},
        ids::is_same,
    },
};

/// Most members that `group.created` lists.
const MEMBERS_TOLD: usize = 2_048;

/// Why members come who used an invite, in WhatsApp's words: by themselves, or once an admin let them.
const INVITED: &[&str] = &["invite", "linked_group_join"];

/// How we came to know of a change.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Who did it, where known.
    pub(super) actor: Option<v1::Party>,
    /// WhatsApp's word for why.
    pub(super) reason: String,
    /// When.
    pub(super) time: SystemTime,
}

impl Told {
    /// What was found out by asking: nobody knows who did it.
    pub(super) fn found() -> Self {
        Self {
            actor: None,
            reason: String::new(),
            time: SystemTime::now(),
        }
    }

    /// What the account itself does.
    pub(super) fn by(own: &v1::Party) -> Self {
        Self {
            actor: Some(own.clone()),
            ..Self::found()
        }
    }

    pub(super) fn of(news: &News) -> Self {
        let reason = match &news.action {
            Action::Add(_, reason) | Action::Remove(_, reason) => reason.clone(),
            _ => String::new(),
        };
        Self {
            actor: news.actor.clone(),
            reason,
            time: news.time,
        }
    }

    fn is_by(&self, party: &v1::Party) -> bool {
        self.actor
            .as_ref()
            .is_some_and(|actor| is_same(actor, party))
    }
}

/// People to be found by either name.
struct Crowd<'p>(HashSet<&'p str>);

impl<'p> Crowd<'p> {
    fn of(parties: impl IntoIterator<Item = &'p v1::Party>) -> Self {
        let mut names = HashSet::new();
        for party in parties {
            names.extend(
                [&*party.lid, &*party.jid]
                    .into_iter()
                    .filter(|name| !name.is_empty()),
            );
        }
        Self(names)
    }

    fn has(&self, party: &v1::Party) -> bool {
        self.0.contains(&*party.lid) || self.0.contains(&*party.jid)
    }
}

fn parties(people: &[v1::GroupParticipant]) -> impl Iterator<Item = &v1::Party> {
    people.iter().filter_map(|one| one.party.as_ref())
}

fn is_in(crowd: &Crowd<'_>, one: &v1::GroupParticipant) -> bool {
    one.party.as_ref().is_some_and(|party| crowd.has(party))
}

fn is_admin(role: i32) -> bool {
    role == v1::GroupRole::Admin as i32 || role == v1::GroupRole::Owner as i32
}

/// Lets an action happen to a group that is known.
pub(super) fn apply(group: &mut v1::Group, action: &Action, told: &Told) {
    match action {
        Action::Add(people, _) => {
            let known = Crowd::of(parties(&group.participants));
            let new: Vec<_> = people
                .iter()
                .filter(|one| !is_in(&known, one))
                .cloned()
                .collect();
            group.participants.extend(new);
        }
        Action::Remove(people, _) => {
            let gone = Crowd::of(parties(people));
            group.participants.retain(|one| !is_in(&gone, one));
        }
        Action::Promote(people) => set_role(group, people, v1::GroupRole::Admin),
        Action::Demote(people) => set_role(group, people, v1::GroupRole::Member),
        Action::Subject(subject, owner, time) => {
            let time = timestamp(time.unwrap_or(told.time));
            // An older one that was late.
            let known = group.subject_time.as_ref();
            if known.is_some_and(|known| known.seconds > time.seconds) {
                return;
            }
            group.subject.clone_from(subject);
            group.subject_owner = owner.clone().or_else(|| told.actor.clone());
            group.subject_time = Some(time);
        }
        Action::Description(description) => {
            group.description.clone_from(description);
            group.description_owner = told.actor.clone();
            group.description_time = Some(timestamp(told.time));
        }
        Action::Picture(id) => group.picture_id.clone_from(id),
        Action::Setting(setting) => set(group, *setting),
        Action::Suspended(on) => group.suspended = *on,
        Action::Delete => group.set_membership(v1::GroupMembership::Deleted),
        Action::Create(_) | Action::JoinRequests(..) | Action::Doubt => {}
    }
}

fn set(group: &mut v1::Group, setting: Setting) {
    match setting {
        Setting::Announce(on) => group.announce = on,
        Setting::Locked(on) => group.locked = on,
        Setting::Ephemeral(seconds) => group.ephemeral_seconds = seconds,
        Setting::JoinApproval(on) => group.join_approval = on,
        Setting::MembersMayAdd(on) => group.members_may_add = on,
        Setting::History(on) => group.history_for_newcomers = on,
    }
}

fn set_role(group: &mut v1::Group, people: &[v1::GroupParticipant], role: v1::GroupRole) {
    let meant = Crowd::of(parties(people));
    // Names are borrowed from the list that is changed, so who is meant is found first.
    let meant: Vec<bool> = group
        .participants
        .iter()
        .map(|one| is_in(&meant, one))
        .collect();
    for (one, meant) in group.participants.iter_mut().zip(meant) {
        // The owner stays what it is when promoted.
        if meant && !(role == v1::GroupRole::Admin && is_admin(one.role)) {
            one.set_role(role);
        }
    }
}

/// What a fresh look at a group leaves out and is known from before: its picture, and other names.
pub(super) fn keep_known(before: &v1::Group, fresh: &mut v1::Group) {
    fresh.picture_id.clone_from(&before.picture_id);
    let mut known = std::collections::HashMap::new();
    for party in parties(&before.participants) {
        if !party.lid.is_empty() && !party.jid.is_empty() {
            known.insert(&*party.lid, party);
            known.insert(&*party.jid, party);
        }
    }
    for party in fresh
        .participants
        .iter_mut()
        .filter_map(|one| one.party.as_mut())
    {
        if party.lid.is_empty() != party.jid.is_empty() {
            let name = if party.lid.is_empty() {
                &*party.jid
            } else {
                &*party.lid
            };
            if let Some(known) = known.get(name) {
                *party = (*known).clone();
            }
        }
    }
}

/// Settles what follows from the members: how many they are, and what the account is among them.
pub(super) fn settle(group: &mut v1::Group, own: &v1::Party, told: &Told) {
    let mine = group
        .participants
        .iter()
        .find(|one| one.party.as_ref().is_some_and(|party| is_same(party, own)));
    let role = mine.map_or(0, |one| one.role);
    group.size = u32::try_from(group.participants.len()).unwrap_or(u32::MAX);
    if group.membership() == v1::GroupMembership::Deleted {
        group.own_role = 0;
        return;
    }
    group.own_role = role;
    if mine.is_some() {
        group.set_membership(v1::GroupMembership::Member);
    } else if group.membership() == v1::GroupMembership::Member {
        group.set_membership(if told.is_by(own) {
            v1::GroupMembership::Left
        } else {
            v1::GroupMembership::Removed
        });
    }
}

/// A group without its members.
pub(super) fn brief(group: &v1::Group) -> v1::Group {
    v1::Group {
        participants: Vec::new(),
        ..group.clone()
    }
}

/// What the log says of the difference.
pub(super) fn payloads(
    before: Option<&v1::Group>,
    after: &v1::Group,
    own: &v1::Party,
    told: &Told,
) -> Vec<Payload> {
    let member = v1::GroupMembership::Member;
    let was_in = before.filter(|before| before.membership() == member);
    let Some(before) = was_in else {
        // What happens in a group without the account is heard by accident, if at all.
        return if after.membership() == member {
            vec![created(after, told)]
        } else {
            Vec::new()
        };
    };
    let mut payloads = Vec::new();
    let changed_fields = changed(before, after);
    if !changed_fields.is_empty() {
        payloads.push(Payload::GroupUpdated(v1::GroupUpdated {
            changed_fields,
            before: Some(brief(before)),
            after: Some(brief(after)),
            actor: told.actor.clone(),
        }));
    }
    payloads.extend(members(before, after, own, told));
    payloads
}

fn created(group: &v1::Group, told: &Told) -> Payload {
    let group = if group.participants.len() > MEMBERS_TOLD {
        brief(group)
    } else {
        group.clone()
    };
    Payload::GroupCreated(v1::GroupCreated {
        group: Some(group),
        actor: told.actor.clone(),
    })
}

fn changed(before: &v1::Group, after: &v1::Group) -> Vec<String> {
    let deleted = v1::GroupMembership::Deleted as i32;
    let fields = [
        ("subject", before.subject != after.subject),
        ("description", before.description != after.description),
        ("picture_id", before.picture_id != after.picture_id),
        ("announce", before.announce != after.announce),
        ("locked", before.locked != after.locked),
        (
            "ephemeral_seconds",
            before.ephemeral_seconds != after.ephemeral_seconds,
        ),
        ("join_approval", before.join_approval != after.join_approval),
        (
            "members_may_add",
            before.members_may_add != after.members_may_add,
        ),
        (
            "history_for_newcomers",
            before.history_for_newcomers != after.history_for_newcomers,
        ),
        ("addressing", before.addressing != after.addressing),
        (
            "membership",
            // To be removed or to leave is told as what it is.
            before.membership != after.membership && after.membership == deleted,
        ),
        ("community", before.community != after.community),
        ("suspended", before.suspended != after.suspended),
    ];
    let names = fields.into_iter().filter(|(_, changed)| *changed);
    names.map(|(name, _)| name.to_owned()).collect()
}

fn members(
    before: &v1::Group,
    after: &v1::Group,
    own: &v1::Party,
    told: &Told,
) -> impl Iterator<Item = Payload> {
    use v1::GroupParticipantChange as Change;
    let (was, is) = (
        Crowd::of(parties(&before.participants)),
        Crowd::of(parties(&after.participants)),
    );
    let without =
        |people: &[v1::GroupParticipant], crowd: &Crowd<'_>| -> Vec<v1::GroupParticipant> {
            people
                .iter()
                .filter(|one| !is_in(crowd, one))
                .cloned()
                .collect()
        };
    let by_themselves = |people: &[v1::GroupParticipant]| {
        !people.is_empty() && parties(people).all(|party| told.is_by(party))
    };
    let came = without(&after.participants, &was);
    let went = without(&before.participants, &is);
    let change_in = if by_themselves(&came) {
        Change::Join
    } else if INVITED.contains(&&*told.reason) {
        match told.actor {
            Some(_) => Change::Approve,
            None => Change::Join,
        }
    } else {
        Change::Add
    };
    let change_out = if by_themselves(&went) {
        Change::Leave
    } else {
        Change::Remove
    };
    let (promoted, demoted) = roles(before, after);
    let told = told.clone();
    let (id, subject, own) = (after.id.clone(), after.subject.clone(), own.clone());
    [
        (change_in, came),
        (change_out, went),
        (Change::Promote, promoted),
        (Change::Demote, demoted),
    ]
    .into_iter()
    .filter(|(_, people)| !people.is_empty())
    .map(move |(change, participants)| {
        let includes_self = parties(&participants).any(|party| is_same(party, &own));
        Payload::GroupParticipantsUpdated(v1::GroupParticipantsUpdated {
            group_id: id.clone(),
            subject: subject.clone(),
            change: change.into(),
            includes_self,
            participants,
            actor: told.actor.clone(),
            reason: told.reason.clone(),
        })
    })
}

/// Who became an admin and who is one no more, as they are now.
fn roles(
    before: &v1::Group,
    after: &v1::Group,
) -> (Vec<v1::GroupParticipant>, Vec<v1::GroupParticipant>) {
    let admins = |group: &v1::Group, wanted: bool| -> Vec<v1::Party> {
        let some = group.participants.iter();
        let some = some.filter(|one| is_admin(one.role) == wanted);
        some.filter_map(|one| one.party.clone()).collect()
    };
    let (were, were_not) = (admins(before, true), admins(before, false));
    let (were, were_not) = (Crowd::of(&were), Crowd::of(&were_not));
    let promoted = after
        .participants
        .iter()
        .filter(|one| is_admin(one.role) && is_in(&were_not, one));
    let demoted = after
        .participants
        .iter()
        .filter(|one| !is_admin(one.role) && is_in(&were, one));
    (promoted.cloned().collect(), demoted.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::{GroupMembership, GroupParticipantChange as Change, GroupRole};

    fn party(number: u32) -> v1::Party {
        v1::Party {
            jid: format!("1555000{number:04}@s.whatsapp.net"),
            lid: format!("900{number:04}@lid"),
            phone_number: format!("1555000{number:04}"),
            name: String::new(),
        }
    }

    fn person(number: u32, role: GroupRole) -> v1::GroupParticipant {
        v1::GroupParticipant {
            party: Some(party(number)),
            role: role.into(),
        }
    }

    /// The account is number 1 and the owner.
    fn group() -> v1::Group {
        let mut group = v1::Group {
            id: "1203630001@g.us".to_owned(),
            subject: "Chess".to_owned(),
            participants: vec![
                person(1, GroupRole::Owner),
                person(2, GroupRole::Admin),
                person(3, GroupRole::Member),
            ],
            ..Default::default()
        };
        settle(&mut group, &party(1), &Told::found());
        group
    }

    fn by(number: u32, reason: &str) -> Told {
        Told {
            actor: Some(party(number)),
            reason: reason.to_owned(),
            time: SystemTime::now(),
        }
    }

    fn after(action: &Action, told: &Told) -> (v1::Group, Vec<Payload>) {
        let before = group();
        let mut after = before.clone();
        apply(&mut after, action, told);
        settle(&mut after, &party(1), told);
        let payloads = payloads(Some(&before), &after, &party(1), told);
        (after, payloads)
    }

    /// The one change of members that an action makes.
    fn change(action: &Action, told: &Told) -> (Change, Vec<String>, bool) {
        let (_, mut told) = after(action, told);
        match told.pop() {
            Some(Payload::GroupParticipantsUpdated(update)) if told.is_empty() => (
                update.change(),
                parties(&update.participants)
                    .map(|party| party.phone_number.clone())
                    .collect(),
                update.includes_self,
            ),
            other => panic!("{other:?} {told:?}"),
        }
    }

    #[test]
    fn members_come_and_go_as_what_they_do() {
        let four = || vec![person(4, GroupRole::Member)];
        let three = || vec![person(3, GroupRole::Member)];
        let name = |number: u32| vec![format!("1555000{number:04}")];
        let add = Action::Add(four(), String::new());
        assert_eq!(change(&add, &by(2, "")), (Change::Add, name(4), false));
        assert_eq!(change(&add, &by(4, "")), (Change::Join, name(4), false));
        assert_eq!(
            change(&add, &by(4, "invite")),
            (Change::Join, name(4), false)
        );
        assert_eq!(
            change(&add, &by(2, "invite")),
            (Change::Approve, name(4), false)
        );
        let remove = Action::Remove(three(), String::new());
        assert_eq!(
            change(&remove, &by(2, "")),
            (Change::Remove, name(3), false)
        );
        assert_eq!(change(&remove, &by(3, "")), (Change::Leave, name(3), false));
        let promote = Action::Promote(three());
        assert_eq!(
            change(&promote, &by(1, "")),
            (Change::Promote, name(3), false)
        );
        let demote = Action::Demote(vec![person(2, GroupRole::Member)]);
        assert_eq!(
            change(&demote, &by(1, "")),
            (Change::Demote, name(2), false)
        );
    }

    #[test]
    fn the_account_itself_may_go() {
        let own = || Action::Remove(vec![person(1, GroupRole::Owner)], String::new());
        let (left, told) = after(&own(), &by(1, ""));
        assert_eq!(left.membership(), GroupMembership::Left);
        assert_eq!((left.own_role(), left.size), (GroupRole::Unspecified, 2));
        assert!(
            matches!(&told[..], [Payload::GroupParticipantsUpdated(update)]
            if update.includes_self && update.change() == Change::Leave)
        );
        let (removed, _) = after(&own(), &by(2, ""));
        assert_eq!(removed.membership(), GroupMembership::Removed);

        // What is heard afterwards is no news, until the account is in again.
        let mut quiet = removed.clone();
        apply(
            &mut quiet,
            &Action::Setting(Setting::Announce(true)),
            &by(2, ""),
        );
        settle(&mut quiet, &party(1), &by(2, ""));
        assert_eq!(payloads(Some(&removed), &quiet, &party(1), &by(2, "")), []);
        let told = payloads(Some(&removed), &group(), &party(1), &by(2, ""));
        assert!(matches!(&told[..], [Payload::GroupCreated(_)]));
    }

    #[test]
    fn the_same_news_twice_is_none() {
        let told = by(2, "");
        let known = Action::Add(vec![person(3, GroupRole::Member)], String::new());
        let stranger = Action::Remove(vec![person(9, GroupRole::Member)], String::new());
        let owner = Action::Promote(vec![person(1, GroupRole::Owner)]);
        for action in [
            known,
            stranger,
            owner,
            Action::Setting(Setting::Announce(false)),
        ] {
            assert_eq!(after(&action, &told).1, [], "{action:?}");
        }
    }

    #[test]
    fn a_setting_is_told_with_before_and_after() {
        let (_, told) = after(&Action::Setting(Setting::Announce(true)), &by(2, ""));
        let [Payload::GroupUpdated(update)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(update.changed_fields, ["announce"]);
        let (before, after) = (update.before.as_ref(), update.after.as_ref());
        assert!(!before.unwrap().announce && after.unwrap().announce);
        assert!(after.unwrap().participants.is_empty());
        assert_eq!(update.actor, Some(party(2)));
    }

    #[test]
    fn a_late_subject_does_not_win() {
        let time = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let subject = |text: &str, at| Action::Subject(text.to_owned(), None, Some(time(at)));
        let mut group = group();
        apply(&mut group, &subject("new", 20), &by(2, ""));
        apply(&mut group, &subject("old", 10), &by(2, ""));
        assert_eq!(group.subject, "new");
    }

    #[test]
    fn a_fresh_look_keeps_what_it_does_not_show() {
        let before = v1::Group {
            picture_id: "7".to_owned(),
            ..group()
        };
        let mut fresh = group();
        let bare = fresh.participants[2].party.as_mut().unwrap();
        bare.jid.clear();
        bare.phone_number.clear();
        keep_known(&before, &mut fresh);
        assert_eq!(fresh.picture_id, "7");
        assert_eq!(fresh.participants[2].party, Some(party(3)));
        assert_eq!(
            payloads(Some(&before), &fresh, &party(1), &Told::found()),
            []
        );
    }

    #[test]
    fn a_deleted_group_is_told_once() {
        let (gone, told) = after(&Action::Delete, &by(2, ""));
        assert_eq!(gone.membership(), GroupMembership::Deleted);
        assert!(matches!(&told[..], [Payload::GroupUpdated(update)]
            if update.changed_fields == ["membership"]));
    }
}
