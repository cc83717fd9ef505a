//! A caller whose key was found good.

use std::sync::Arc;

use crate::{
    domain::{
        ids::{ApiKeyId, InstanceNumber},
        permission::Permission,
    },
    storage::ApiKeyRow,
};

/// Who is calling. Only a good key makes one.
#[derive(Clone, Debug)]
pub struct Caller {
    key: ApiKeyId,
    permissions: Arc<[Permission]>,
    instances: Option<Arc<[InstanceNumber]>>,
}

impl Caller {
    pub(super) fn of(key: &ApiKeyRow) -> Self {
        Self {
            key: key.id.clone(),
            permissions: key.permissions.as_slice().into(),
            instances: (!key.instances.is_empty()).then(|| key.instances.as_slice().into()),
        }
    }

    /// The id of the key.
    pub fn key(&self) -> &ApiKeyId {
        &self.key
    }

    /// Whether the key has this permission.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions
            .iter()
            .any(|one| *one == permission || *one == Permission::All)
    }

    /// Whether the key is good for this instance.
    pub fn sees(&self, instance: InstanceNumber) -> bool {
        self.instances
            .as_ref()
            .is_none_or(|bound| bound.contains(&instance))
    }

    /// The instances that the key is bound to; `None` is all.
    pub fn instances(&self) -> Option<&Arc<[InstanceNumber]>> {
        self.instances.as_ref()
    }

    /// Whether a key bound like this reaches no further than this one.
    pub fn covers(&self, instances: &[InstanceNumber]) -> bool {
        self.instances.is_none()
            || (!instances.is_empty() && instances.iter().all(|one| self.sees(*one)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn caller(permissions: &[Permission], instances: &[u32]) -> Caller {
        Caller::of(&ApiKeyRow {
            id: ApiKeyId::parse("0123456789abcdef").unwrap(),
            secret_digest: [0; 32],
            display_name: String::new(),
            permissions: permissions.to_vec(),
            instances: instances.iter().copied().map(InstanceNumber).collect(),
            create_time: UNIX_EPOCH,
            revoke_time: None,
        })
    }

    #[test]
    fn a_star_is_everything_and_nothing_is_nothing() {
        for permission in Permission::EVERY {
            assert!(caller(&[Permission::All], &[]).may(permission));
            assert!(!caller(&[], &[]).may(permission));
        }
        assert!(!caller(&[Permission::EventsRead], &[]).may(Permission::All));
    }

    #[test]
    fn a_bound_key_reaches_no_further() {
        let bound = caller(&[], &[1, 2]);
        assert!(bound.sees(InstanceNumber(2)));
        assert!(!bound.sees(InstanceNumber(3)));
        assert!(bound.covers(&[InstanceNumber(1)]));
        assert!(!bound.covers(&[]));
        assert!(!bound.covers(&[InstanceNumber(1), InstanceNumber(3)]));
        assert!(caller(&[], &[]).covers(&[]));
    }
}
