//! WhatsApp installed anew on a phone: other keys, nothing left of the old ones, and everybody told who may hold a
//! session with them. What the phone has seen stays, as from a backup.

use std::sync::Arc;

use wacore_binary::Node;

use super::{PREKEYS, Phone, PhoneKeys, StoredPhone, app_state::Mirror, sender_keys::SenderKeys};
use crate::sandbox::{
    address::{DeviceAddress, Namespace, Number},
    error::SandboxError,
    keys::public_bytes,
    network::{Network, State},
    pairing::adv,
    store::{Batch, Records},
    wire,
};

impl Phone {
    /// Installs WhatsApp anew. The account's linked devices are unlinked: the key that vouched for them is gone.
    pub async fn reinstall(&self) -> Result<(), SandboxError> {
        let network = self.network.upgrade().ok_or(SandboxError::Closed)?;
        // First: whoever fetches app state waits for what a phone with a busy mind does not hear.
        let mut mirror = self.mirror.lock().await;
        // Nothing is encrypted or read meanwhile.
        let mut mind = self.mind.lock().await;
        let keys = Arc::new(PhoneKeys::new(StoredPhone::generate()?)?);
        let mut batch = Batch::default();
        batch.put(format!("phone/{}", self.number), &keys.stored);
        mind.signal.delete(&mut batch);
        mind.sender_keys.delete(&mut batch);
        let mut signal = keys.signal_state(self.number, &Records::default())?;
        let first = mind.next_prekey;
        let made = signal.generate_prekeys(first..first + PREKEYS, &mut batch);
        let public = made.iter().map(|(id, key)| (*id, public_bytes(key)));
        batch.put(format!("prekeys/{}", self.number), &(first + PREKEYS));
        let mut state = network.lock();
        if !state.links.contains_key(&self.address()) {
            return Err(SandboxError::NotConnected(self.address()));
        }
        state.install(self, &keys, public.collect(), batch)?;
        mind.next_prekey = first + PREKEYS;
        mind.signal = signal;
        mind.sender_keys = SenderKeys::load(self.number, &Records::default())?;
        mind.outbox.clear();
        // What was sealed with the old key nobody opens any more.
        *mirror = Mirror::default();
        Ok(())
    }

    /// Somebody has installed WhatsApp anew: what was agreed with the old keys is worth nothing.
    pub(super) async fn hear_of_reinstall(&self, network: &Network, device: DeviceAddress) {
        let mut mind = self.mind.lock().await;
        let mut batch = Batch::default();
        mind.signal.end_session(device, &mut batch);
        mind.sender_keys.lose_reader(device, &mut batch);
        if let Err(error) = network.store.commit(&batch) {
            tracing::error!(%error, "a phone cannot store that another one was installed anew");
        }
    }
}

impl State {
    /// The server's side of it.
    fn install(
        &mut self,
        phone: &Phone,
        keys: &Arc<PhoneKeys>,
        prekeys: Vec<(u32, [u8; 32])>,
        mut batch: Batch,
    ) -> Result<(), SandboxError> {
        let number = phone.number;
        let account = self.accounts.get(&number);
        let mut account = account.cloned().ok_or(SandboxError::NoSuchPhone(number))?;
        let companions: Vec<_> = account.addresses().filter(|one| !one.is_phone()).collect();
        account.devices.insert(0, keys.device());
        account.adv_raw_id = rand::random();
        account.key_index_list = adv::sign_key_indexes(&keys.identity, &account)?;
        account.save(&mut batch);
        self.clear_app_state(phone.address(), &mut batch);
        let pool = self.prekeys.entry(phone.address()).or_default();
        pool.clear(phone.address(), &mut batch);
        pool.add(phone.address(), prekeys, &mut batch);
        self.commit(&batch)?;
        self.accounts.insert(number, account);
        self.drop_app_state(phone.address());
        phone.replace_keys(keys.clone());
        self.abort_pairings(number);
        self.tell_of_new_identity(number);
        for companion in companions {
            let farewell = wire::stream_error(Some(401), Some("device_removed"));
            self.unlink(companion, Some(farewell))?;
        }
        Ok(())
    }

    /// Everybody who may hold a session with the phone of an account is told that it is another one now.
    fn tell_of_new_identity(&mut self, number: Number) {
        let Some(account) = self.accounts.get(&number) else {
            return;
        };
        let (number_jid, lid_jid) = (account.jid(Namespace::Number), account.jid(Namespace::Lid));
        let listeners: Vec<DeviceAddress> = self
            .circle(number)
            .filter(|device| device.number != number)
            .collect();
        let id = self.fresh_id();
        let notification: Node =
            wire::notification("encrypt", number_jid, &id, vec![wire::empty("identity")])
                .attr("lid", lid_jid)
                .build();
        let notification = Arc::new(notification);
        let deliveries = listeners
            .into_iter()
            .map(|device| (device, notification.clone()));
        if let Err(error) = self.enqueue_where_room(deliveries.collect(), Batch::default()) {
            // Whoever writes with an old session is asked to write again.
            tracing::error!(
                error.code = error.0,
                "nobody is told of a phone's new identity"
            );
        }
    }
}
