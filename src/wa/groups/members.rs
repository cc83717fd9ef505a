//! To add and remove members, make admins, and answer those who ask to join.

use std::{collections::HashMap, sync::Arc};

use tokio::time::timeout;
use whatsapp_rust::{
    Client, Jid,
    features::{GroupError, ParticipantChangeResponse},
};

use super::{
    ANSWER_TIME, GROUP, GroupFault, Groups, Somebody, errors::refuse, hindrance, query::Requests,
    tending,
};
use crate::{
    events::timestamp,
    proto::v1::{self, ParticipantAction, ParticipantOutcome},
    storage::RequestMark,
    wa::{
        addresses::Address,
        convert::{group::Action, ids::party, label},
        error::WaError,
    },
};

/// What WhatsApp said of one participant.
pub(super) struct Answer {
    jid: Jid,
    number: Option<Jid>,
    code: u16,
    invite: Option<(String, u64)>,
}

impl Answer {
    fn of(told: ParticipantChangeResponse) -> Self {
        // "200" is a success said aloud.
        let code = told.error.as_deref().filter(|code| *code != "200");
        Self {
            code: code.map_or(0, |code| code.parse().unwrap_or(u16::MAX)),
            jid: told.jid.to_non_ad(),
            number: told.phone_number.map(|jid| jid.to_non_ad()),
            invite: told
                .add_request
                .map(|invite| (invite.code, invite.expiration)),
        }
    }

    fn party(&self) -> v1::Party {
        party([Some(&self.jid), self.number.as_ref()], "")
    }
}

impl Groups {
    /// Adds, removes, promotes or demotes.
    pub async fn update_participants(
        self: &Arc<Self>,
        jid: String,
        action: ParticipantAction,
        participants: Vec<Somebody>,
        request: Option<RequestMark>,
    ) -> Result<v1::UpdateParticipantsResponse, WaError> {
        self.once(request, move |groups, _| async move {
            let client = groups.open_client()?;
            let group = groups.known(&jid, false).await?;
            let anybody = action == ParticipantAction::Add && group.members_may_add;
            if let Some(fault) = hindrance(&group, !anybody) {
                return Err(refuse(fault, GROUP));
            }
            let people = groups.resolve(&client, &participants).await?;
            let asked: Vec<Address> = people.iter().flatten().cloned().collect();
            let told = groups
                .act_on_members(&client, &group, action, &asked)
                .await?;
            Ok(v1::UpdateParticipantsResponse {
                results: results(action, &jid, &participants, &people, &told),
            })
        })
        .await
    }

    /// Who these people are; `None` is somebody whom WhatsApp does not know.
    pub(super) async fn resolve(
        &self,
        client: &Client,
        people: &[Somebody],
    ) -> Result<Vec<Option<Address>>, WaError> {
        let recipients: Vec<_> = people.iter().map(|one| one.recipient.clone()).collect();
        self.addresses.resolve_all(client, &recipients).await
    }

    /// Has WhatsApp do it, then writes down what it confirmed.
    pub(super) async fn act_on_members(
        self: &Arc<Self>,
        client: &Client,
        group: &v1::Group,
        action: ParticipantAction,
        people: &[Address],
    ) -> Result<Vec<Answer>, WaError> {
        let roster = Roster::of(group);
        let mut names: Vec<Jid> = people
            .iter()
            .map(|one| match action {
                // Whoever is added is known by number; whoever is in, as the group calls them.
                ParticipantAction::Add => one.to.clone(),
                _ => roster.called(one),
            })
            .collect();
        names.sort_by_cached_key(ToString::to_string);
        names.dedup();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let (library, to) = (client.groups(), self.parse(&group.id)?);
        let asked = async {
            Ok::<_, GroupError>(match action {
                ParticipantAction::Add => library.add_participants(to, &names).await?,
                ParticipantAction::Remove => library.remove_participants(to, &names).await?,
                ParticipantAction::Promote => library.promote_participants(to, &names).await?,
                ParticipantAction::Demote => library.demote_participants(to, &names).await?,
                ParticipantAction::Unspecified => Vec::new(),
            })
        };
        let answers = match timeout(ANSWER_TIME, asked).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => return Err(self.judge(client, &group.id, error, GROUP).await),
            Err(_) => return Err(WaError::Timeout("no answer about a group".to_owned())),
        };
        let answers: Vec<_> = answers.into_iter().map(Answer::of).collect();
        let asked: Vec<_> = people.iter().map(Address::party).collect();
        let asked = by_name(&asked);
        let mut done = Vec::new();
        for answer in answers.iter().filter(|answer| answer.code == 0) {
            let answered = answer.party();
            let known = lookup(&asked, &answered).cloned();
            let mut party = known.unwrap_or(answered);
            tending::complete(client, &mut party).await;
            done.push(v1::GroupParticipant {
                party: Some(party),
                role: v1::GroupRole::Member.into(),
            });
        }
        if !done.is_empty() {
            let action = match action {
                ParticipantAction::Add => Action::Add(done, String::new()),
                ParticipantAction::Remove => Action::Remove(done, String::new()),
                ParticipantAction::Promote => Action::Promote(done),
                ParticipantAction::Demote => Action::Demote(done),
                ParticipantAction::Unspecified => Action::Doubt,
            };
            self.confirmed(&group.id, action).await?;
        }
        Ok(answers)
    }

    /// Who waits to be let in.
    pub async fn join_requests(
        self: &Arc<Self>,
        jid: &str,
    ) -> Result<Vec<v1::JoinRequest>, WaError> {
        self.known(jid, true).await?;
        let client = self.open_client()?;
        let asked = client.execute(Requests::to(&self.parse(jid)?));
        let mut requests = match timeout(ANSWER_TIME, asked).await {
            Ok(Ok(requests)) => requests,
            Ok(Err(error)) => return Err(self.judge(&client, jid, error.into(), GROUP).await),
            Err(_) => return Err(WaError::Timeout("no answer about a group".to_owned())),
        };
        for party in requests.iter_mut().filter_map(|one| one.party.as_mut()) {
            tending::complete(&client, party).await;
        }
        Ok(requests)
    }

    /// Lets those who wait in, or turns them away.
    pub async fn review(
        self: &Arc<Self>,
        jid: String,
        approve: bool,
        participants: Vec<Somebody>,
        request: Option<RequestMark>,
    ) -> Result<v1::ReviewJoinRequestsResponse, WaError> {
        self.once(request, move |groups, _| async move {
            let client = groups.open_client()?;
            let group = groups.known(&jid, true).await?;
            let people = groups.resolve(&client, &participants).await?;
            let (library, to) = (client.groups(), groups.parse(&jid)?);
            let mode = group.addressing();
            let names: Vec<Jid> = people
                .iter()
                .flatten()
                .map(|one| in_mode(mode, one))
                .collect();
            let asked = async {
                if names.is_empty() {
                    Ok(Vec::new())
                } else if approve {
                    library.approve_membership_requests(to, &names).await
                } else {
                    library.reject_membership_requests(to, &names).await
                }
            };
            let told = match timeout(ANSWER_TIME, asked).await {
                Ok(Ok(told)) => told.into_iter().map(Answer::of).collect::<Vec<_>>(),
                Ok(Err(error)) => return Err(groups.judge(&client, &jid, error, GROUP).await),
                Err(_) => return Err(WaError::Timeout("no answer about a group".to_owned())),
            };
            let action = ParticipantAction::Remove;
            Ok(v1::ReviewJoinRequestsResponse {
                // Those who do not wait are not there, as those who can't be removed.
                results: results(action, &jid, &participants, &people, &told),
            })
        })
        .await
    }
}

fn since_1970(unix: u64) -> Option<std::time::SystemTime> {
    std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(unix))
}

/// Members to be found by either name.
pub(super) struct Roster<'g> {
    mode: v1::GroupAddressing,
    members: HashMap<&'g str, &'g v1::Party>,
}

impl<'g> Roster<'g> {
    pub(super) fn of(group: &'g v1::Group) -> Self {
        let people = group.participants.iter();
        Self {
            mode: group.addressing(),
            members: by_name(people.filter_map(|one| one.party.as_ref())),
        }
    }

    /// Somebody among the members.
    pub(super) fn find(&self, party: &v1::Party) -> Option<&'g v1::Party> {
        lookup(&self.members, party)
    }

    /// What the group calls somebody: as its members are named, where that name is known.
    pub(super) fn called(&self, address: &Address) -> Jid {
        let name = self.find(&address.party()).map(|party| match self.mode {
            v1::GroupAddressing::Lid => &party.lid,
            _ => &party.jid,
        });
        let name = name.filter(|name| !name.is_empty());
        name.and_then(|name| name.parse().ok())
            .unwrap_or_else(|| in_mode(self.mode, address))
    }
}

fn by_name<'p>(
    parties: impl IntoIterator<Item = &'p v1::Party>,
) -> HashMap<&'p str, &'p v1::Party> {
    let mut known = HashMap::new();
    for party in parties {
        for name in [&*party.lid, &*party.jid] {
            if !name.is_empty() {
                known.insert(name, party);
            }
        }
    }
    known
}

fn lookup<'p>(known: &HashMap<&'p str, &'p v1::Party>, party: &v1::Party) -> Option<&'p v1::Party> {
    let found = known.get(&*party.lid).or_else(|| known.get(&*party.jid));
    found.copied()
}

fn in_mode(mode: v1::GroupAddressing, address: &Address) -> Jid {
    let hidden = address.lid().filter(|_| mode == v1::GroupAddressing::Lid);
    hidden.unwrap_or(&address.to).clone()
}

/// What became of everybody, in the order of the request.
pub(super) fn results(
    action: ParticipantAction,
    group: &str,
    asked: &[Somebody],
    people: &[Option<Address>],
    told: &[Answer],
) -> Vec<v1::ParticipantResult> {
    let mut answers = HashMap::new();
    for answer in told {
        let party = answer.party();
        for name in [party.jid, party.lid] {
            answers.insert(name, answer);
        }
    }
    answers.remove("");
    let one = |(asked, address): (&Somebody, &Option<Address>)| {
        let mut result = v1::ParticipantResult {
            participant: asked.text.clone(),
            ..Default::default()
        };
        let Some(address) = address else {
            result.set_outcome(ParticipantOutcome::NotOnWhatsapp);
            return result;
        };
        let party = address.party();
        let answer = answers.get(&party.jid).or_else(|| answers.get(&party.lid));
        result.party = Some(party);
        // Who is not answered for was in already, or added when the group was made.
        let code = answer.map_or(0, |answer| answer.code);
        result.set_outcome(outcome(code, action));
        result.code = code.into();
        let invite = answer.and_then(|answer| answer.invite.as_ref());
        result.invite = invite.map(|(code, expiration)| v1::GroupInvite {
            group: group.to_owned(),
            code: label(code).into_owned(),
            expire_time: Some(*expiration)
                .filter(|unix| *unix > 0)
                .and_then(since_1970)
                .map(timestamp),
        });
        result
    };
    asked.iter().zip(people).map(one).collect()
}

fn outcome(code: u16, action: ParticipantAction) -> ParticipantOutcome {
    let adds = action == ParticipantAction::Add;
    match code {
        0 => ParticipantOutcome::Done,
        202 if adds => ParticipantOutcome::ApprovalNeeded,
        403 if adds => ParticipantOutcome::InviteNeeded,
        404 if adds => ParticipantOutcome::NotOnWhatsapp,
        404 => ParticipantOutcome::NotAMember,
        408 if adds => ParticipantOutcome::LeftRecently,
        409 if adds => ParticipantOutcome::AlreadyAMember,
        412 | 419 if adds => ParticipantOutcome::GroupFull,
        401 | 403 | 405 | 406 => ParticipantOutcome::NotAllowed,
        _ => ParticipantOutcome::Refused,
    }
}

/// Whether the account may write into a group, by what is known of it.
pub(super) fn may_write(group: &v1::Group) -> Result<(), WaError> {
    let fault = hindrance(group, group.announce);
    let fault = fault.or(group.suspended.then_some(GroupFault::Refused));
    fault.map_or(Ok(()), |fault| Err(refuse(fault, "recipient")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::recipient::Recipient;

    fn somebody(number: &str) -> Somebody {
        Somebody {
            text: number.to_owned(),
            recipient: Recipient::Number(number.to_owned()),
        }
    }

    fn address(number: &str, lid: &str) -> Option<Address> {
        Some(Address {
            to: Jid::pn(number),
            other: Some(Jid::lid(lid)),
        })
    }

    #[test]
    fn everybody_gets_a_result_whichever_name_whatsapp_answers() {
        let asked = ["15550000001", "15550000002", "15550000003", "15550000004"].map(somebody);
        let people = [
            address("15550000001", "900001"),
            address("15550000002", "900002"),
            None,
            address("15550000004", "900004"),
        ];
        let answers = [
            Answer {
                jid: Jid::lid("900002"),
                number: None,
                code: 403,
                invite: Some(("code".to_owned(), 1_700_000_000)),
            },
            Answer {
                jid: Jid::pn("15550000004"),
                number: None,
                code: 409,
                invite: None,
            },
        ];
        let told = results(ParticipantAction::Add, "1@g.us", &asked, &people, &answers);
        let outcomes: Vec<_> = told.iter().map(v1::ParticipantResult::outcome).collect();
        assert_eq!(
            outcomes,
            [
                ParticipantOutcome::Done,
                ParticipantOutcome::InviteNeeded,
                ParticipantOutcome::NotOnWhatsapp,
                ParticipantOutcome::AlreadyAMember,
            ]
        );
        let invite = told[1].invite.as_ref().unwrap();
        assert_eq!((&*invite.group, &*invite.code), ("1@g.us", "code"));
        assert_eq!(told[1].code, 403);
        let removed = outcome(404, ParticipantAction::Remove);
        assert_eq!(removed, ParticipantOutcome::NotAMember);
    }

    #[test]
    fn people_are_named_as_the_group_names_them() {
        let one = address("15550000001", "900001").unwrap();
        let mut group = v1::Group {
            addressing: v1::GroupAddressing::Lid.into(),
            ..Default::default()
        };
        assert_eq!(Roster::of(&group).called(&one), Jid::lid("900001"));
        group.set_addressing(v1::GroupAddressing::Number);
        assert_eq!(Roster::of(&group).called(&one), Jid::pn("15550000001"));
        // Known by number to the caller, by a hidden identity to the group.
        let bare = Address {
            to: Jid::pn("15550000001"),
            other: None,
        };
        group.set_addressing(v1::GroupAddressing::Lid);
        group.participants.push(v1::GroupParticipant {
            party: Some(one.party()),
            role: 1,
        });
        assert_eq!(Roster::of(&group).called(&bare), Jid::lid("900001"));
    }
}
