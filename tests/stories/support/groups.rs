//! What stories do with groups.

use prost_types::FieldMask;
use tonic::Status;
use wagate::{
    proto::v1::{
        self, GroupParticipantChange, ParticipantAction, ParticipantOutcome, event::Payload,
    },
    sandbox::{GroupId, Number},
};

use super::{Api, Watcher};

/// A request of CreateGroup.
pub fn new_group(instance: &str, subject: &str, members: &[Number]) -> v1::CreateGroupRequest {
    v1::CreateGroupRequest {
        instance: instance.to_owned(),
        subject: subject.to_owned(),
        participants: members.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// The network's name of a group.
pub fn id(group: &str) -> GroupId {
    group.parse().unwrap()
}

/// The outcomes of some results, in order.
pub fn outcomes(results: &[v1::ParticipantResult]) -> Vec<ParticipantOutcome> {
    results.iter().map(|result| result.outcome()).collect()
}

/// The numbers of a group's members, sorted, with who is an admin.
pub fn members(group: &v1::Group) -> Vec<(String, bool)> {
    let mut members: Vec<_> = group
        .participants
        .iter()
        .map(|one| {
            let admin = one.role() != v1::GroupRole::Member;
            (one.party.as_ref().unwrap().phone_number.clone(), admin)
        })
        .collect();
    members.sort();
    members
}

impl Api {
    pub async fn create_group(
        &self,
        instance: &str,
        subject: &str,
        members: &[Number],
    ) -> v1::Group {
        let request = new_group(instance, subject, members);
        let answer = self.groups().create_group(request).await.unwrap();
        answer.into_inner().group.unwrap()
    }

    pub async fn group(&self, instance: &str, group: &str) -> Result<v1::Group, Status> {
        let request = v1::GetGroupRequest {
            instance: instance.to_owned(),
            group: group.to_owned(),
        };
        let answer = self.groups().get_group(request).await?;
        Ok(answer.into_inner().group.unwrap())
    }

    /// Changes the fields that the mask names.
    pub async fn update_group(
        &self,
        instance: &str,
        group: &str,
        mask: &[&str],
        fields: v1::UpdateGroupRequest,
    ) -> Result<v1::Group, Status> {
        let request = v1::UpdateGroupRequest {
            instance: instance.to_owned(),
            group: group.to_owned(),
            update_mask: Some(FieldMask {
                paths: mask.iter().map(ToString::to_string).collect(),
            }),
            ..fields
        };
        let answer = self.groups().update_group(request).await?;
        Ok(answer.into_inner().group.unwrap())
    }

    pub async fn participants(
        &self,
        instance: &str,
        group: &str,
        action: ParticipantAction,
        people: &[Number],
    ) -> Result<Vec<v1::ParticipantResult>, Status> {
        let request = v1::UpdateParticipantsRequest {
            instance: instance.to_owned(),
            group: group.to_owned(),
            action: action.into(),
            participants: people.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let answer = self.groups().update_participants(request).await?;
        Ok(answer.into_inner().results)
    }

    pub async fn invite_link(&self, instance: &str, group: &str) -> Result<String, Status> {
        let request = v1::GetInviteLinkRequest {
            instance: instance.to_owned(),
            group: group.to_owned(),
        };
        let answer = self.groups().get_invite_link(request).await?;
        Ok(answer.into_inner().link)
    }

    pub async fn join(&self, instance: &str, link: &str) -> Result<v1::JoinGroupResponse, Status> {
        let request = v1::JoinGroupRequest {
            instance: instance.to_owned(),
            by: Some(v1::join_group_request::By::Invite(link.to_owned())),
            ..Default::default()
        };
        Ok(self.groups().join_group(request).await?.into_inner())
    }

    pub async fn leave(&self, instance: &str, group: &str) -> Result<(), Status> {
        let request = v1::LeaveGroupRequest {
            instance: instance.to_owned(),
            group: group.to_owned(),
            ..Default::default()
        };
        self.groups().leave_group(request).await.map(drop)
    }
}

impl Watcher {
    /// Waits until the instance has been in this group.
    pub async fn until_group_created(&mut self, instance: &str, group: &str) -> v1::GroupCreated {
        self.once("the new group", |event| match &event.payload {
            Some(Payload::GroupCreated(created))
                if event.instance == instance
                    && created.group.as_ref().is_some_and(|one| one.id == group) =>
            {
                Some(created.clone())
            }
            _ => None,
        })
        .await
    }

    /// Waits until members of a group have changed so.
    pub async fn until_members(
        &mut self,
        instance: &str,
        change: GroupParticipantChange,
        number: Number,
    ) -> v1::GroupParticipantsUpdated {
        let number = number.to_string();
        self.once(&format!("{change:?} of {number}"), |event| {
            match &event.payload {
                Some(Payload::GroupParticipantsUpdated(update))
                    if event.instance == instance && update.change() == change =>
                {
                    let mut people = update
                        .participants
                        .iter()
                        .filter_map(|one| one.party.as_ref());
                    people
                        .any(|party| party.phone_number == number)
                        .then(|| update.clone())
                }
                _ => None,
            }
        })
        .await
    }

    /// Waits until a field of a group has changed.
    pub async fn until_group_updated(&mut self, instance: &str, field: &str) -> v1::GroupUpdated {
        self.once(&format!("a change of {field}"), |event| {
            match &event.payload {
                Some(Payload::GroupUpdated(update))
                    if event.instance == instance
                        && update.changed_fields.iter().any(|one| one == field) =>
                {
                    Some(update.clone())
                }
                _ => None,
            }
        })
        .await
    }

    /// Waits until the requests to join a group have changed so.
    pub async fn until_requests(
        &mut self,
        instance: &str,
        change: v1::GroupJoinRequestChange,
    ) -> v1::GroupJoinRequestsUpdated {
        self.once(&format!("{change:?} of requests"), |event| {
            match &event.payload {
                Some(Payload::GroupJoinRequestsUpdated(update))
                    if event.instance == instance && update.change() == change =>
                {
                    Some(update.clone())
                }
                _ => None,
            }
        })
        .await
    }
}
