//! Invites: the link of a group, what is behind one, and to join by it.

use std::{sync::Arc, time::SystemTime};

use tokio::time::timeout;
use whatsapp_rust::features::JoinGroupResult;

use super::{
    ANSWER_TIME, Asked, GROUP, GroupFault, GroupRefusal, Groups, ask,
    changes::{Told, brief},
    errors::{self, explain, refuse},
    query::LookBehind,
};
use crate::{domain::recipient::Recipient, proto::v1, storage::RequestMark, wa::error::WaError};

/// Where links lead.
const LINK: &str = "https://chat.whatsapp.com/";

/// WhatsApp's number for somebody who is in already.
const ALREADY_IN: [u16; 2] = [304, 409];

/// By what to join.
#[derive(Clone, Debug)]
pub enum Invite {
    /// A link or its code.
    Link(String),
    /// A personal invite.
    Personal {
        /// JID of the group.
        group: String,
        /// The code.
        code: String,
        /// When it ends.
        expires: Option<SystemTime>,
        /// Who sent it.
        inviter: Recipient,
    },
}

/// The code in an invite link, or the text itself.
pub fn code_of(link: &str) -> &str {
    let link = link.trim();
    let (link, query) = link.split_once('?').unwrap_or((link, ""));
    let named = query.split('&').find_map(|part| part.strip_prefix("code="));
    let path = link.trim_end_matches('/');
    named.unwrap_or_else(|| path.rsplit('/').next().unwrap_or_default())
}

impl Groups {
    /// The invite link of a group and the code at its end; a reset makes a new one.
    pub async fn invite_link(
        self: &Arc<Self>,
        jid: &str,
        reset: bool,
    ) -> Result<(String, String), WaError> {
        let client = self.open_client()?;
        // In some groups every member may hand the link out.
        self.known(jid, reset).await?;
        let (library, to) = (client.groups(), self.parse(jid)?);
        let link = match timeout(ANSWER_TIME, library.get_invite_link(to, reset)).await {
            Ok(Ok(link)) => link,
            Ok(Err(error)) => return Err(self.judge(&client, jid, error, GROUP).await),
            Err(_) => return Err(WaError::Timeout("no answer about a group".to_owned())),
        };
        let code = link.strip_prefix(LINK).unwrap_or(&link).to_owned();
        Ok((link, code))
    }

    /// Replaces the invite link.
    pub async fn reset_invite_link(
        self: &Arc<Self>,
        jid: String,
        request: Option<RequestMark>,
    ) -> Result<v1::ResetInviteLinkResponse, WaError> {
        self.once(request, |groups, _| async move {
            let (link, code) = groups.invite_link(&jid, true).await?;
            Ok(v1::ResetInviteLinkResponse { link, code })
        })
        .await
    }

    /// The group behind an invite link.
    pub async fn invite_info(self: &Arc<Self>, invite: &str) -> Result<v1::Group, WaError> {
        let client = self.open_client()?;
        let look = client.execute(LookBehind::code(code_of(invite)));
        let mut group = ask(look, Asked::Invite, "invite").await?;
        group.instance = self.cache.row().id.to_string();
        if let Some(known) = self.cache.get(&group.id).await? {
            group.membership = known.membership;
            group.own_role = known.own_role;
        }
        Ok(group)
    }

    /// Joins a group, or asks to.
    pub async fn join(
        self: &Arc<Self>,
        invite: Invite,
        request: Option<RequestMark>,
    ) -> Result<v1::JoinGroupResponse, WaError> {
        self.once(
            request,
            |groups, _| async move { groups.join_now(invite).await },
        )
        .await
    }

    async fn join_now(self: &Arc<Self>, invite: Invite) -> Result<v1::JoinGroupResponse, WaError> {
        let client = self.open_client()?;
        let library = client.groups();
        let field = match &invite {
            Invite::Link(_) => "invite",
            Invite::Personal { .. } => "personal_invite",
        };
        let asked = match &invite {
            Invite::Link(link) => {
                let asked = library.join_with_invite_code(code_of(link));
                timeout(ANSWER_TIME, asked).await
            }
            Invite::Personal {
                group,
                code,
                expires,
                inviter,
            } => {
                if expires.is_some_and(|end| end <= SystemTime::now()) {
                    return Err(refuse(GroupFault::InviteRevoked, field));
                }
                let since_1970 = |end: SystemTime| end.duration_since(SystemTime::UNIX_EPOCH).ok();
                let expires = expires.and_then(since_1970).map_or(0, |end| end.as_secs());
                let admin = self.addresses.resolve(&client, inviter).await?;
                let (to, expires) = (self.parse(group)?, i64::try_from(expires).unwrap_or(0));
                let asked = library.join_with_invite_v4(to, code, expires, admin.to);
                timeout(ANSWER_TIME, asked).await
            }
        };
        let joined = match asked {
            Ok(Ok(joined)) => joined,
            Ok(Err(error)) => {
                let code = errors::code(&error);
                if code.is_some_and(|code| ALREADY_IN.contains(&code)) {
                    return self.already_in(&invite).await;
                }
                return Err(explain(error, Asked::Join, field));
            }
            Err(_) => return Err(WaError::Timeout("no answer about an invite".to_owned())),
        };
        let group_id = joined.group_jid().to_non_ad_string();
        if let JoinGroupResult::PendingApproval(_) = joined {
            return Ok(v1::JoinGroupResponse {
                group_id,
                pending_approval: true,
                group: None,
            });
        }
        let told = Told {
            reason: "invite".to_owned(),
            ..Told::by(&self.cache.own())
        };
        let group = self.look(&client, &group_id, told).await?;
        Ok(v1::JoinGroupResponse {
            group_id,
            pending_approval: false,
            group: Some(brief(&group)),
        })
    }

    async fn already_in(
        self: &Arc<Self>,
        invite: &Invite,
    ) -> Result<v1::JoinGroupResponse, WaError> {
        let group_id = match invite {
            Invite::Link(link) => self.invite_info(link).await?.id,
            Invite::Personal { group, .. } => group.clone(),
        };
        let group = match self.get(&group_id).await {
            Ok(group) => Some(brief(&group)),
            // In, by what WhatsApp says, and yet not to be seen: then it asked to join before.
            Err(WaError::Group(GroupRefusal { .. })) => None,
            Err(error) => return Err(error),
        };
        Ok(v1::JoinGroupResponse {
            group_id,
            pending_approval: group.is_none(),
            group,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::code_of;

    #[test]
    fn links_of_every_kind_have_a_code() {
        for link in [
            "Abc123",
            " Abc123 ",
            "https://chat.whatsapp.com/Abc123",
            "https://chat.whatsapp.com/Abc123/?x=1",
            "https://chat.whatsapp.com/invite/Abc123",
            "whatsapp://chat/?code=Abc123",
            "https://web.whatsapp.com/accept?code=Abc123&x=1",
        ] {
            assert_eq!(code_of(link), "Abc123", "{link}");
        }
    }
}
