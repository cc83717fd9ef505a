//! Collections that the library passed over: it drops the news of a patch that comes while it still reads an answer from
//! before.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;
use whatsapp_rust::{
    Client, sync_task::MajorSyncTask, wacore::appstate::patch_decode::WAPatchName,
};

/// See the module.
#[derive(Default)]
pub(super) struct CatchingUp {
    /// Those that are being read, and whether there is more to read by now.
    reading: Mutex<HashMap<WAPatchName, bool>>,
}

impl CatchingUp {
    /// Has these collections read once whoever reads them now is done. Returns at once.
    pub(super) fn read(
        self: &Arc<Self>,
        client: &Arc<Client>,
        names: &[String],
        stop: &CancellationToken,
    ) {
        for name in names.iter().filter_map(|name| known(name)) {
            if let Some(more) = self.lock().get_mut(&name) {
                *more = true;
                continue;
            }
            self.lock().insert(name, false);
            let (this, client, stop) = (self.clone(), client.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let task = MajorSyncTask::AppStateSync {
                        name,
                        full_sync: false,
                    };
                    tokio::select! {
                        () = client.process_sync_task(task) => {}
                        () = stop.cancelled() => {}
                    }
                    if !this.is_more(name) {
                        return;
                    }
                }
            });
        }
    }

    /// Whether there is more to read; if not, nobody reads it any more.
    fn is_more(&self, name: WAPatchName) -> bool {
        let mut reading = self.lock();
        let more = reading.insert(name, false) == Some(true);
        if !more {
            reading.remove(&name);
        }
        more
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WAPatchName, bool>> {
        // Every change is one insert or remove.
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn known(name: &str) -> Option<WAPatchName> {
    name.parse()
        .ok()
        .filter(|name| *name != WAPatchName::Unknown)
}
