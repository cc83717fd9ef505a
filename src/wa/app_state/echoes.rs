//! Who waits for what this device did to be read back among what all devices did.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// A message and when it was marked, in milliseconds: what the library tells again.
type Key = (String, i64);

/// See the module.
#[derive(Default)]
pub(super) struct Echoes(Mutex<HashMap<Key, oneshot::Sender<()>>>);

impl Echoes {
    /// Begins to wait.
    pub(super) fn expect(&self, message_id: &str, millis: i64) -> Echo<'_> {
        let (sender, told) = oneshot::channel();
        let key = (message_id.to_owned(), millis);
        self.lock().insert(key.clone(), sender);
        Echo {
            echoes: self,
            key,
            told,
        }
    }

    /// It was read back and is applied.
    pub(super) fn tell(&self, message_id: &str, millis: i64) {
        let waiting = self.lock().remove(&(message_id.to_owned(), millis));
        if let Some(waiting) = waiting {
            waiting.send(()).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, oneshot::Sender<()>>> {
        // Every change is one insert or remove.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits.
pub(super) struct Echo<'e> {
    echoes: &'e Echoes,
    key: Key,
    told: oneshot::Receiver<()>,
}

impl Echo<'_> {
    /// Waits until it is read back.
    pub(super) async fn heard(mut self) {
        // The other end stays where it is as long as this one waits.
        (&mut self.told).await.ok();
    }
}

impl Drop for Echo<'_> {
    fn drop(&mut self) {
        self.echoes.lock().remove(&self.key);
    }
}
