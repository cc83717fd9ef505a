//! To create a group, to change it, and to leave it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use whatsapp_rust::{
    Client,
    features::{
        GroupCreateOptions, GroupDescription, GroupError, GroupParticipantOptions, GroupSubject,
        MemberAddMode, MembershipApprovalMode, PreviousDescription,
    },
};

use super::{
    Asked, GROUP, GroupFault, GroupRefusal, Groups, Picture, Somebody, ask,
    changes::{Told, apply, brief},
    errors::{self, explain, refuse},
    hindrance, members,
    query::LookAtAll,
};
use crate::{
    events::system_time,
    proto::v1,
    storage::RequestMark,
    wa::{
        addresses::Address,
        convert::{
            group::{Action, Setting},
            ids::is_same,
        },
        error::WaError,
    },
};

/// How far WhatsApp's clock and ours may be apart.
const CLOCKS_APART: Duration = Duration::from_secs(120);

/// What a new group begins with.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// Its name.
    pub subject: String,
    /// Its description; empty is none.
    pub description: String,
    /// Whom to add.
    pub participants: Vec<Somebody>,
    /// Only admins may write.
    pub announce: bool,
    /// Only admins may change it.
    pub locked: bool,
    /// How long messages live, in seconds; 0 is for ever.
    pub ephemeral_seconds: u32,
    /// Joining needs an admin.
    pub join_approval: bool,
    /// Every member may add others.
    pub members_may_add: bool,
}

/// One change of a group.
#[derive(Clone, Debug)]
pub enum GroupEdit {
    /// A new name.
    Subject(String),
    /// A new description; empty removes it.
    Description(String),
    /// A new picture; `None` removes it.
    Picture(Option<Picture>),
    /// A setting.
    Setting(Setting),
}

impl GroupEdit {
    /// The field of the request that it comes from.
    fn field(&self) -> &'static str {
        match self {
            Self::Subject(_) => "subject",
            Self::Description(_) => "description",
            Self::Picture(_) => "picture",
            Self::Setting(Setting::Announce(_)) => "announce",
            Self::Setting(Setting::Locked(_)) => "locked",
            Self::Setting(Setting::Ephemeral(_)) => "ephemeral_seconds",
            Self::Setting(Setting::JoinApproval(_)) => "join_approval",
            Self::Setting(Setting::MembersMayAdd(_)) => "members_may_add",
            Self::Setting(Setting::History(_)) => "history_for_newcomers",
        }
    }

    /// Whether only admins may do it, whatever the group's settings.
    fn needs_admin(&self) -> bool {
        !matches!(
            self,
            Self::Subject(_)
                | Self::Description(_)
                | Self::Picture(_)
                | Self::Setting(Setting::Ephemeral(_))
        )
    }
}

impl Groups {
    /// Creates a group.
    pub async fn create(
        self: &Arc<Self>,
        new: NewGroup,
        request: Option<RequestMark>,
    ) -> Result<v1::CreateGroupResponse, WaError> {
        self.once(request, |groups, begun| async move {
            groups.create_now(new, begun).await
        })
        .await
    }

    async fn create_now(
        self: &Arc<Self>,
        new: NewGroup,
        begun: Option<SystemTime>,
    ) -> Result<v1::CreateGroupResponse, WaError> {
        let client = self.open_client()?;
        let people = self.resolve(&client, &new.participants).await?;
        let jid = match begun {
            Some(since) => self.created_since(&client, &new.subject, since).await?,
            None => None,
        };
        let jid = match jid {
            Some(jid) => jid,
            None => self.create_at_whatsapp(&client, &new, &people).await?,
        };
        let finished = self.finish(&client, &jid, &new, &people).await;
        finished.map_err(|error| match error {
            // The group is there: whoever tries again goes on with it.
            WaError::Group(refusal) => WaError::Timeout(refusal.to_string()),
            other => other,
        })
    }

    /// Does what can only be done to a group that is there.
    async fn finish(
        self: &Arc<Self>,
        client: &Client,
        jid: &str,
        new: &NewGroup,
        people: &[Option<Address>],
    ) -> Result<v1::CreateGroupResponse, WaError> {
        let own = self.cache.own();
        // The answer lists those too who could not be added: only a look tells who is in.
        let group = self.look(client, jid, Told::by(&own)).await?;
        let results = self.add_missing(client, &group, new, people).await?;
        for (setting, wanted) in [
            (Setting::Announce(true), new.announce),
            (Setting::Locked(true), new.locked),
        ] {
            if wanted {
                let edit = GroupEdit::Setting(setting);
                self.edit(client, jid, edit).await?;
            }
        }
        Ok(v1::CreateGroupResponse {
            group: self.cache.get(jid).await?,
            results,
        })
    }

    async fn create_at_whatsapp(
        &self,
        client: &Client,
        new: &NewGroup,
        people: &[Option<Address>],
    ) -> Result<String, WaError> {
        // WhatsApp creates with people whose number is known; the others are added afterwards.
        let named = people.iter().flatten().filter(|one| one.to.is_pn());
        let mut options = GroupCreateOptions::new(&new.subject).with_participants(
            named
                .map(|one| GroupParticipantOptions::new(one.to.clone()))
                .collect(),
        );
        options.ephemeral_expiration = Some(new.ephemeral_seconds);
        options.membership_approval_mode = Some(approval(new.join_approval));
        options.member_add_mode = Some(member_add(new.members_may_add));
        if !new.description.is_empty() {
            options.description = Some(GroupDescription::new_unchecked(&*new.description));
        }
        let groups = client.groups();
        let created = ask(groups.create_group(options), Asked::Change, "instance").await;
        match created {
            Ok(created) => Ok(created.metadata.id.to_non_ad_string()),
            // Nobody is an admin of what does not exist.
            Err(WaError::Group(refusal)) if refusal.fault == GroupFault::NotAdmin => {
                Err(WaError::Group(GroupRefusal {
                    fault: GroupFault::Refused,
                    ..refusal
                }))
            }
            Err(error) => Err(error),
        }
    }

    /// The group that a request made before nobody could be told of it.
    async fn created_since(
        &self,
        client: &Client,
        subject: &str,
        since: SystemTime,
    ) -> Result<Option<String>, WaError> {
        let look = client.execute(LookAtAll::new());
        let seen = ask(look, Asked::Look, "instance").await?;
        let own = self.cache.own();
        let mut made = seen.into_iter().filter(|group| {
            let time = group.create_time.as_ref().and_then(system_time);
            group.subject == subject
                && time.is_some_and(|time| time + CLOCKS_APART >= since)
                && group.creator.as_ref().is_some_and(|who| is_same(who, &own))
        });
        Ok(made.next().map(|group| group.id))
    }

    /// Adds those who are not in yet, to learn why; says what became of everybody.
    async fn add_missing(
        self: &Arc<Self>,
        client: &Client,
        group: &v1::Group,
        new: &NewGroup,
        people: &[Option<Address>],
    ) -> Result<Vec<v1::ParticipantResult>, WaError> {
        let roster = members::Roster::of(group);
        let missing = |address: &&Address| roster.find(&address.party()).is_none();
        let missing: Vec<Address> = people.iter().flatten().filter(missing).cloned().collect();
        let told = if missing.is_empty() {
            Vec::new()
        } else {
            let action = v1::ParticipantAction::Add;
            self.act_on_members(client, group, action, &missing).await?
        };
        Ok(members::results(
            v1::ParticipantAction::Add,
            &group.id,
            &new.participants,
            people,
            &told,
        ))
    }

    /// Changes a group, one thing after another. The first that fails ends it.
    pub async fn update(
        self: &Arc<Self>,
        jid: String,
        edits: Vec<GroupEdit>,
        request: Option<RequestMark>,
    ) -> Result<v1::UpdateGroupResponse, WaError> {
        self.once(request, |groups, _| async move {
            let client = groups.open_client()?;
            let mut group = groups.known(&jid, false).await?;
            for edit in &edits {
                let as_admin = edit.needs_admin() || group.locked;
                if let Some(fault) = hindrance(&group, as_admin) {
                    return Err(refuse(fault, edit.field()));
                }
            }
            for edit in edits {
                group = groups.edit(&client, &jid, edit).await?;
            }
            Ok(v1::UpdateGroupResponse {
                group: Some(brief(&group)),
            })
        })
        .await
    }

    /// Has WhatsApp change one thing, then writes it down.
    async fn edit(
        self: &Arc<Self>,
        client: &Client,
        jid: &str,
        edit: GroupEdit,
    ) -> Result<v1::Group, WaError> {
        let field = edit.field();
        let asked = tokio::time::timeout(super::ANSWER_TIME, self.send_edit(client, jid, edit));
        let action = match asked.await {
            Ok(Ok(action)) => action,
            Ok(Err(error)) => return Err(self.judge(client, jid, error, field).await),
            Err(_) => return Err(WaError::Timeout("no answer about a group".to_owned())),
        };
        self.confirmed(jid, action).await
    }

    async fn send_edit(
        &self,
        client: &Client,
        jid: &str,
        edit: GroupEdit,
    ) -> Result<Action, GroupError> {
        let groups = client.groups();
        let invalid = |_| GroupError::InvalidRequest("not a JID".to_owned());
        let to: whatsapp_rust::Jid = jid.parse().map_err(invalid)?;
        Ok(match edit {
            GroupEdit::Subject(subject) => {
                let new = GroupSubject::new_unchecked(&*subject);
                groups.set_subject(to, new).await?;
                Action::Subject(subject, None, None)
            }
            GroupEdit::Description(text) => {
                let new = (!text.is_empty()).then(|| GroupDescription::new_unchecked(&*text));
                let previous = PreviousDescription::Resolve;
                groups.set_description(to, new, previous).await?;
                Action::Description(text)
            }
            GroupEdit::Picture(Some(picture)) => {
                let bytes = picture.into_bytes();
                Action::Picture(groups.set_profile_picture(to, bytes).await?.id)
            }
            GroupEdit::Picture(None) => {
                groups.remove_profile_picture(to).await?;
                Action::Picture(String::new())
            }
            GroupEdit::Setting(setting) => {
                match setting {
                    Setting::Announce(on) => groups.set_announce(to, on).await?,
                    Setting::Locked(on) => groups.set_locked(to, on).await?,
                    Setting::Ephemeral(seconds) => groups.set_ephemeral(to, seconds).await?,
                    Setting::JoinApproval(on) => {
                        groups.set_membership_approval(to, approval(on)).await?;
                    }
                    Setting::MembersMayAdd(on) => {
                        groups.set_member_add_mode(to, member_add(on)).await?;
                    }
                    Setting::History(on) => groups.set_group_history(to, on).await?,
                }
                Action::Setting(setting)
            }
        })
    }

    /// Leaves a group.
    pub async fn leave(
        self: &Arc<Self>,
        jid: String,
        request: Option<RequestMark>,
    ) -> Result<v1::LeaveGroupResponse, WaError> {
        self.once(request, |groups, begun| async move {
            let client = groups.open_client()?;
            let left = |group: &v1::Group| group.membership() == v1::GroupMembership::Left;
            let known = groups.get(&jid).await?;
            if begun.is_some() && left(&known) {
                // The first try got through.
                return Ok(v1::LeaveGroupResponse {});
            }
            if let Some(fault) = hindrance(&known, false) {
                return Err(refuse(fault, GROUP));
            }
            let to = groups.parse(&jid)?;
            let library = client.groups();
            let asked = tokio::time::timeout(super::ANSWER_TIME, library.leave(to)).await;
            match asked {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(groups.judge(&client, &jid, error, GROUP).await),
                Err(_) => return Err(WaError::Timeout("no answer about a group".to_owned())),
            }
            let own = v1::GroupParticipant {
                party: Some(groups.cache.own()),
                ..Default::default()
            };
            let gone = Action::Remove(vec![own], String::new());
            groups.confirmed(&jid, gone).await?;
            Ok(v1::LeaveGroupResponse {})
        })
        .await
    }

    /// Writes down what WhatsApp confirmed to the account.
    pub(super) async fn confirmed(
        self: &Arc<Self>,
        jid: &str,
        action: Action,
    ) -> Result<v1::Group, WaError> {
        let told = Told::by(&self.cache.own());
        let changed = self
            .cache
            .change(jid, told.clone(), |before| {
                let mut after = before?.clone();
                apply(&mut after, &action, &told);
                Some(after)
            })
            .await?;
        if changed.doubtful {
            self.doubt(jid, Told::found());
        }
        changed
            .group
            .ok_or_else(|| refuse(GroupFault::NotFound, GROUP))
    }

    /// What a refusal means: whoever is refused may be no admin, no member, or too late. Looks.
    pub(super) async fn judge(
        self: &Arc<Self>,
        client: &Client,
        jid: &str,
        error: GroupError,
        field: &str,
    ) -> WaError {
        let code = errors::code(&error);
        let explained = explain(error, Asked::Change, field);
        if !matches!(code, Some(401 | 403 | 404)) {
            return explained;
        }
        if let Err(error) = self.renew(client, jid, Told::found()).await {
            tracing::debug!(%error, "a group that refused can't be looked at");
            return explained;
        }
        let known = self.cache.get(jid).await.ok().flatten();
        match (
            known.as_ref().map(|group| hindrance(group, true)),
            explained,
        ) {
            (Some(Some(fault)), WaError::Group(refusal)) => WaError::Group(GroupRefusal {
                field: match fault {
                    GroupFault::NotAdmin => refusal.field.clone(),
                    _ => GROUP.to_owned(),
                },
                fault,
                ..refusal
            }),
            // An admin who may not.
            (Some(None), WaError::Group(refusal)) => WaError::Group(GroupRefusal {
                fault: GroupFault::Refused,
                ..refusal
            }),
            (_, explained) => explained,
        }
    }
}

fn approval(on: bool) -> MembershipApprovalMode {
    match on {
        true => MembershipApprovalMode::On,
        false => MembershipApprovalMode::Off,
    }
}

fn member_add(everybody: bool) -> MemberAddMode {
    match everybody {
        true => MemberAddMode::AllMemberAdd,
        false => MemberAddMode::AdminAdd,
    }
}
