//! Checking, making and revoking keys.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use subtle::ConstantTimeEq as _;
use tokio::{sync::watch, time::Instant};

use crate::{
    auth::{Caller, Secret},
    domain::{
        ids::{ApiKeyId, InstanceNumber},
        permission::Permission,
    },
    storage::{ApiKeyRow, Result, RevokeOutcome, Storage, StorageError},
};

/// How long a key that was read may be believed. A revocation is known at once where it happens;
/// this bounds it elsewhere.
const MEMORY: Duration = Duration::from_secs(3);
/// Most keys remembered.
const MEMORY_KEYS: usize = 1_024;

/// Why a call has no caller.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// It brought no key.
    #[error("the call has no API key")]
    Missing,
    /// The key is wrong, unknown or revoked.
    #[error("no good API key has this secret")]
    Invalid,
    /// It could not be looked up.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// For people.
    pub display_name: String,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Instances it is bound to; empty is all.
    pub instances: Vec<InstanceNumber>,
}

/// All keys. Clones are the same keys.
#[derive(Clone)]
pub struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    storage: Arc<dyn Storage>,
    memory: std::sync::Mutex<HashMap<ApiKeyId, (Instant, Arc<ApiKeyRow>)>>,
    revocations: watch::Sender<u64>,
}

impl Keys {
    /// The keys of this store.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self {
            shared: Arc::new(Shared {
                storage,
                memory: std::sync::Mutex::default(),
                revocations: watch::Sender::new(0),
            }),
        }
    }

    /// Who makes a call with these headers.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
    ) -> std::result::Result<Caller, AuthError> {
        let secret = Secret::of_call(headers)
            .ok_or(AuthError::Missing)?
            .ok_or(AuthError::Invalid)?;
        let key = self.lookup(secret.id()).await?.ok_or(AuthError::Invalid)?;
        let same = bool::from(key.secret_digest.ct_eq(&secret.digest()));
        if !same || key.revoke_time.is_some() {
            return Err(AuthError::Invalid);
        }
        Ok(Caller::of(&key))
    }

    /// Makes a key. The secret is returned here and nowhere else.
    pub async fn create(&self, new: NewKey) -> Result<(ApiKeyRow, Secret)> {
        let secret = Secret::generate();
        let key = ApiKeyRow {
            id: secret.id().clone(),
            secret_digest: secret.digest(),
            display_name: new.display_name,
            permissions: new.permissions,
            instances: new.instances,
            create_time: SystemTime::now(),
            revoke_time: None,
        };
        self.shared.storage.create_api_key(key.clone()).await?;
        Ok((key, secret))
    }

    /// Makes a key that may do everything, if there is no key at all.
    pub async fn create_first(&self, display_name: &str) -> Result<Option<Secret>> {
        if !self.shared.storage.list_api_keys(None, 1).await?.is_empty() {
            return Ok(None);
        }
        let (_, secret) = self
            .create(NewKey {
                display_name: display_name.to_owned(),
                permissions: vec![Permission::All],
                instances: Vec::new(),
            })
            .await?;
        Ok(Some(secret))
    }

    /// Revokes a key; its streams end.
    pub async fn revoke(&self, id: &ApiKeyId) -> Result<RevokeOutcome> {
        let outcome = self
            .shared
            .storage
            .revoke_api_key(id, SystemTime::now())
            .await?;
        // Both under one lock: nobody remembers the old row between the two.
        let mut memory = self.memory();
        memory.clear();
        self.shared.revocations.send_modify(|count| *count += 1);
        drop(memory);
        Ok(outcome)
    }

    /// Waits until the key is good no more, or can't be asked about.
    pub async fn revoked(&self, id: &ApiKeyId) -> Result<()> {
        let mut revocations = self.shared.revocations.subscribe();
        loop {
            revocations.mark_unchanged();
            match self.lookup(id).await? {
                Some(key) if key.revoke_time.is_none() => {}
                _ => return Ok(()),
            }
            if revocations.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    async fn lookup(&self, id: &ApiKeyId) -> Result<Option<Arc<ApiKeyRow>>> {
        let now = Instant::now();
        if let Some((until, key)) = self.memory().get(id)
            && now < *until
        {
            return Ok(Some(key.clone()));
        }
        let revocations = *self.shared.revocations.borrow();
        let Some(key) = self.shared.storage.lookup_api_key(id).await? else {
            return Ok(None);
        };
        let key = Arc::new(key);
        let mut memory = self.memory();
        // What was read before a revocation must not be remembered after it.
        if *self.shared.revocations.borrow() == revocations {
            if memory.len() >= MEMORY_KEYS {
                memory.clear();
            }
            memory.insert(id.clone(), (now + MEMORY, key.clone()));
        }
        Ok(Some(key))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, HashMap<ApiKeyId, (Instant, Arc<ApiKeyRow>)>> {
        // A panic elsewhere can't leave the map half-written.
        self.shared
            .memory
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::fake;

    fn headers(secret: &Secret) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("apikey", secret.reveal().parse().unwrap());
        headers
    }

    #[tokio::test]
    async fn the_first_key_is_made_once_and_may_do_everything() {
        let keys = Keys::new(fake::store());
        let secret = keys.create_first("first").await.unwrap().unwrap();
        assert!(keys.create_first("second").await.unwrap().is_none());
        let caller = keys.authenticate(&headers(&secret)).await.unwrap();
        assert!(caller.may(Permission::KeysWrite));
        assert_eq!(caller.key(), secret.id());
    }

    #[tokio::test]
    async fn a_wrong_secret_is_refused_also_for_a_known_id() {
        let keys = Keys::new(fake::store());
        let secret = keys.create_first("first").await.unwrap().unwrap();
        let other = Secret::generate().reveal();
        let forged = format!("wg_{}_{}", secret.id(), &other[20..]);
        let forged = Secret::parse(&forged).unwrap();
        for wrong in [forged, Secret::generate()] {
            let refused = keys.authenticate(&headers(&wrong)).await;
            assert!(matches!(refused, Err(AuthError::Invalid)));
        }
        let refused = keys.authenticate(&HeaderMap::new()).await;
        assert!(matches!(refused, Err(AuthError::Missing)));
    }

    #[tokio::test]
    async fn a_revoked_key_is_refused_at_once_and_whoever_waits_is_told() {
        let keys = Keys::new(fake::store());
        let _admin = keys.create_first("first").await.unwrap().unwrap();
        let (row, secret) = keys
            .create(NewKey {
                display_name: "second".to_owned(),
                permissions: vec![Permission::EventsRead],
                instances: Vec::new(),
            })
            .await
            .unwrap();
        keys.authenticate(&headers(&secret)).await.unwrap();
        let told = tokio::spawn({
            let (keys, id) = (keys.clone(), row.id.clone());
            async move { keys.revoked(&id).await }
        });
        keys.revoke(&row.id).await.unwrap();
        told.await.unwrap().unwrap();
        let refused = keys.authenticate(&headers(&secret)).await;
        assert!(matches!(refused, Err(AuthError::Invalid)));
    }
}
