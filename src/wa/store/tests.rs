//! Our backend answers what the library's own backend in memory answers.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use proptest::{prelude::*, sample::select};
use wacore::{
    appstate::{hash::HashState, processor::AppStateMutationMAC},
    store::{
        Device, InMemoryBackend,
        error::Result,
        traits::{
            AppStateSyncKey, Backend, DeviceInfo, DeviceListRecord, DeviceStore as _,
            LidPnMappingEntry, MsgSecretEntry, PendingInboundKey, PendingInboundRow, TcTokenEntry,
        },
    },
};

use super::{DeviceBackend, encode};
use crate::{
    domain::ids::InstanceNumber,
    storage::{
        Storage as _,
        sqlite::{Options, SqliteStorage},
    },
};

/// A method of the library's storage and what its arguments are made of.
#[derive(Clone, Copy, Debug)]
struct Call {
    device: usize,
    method: &'static str,
    a: u8,
    b: u8,
    n: i64,
    /// Rises from call to call.
    step: i64,
}

/// Every method of the five traits but those about memory and snapshots.
const METHODS: [&str; 69] = [
    "put_identity",
    "put_identities_batch",
    "load_identity",
    "delete_identity",
    "get_session",
    "put_session",
    "put_sessions_batch",
    "delete_session",
    "has_session",
    "has_signal_state_for_user",
    "store_prekey",
    "store_prekeys_batch",
    "load_prekey",
    "load_prekeys_batch",
    "mark_prekeys_uploaded",
    "remove_prekey",
    "get_max_prekey_id",
    "store_signed_prekey",
    "load_signed_prekey",
    "load_all_signed_prekeys",
    "remove_signed_prekey",
    "put_sender_key",
    "put_sender_keys_batch",
    "get_sender_key",
    "delete_sender_key",
    "get_sync_key",
    "set_sync_key",
    "get_version",
    "set_version",
    "put_mutation_macs",
    "get_mutation_mac",
    "get_mutation_macs",
    "delete_mutation_macs",
    "clear_mutation_macs",
    "get_latest_sync_key_id",
    "get_sender_key_devices",
    "set_sender_key_status",
    "clear_sender_key_devices",
    "delete_sender_key_device_rows",
    "clear_all_sender_key_devices",
    "lid_mappings",
    "put_lid_mapping",
    "put_lid_mappings",
    "base_keys",
    "save_base_key",
    "delete_base_key",
    "update_device_list",
    "update_device_lists",
    "get_devices",
    "delete_devices",
    "group_metadata",
    "get_tc_token",
    "put_tc_token",
    "delete_tc_token",
    "get_all_tc_token_jids",
    "delete_expired_tc_tokens",
    "touch_tc_token_sender_timestamp",
    "store_received_tc_token",
    "store_sent_message",
    "take_sent_message",
    "delete_expired_sent_messages",
    "pending_inbound",
    "delete_pending_inbound",
    "delete_expired_pending_inbound",
    "device",
    "put_msg_secret",
    "put_msg_secrets",
    "get_msg_secret",
    "delete_expired_msg_secrets",
];

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let call = (0..2_usize, select(&METHODS[..]), 0..4_u8, 0..3_u8, 0..6_i64);
    proptest::collection::vec(call, 1..150).prop_map(|calls| {
        (1..)
            .zip(calls)
            .map(|(step, (device, method, a, b, n))| Call {
                device,
                method,
                a,
                b,
                n,
                step,
            })
            .collect()
    })
}

fn sorted<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort();
    values
}

/// What a backend answers, as text. Lists whose order is not promised are sorted.
async fn answer(backend: &impl Backend, call: Call) -> Result<String> {
    let Call { a, b, n, step, .. } = call;
    let id = u32::from(a);
    // Addresses of which some are the start of others.
    let user = &"1555000"[..usize::from(a) + 4];
    let address: Arc<str> = match b {
        0 => format!("{user}@lid").into(),
        _ => format!("{user}:{b}@lid").into(),
    };
    let name = format!("name {a}");
    let other = format!("other {b}");
    let value = vec![a, b, n as u8];
    let bytes = Bytes::from(value.clone());
    // Nothing or everything: the clocks of the two backends differ.
    let cutoff = if n % 2 == 0 { 0 } else { i64::MAX };
    let text = match call.method {
        "put_identity" => format!("{:?}", backend.put_identity(&address, [a; 32]).await?),
        "put_identities_batch" => {
            let batch = [(address.clone(), [a; 32]), (user.into(), [b; 32])];
            format!("{:?}", backend.put_identities_batch(&batch).await?)
        }
        "load_identity" => format!("{:?}", backend.load_identity(&address).await?),
        "delete_identity" => format!("{:?}", backend.delete_identity(&address).await?),
        "get_session" => format!("{:?}", backend.get_session(&address).await?),
        "put_session" => format!("{:?}", backend.put_session(&address, &value).await?),
        "put_sessions_batch" => {
            let batch = [(address, bytes.clone()), (user.into(), bytes)];
            format!("{:?}", backend.put_sessions_batch(&batch).await?)
        }
        "delete_session" => format!("{:?}", backend.delete_session(&address).await?),
        "has_session" => format!("{:?}", backend.has_session(&address).await?),
        "has_signal_state_for_user" => {
            format!("{:?}", backend.has_signal_state_for_user(user).await?)
        }
        "store_prekey" => format!("{:?}", backend.store_prekey(id, &value, n > 2).await?),
        "store_prekeys_batch" => {
            let batch = [(id, bytes.clone()), (id + 9, bytes)];
            format!("{:?}", backend.store_prekeys_batch(&batch, n > 2).await?)
        }
        "load_prekey" => format!("{:?}", backend.load_prekey(id).await?),
        "load_prekeys_batch" => {
            let found = backend.load_prekeys_batch(&[id, id + 9, 77]).await?;
            format!("{:?}", sorted(found))
        }
        "mark_prekeys_uploaded" => format!("{:?}", backend.mark_prekeys_uploaded(&[id]).await?),
        "remove_prekey" => format!("{:?}", backend.remove_prekey(id).await?),
        "get_max_prekey_id" => format!("{:?}", backend.get_max_prekey_id().await?),
        "store_signed_prekey" => format!("{:?}", backend.store_signed_prekey(id, &value).await?),
        "load_signed_prekey" => format!("{:?}", backend.load_signed_prekey(id).await?),
        "load_all_signed_prekeys" => {
            format!("{:?}", sorted(backend.load_all_signed_prekeys().await?))
        }
        "remove_signed_prekey" => format!("{:?}", backend.remove_signed_prekey(id).await?),
        "put_sender_key" => format!("{:?}", backend.put_sender_key(&name, &value).await?),
        "put_sender_keys_batch" => {
            let batch = [(name.into(), bytes.clone()), (other.into(), bytes)];
            format!("{:?}", backend.put_sender_keys_batch(&batch).await?)
        }
        "get_sender_key" => format!("{:?}", backend.get_sender_key(&name).await?),
        "delete_sender_key" => format!("{:?}", backend.delete_sender_key(&name).await?),
        "get_sync_key" => format!("{:?}", backend.get_sync_key(&[a]).await?),
        "set_sync_key" => {
            let key = AppStateSyncKey {
                key_data: value.clone(),
                fingerprint: value,
                timestamp: n,
            };
            format!("{:?}", backend.set_sync_key(&[a], key).await?)
        }
        "get_version" => format!("{:?}", backend.get_version(&name).await?),
        "set_version" => {
            let mut state = HashState {
                version: step as u64,
                hash: [a; 128],
                ..HashState::default()
            };
            state.index_value_map.insert(other, value);
            format!("{:?}", backend.set_version(&name, state).await?)
        }
        "put_mutation_macs" => {
            let macs = [a, a + 1].map(|one| AppStateMutationMAC {
                index_mac: vec![one; 32],
                value_mac: value.clone(),
            });
            format!("{:?}", backend.put_mutation_macs(&other, 1, &macs).await?)
        }
        "get_mutation_mac" => format!("{:?}", backend.get_mutation_mac(&other, &[a; 32]).await?),
        "get_mutation_macs" => {
            let found = backend
                .get_mutation_macs(&other, &[[a; 32], [a + 1; 32], [99; 32]])
                .await?;
            format!("{:?}", sorted(found))
        }
        "delete_mutation_macs" => {
            let macs = [vec![a; 32], vec![99; 32]];
            format!("{:?}", backend.delete_mutation_macs(&other, &macs).await?)
        }
        "clear_mutation_macs" => format!("{:?}", backend.clear_mutation_macs(&other).await?),
        "get_latest_sync_key_id" => format!("{:?}", backend.get_latest_sync_key_id().await?),
        "get_sender_key_devices" => {
            format!("{:?}", sorted(backend.get_sender_key_devices(&name).await?))
        }
        "set_sender_key_status" => {
            let entries = [(&*address, n > 2), (&*other, n > 4)];
            format!(
                "{:?}",
                backend.set_sender_key_status(&name, &entries).await?
            )
        }
        "clear_sender_key_devices" => {
            format!("{:?}", backend.clear_sender_key_devices(&name).await?)
        }
        "delete_sender_key_device_rows" => {
            let rows = [&*address, &*other];
            format!("{:?}", backend.delete_sender_key_device_rows(&rows).await?)
        }
        "clear_all_sender_key_devices" => {
            format!("{:?}", backend.clear_all_sender_key_devices().await?)
        }
        "lid_mappings" => {
            let all = backend.get_all_lid_mappings().await?;
            let all = sorted(all.into_iter().map(|entry| format!("{entry:?}")));
            let lid = backend.get_lid_mapping(&format!("lid {a}")).await?;
            let number = backend.get_pn_mapping(&format!("number {}", a / 2)).await?;
            format!("{all:?} {lid:?} {number:?}")
        }
        "put_lid_mapping" => format!("{:?}", backend.put_lid_mapping(&lid(a, n, step * 2)).await?),
        "put_lid_mappings" => {
            let batch = [lid(a, n, step * 2), lid((a + 1) % 4, n, step * 2 + 1)];
            format!("{:?}", backend.put_lid_mappings(&batch).await?)
        }
        "base_keys" => format!(
            "{:?}",
            backend.has_same_base_key(&name, &other, &[1]).await?
        ),
        "save_base_key" => {
            let key = [(n % 2) as u8];
            format!("{:?}", backend.save_base_key(&name, &other, &key).await?)
        }
        "delete_base_key" => format!("{:?}", backend.delete_base_key(&name, &other).await?),
        "update_device_list" => {
            format!("{:?}", backend.update_device_list(list(&name, n)).await?)
        }
        "update_device_lists" => {
            let lists = vec![list(&name, n), list(&other, n)];
            format!("{:?}", backend.update_device_lists(lists).await?)
        }
        "get_devices" => format!("{:?}", backend.get_devices(&name).await?),
        "delete_devices" => format!("{:?}", backend.delete_devices(&name).await?),
        "group_metadata" => {
            match n {
                0 => backend.delete_group_metadata(&name).await?,
                1 => backend.put_group_metadata(&name, &value).await?,
                _ => {}
            }
            format!("{:?}", backend.get_group_metadata(&name).await?)
        }
        "get_tc_token" => format!("{:?}", backend.get_tc_token(&name).await?),
        "put_tc_token" => {
            let token = TcTokenEntry {
                token: value[..usize::from(b)].to_vec(),
                token_timestamp: n,
                sender_timestamp: (b > 0).then_some(n),
            };
            format!("{:?}", backend.put_tc_token(&name, &token).await?)
        }
        "delete_tc_token" => format!("{:?}", backend.delete_tc_token(&name).await?),
        "get_all_tc_token_jids" => {
            format!("{:?}", sorted(backend.get_all_tc_token_jids().await?))
        }
        "delete_expired_tc_tokens" => {
            let cutoff = i64::from(b) + 1;
            format!("{:?}", backend.delete_expired_tc_tokens(n, cutoff).await?)
        }
        "touch_tc_token_sender_timestamp" => {
            backend.touch_tc_token_sender_timestamp(&name, n).await?;
            String::new()
        }
        "store_received_tc_token" => {
            let token = &value[..usize::from(b)];
            format!(
                "{:?}",
                backend.store_received_tc_token(&name, token, n).await?
            )
        }
        "store_sent_message" => {
            format!(
                "{:?}",
                backend.store_sent_message(&name, &other, &value).await?
            )
        }
        "take_sent_message" => {
            let taken = backend.take_sent_message(&name, &other).await?;
            // As the library does at once; ours never lets go of it.
            if let Some(payload) = &taken {
                backend.store_sent_message(&name, &other, payload).await?;
            }
            format!("{taken:?}")
        }
        "delete_expired_sent_messages" => {
            format!("{:?}", backend.delete_expired_sent_messages(cutoff).await?)
        }
        "pending_inbound" => {
            let sender = &*address;
            match n {
                0 => {
                    backend
                        .store_pending_inbound(&name, sender, &other, &value)
                        .await?;
                }
                1 => {
                    let rows = ["x", &other].map(|id| PendingInboundRow {
                        chat: &name,
                        sender,
                        id,
                        message: &value,
                    });
                    backend.store_pending_inbound_batch(&rows).await?;
                }
                _ => {}
            }
            let found = backend.get_pending_inbound(&name, sender, &other).await?;
            format!("{found:?}")
        }
        "delete_pending_inbound" => {
            let sender = &*address;
            if n > 2 {
                backend
                    .delete_pending_inbound(&name, sender, &other)
                    .await?;
            } else {
                let keys = ["x", &other].map(|id| PendingInboundKey {
                    chat: &name,
                    sender,
                    id,
                });
                backend.delete_pending_inbound_batch(&keys).await?;
            }
            String::new()
        }
        "delete_expired_pending_inbound" => {
            format!(
                "{:?}",
                backend.delete_expired_pending_inbound(cutoff).await?
            )
        }
        "device" => {
            match n {
                0 => {
                    let mut device = Device::new();
                    device.push_name = name;
                    device.next_pre_key_id = id;
                    backend.save(&device).await?;
                }
                1 => {
                    backend.create().await?;
                }
                _ => {}
            }
            let loaded = backend.load().await?;
            let told = loaded.map(|device| (device.push_name, device.next_pre_key_id));
            format!("{:?} {told:?}", backend.exists().await?)
        }
        "put_msg_secret" => {
            backend.put_msg_secret(&name, &other, "M", &[a; 32]).await?;
            String::new()
        }
        "put_msg_secrets" => {
            let entry = |msg_id: &str| MsgSecretEntry {
                chat: name.as_str().into(),
                sender: other.as_str().into(),
                msg_id: msg_id.into(),
                secret: [n as u8; 32],
                expires_at: n,
                message_ts: (n * 7) % 5,
            };
            let entries = vec![entry("M"), entry("M"), entry("N")];
            format!("{:?}", backend.put_msg_secrets(entries).await?)
        }
        "get_msg_secret" => {
            let with_time = backend.get_msg_secret_with_ts(&name, &other, "M").await?;
            let without = backend.get_msg_secret(&name, &other, "M").await?;
            format!("{with_time:?} {without:?}")
        }
        "delete_expired_msg_secrets" => {
            format!("{:?}", backend.delete_expired_msg_secrets(n).await?)
        }
        other => panic!("{other} is not called"),
    };
    Ok(text)
}

/// A hidden identity keeps its number: what the reference does with the number that one left
/// differs from what the trait promises.
fn lid(a: u8, n: i64, step: i64) -> LidPnMappingEntry {
    LidPnMappingEntry {
        lid: format!("lid {a}"),
        phone_number: format!("number {}", a / 2),
        created_at: n,
        updated_at: step,
        learning_source: "usync".to_owned(),
    }
}

fn list(user: &str, n: i64) -> DeviceListRecord {
    DeviceListRecord {
        user: user.to_owned(),
        devices: vec![
            DeviceInfo::new(0, None),
            DeviceInfo::new(n as u32, Some(n as u32)).with_hosting(n > 2),
        ],
        timestamp: n,
        phash: (n > 1).then(|| format!("phash {n}")),
        raw_id: (n > 3).then_some(n as u32),
    }
}

async fn open(folder: &Path) -> Arc<SqliteStorage> {
    let options = Options {
        survive_power_cut: false,
        ..Options::default()
    };
    SqliteStorage::open(folder.join("wagate.db"), options)
        .await
        .unwrap()
}

async fn compare(calls: Vec<Call>) -> std::result::Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    let ours = [1, 2].map(|number| DeviceBackend::new(&*storage, InstanceNumber(number)));
    let reference = [InMemoryBackend::new(), InMemoryBackend::new()];
    for call in calls {
        let expected = answer(&reference[call.device], call).await.unwrap();
        let got = answer(&ours[call.device], call).await.unwrap();
        prop_assert_eq!(got, expected, "{:?}", call);
    }
    storage.close().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_devices_in_one_database_answer_like_two_in_memory(calls in calls()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(compare(calls))?;
    }
}

#[tokio::test]
async fn a_device_survives_a_restart_whole() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).await;
    let backend = DeviceBackend::new(&*storage, InstanceNumber(3));
    assert_eq!(backend.create().await.unwrap(), 3);
    let mut device = backend.load().await.unwrap().unwrap();
    device.push_name = "Shop".to_owned();
    device.pn = Some("15550001111:7@s.whatsapp.net".parse().unwrap());
    device.login_counter = 4;
    backend.save(&device).await.unwrap();
    // A second start must not make a new device over this one.
    backend.create().await.unwrap();
    storage.close().await;

    let storage = open(folder.path()).await;
    let backend = DeviceBackend::new(&*storage, InstanceNumber(3));
    let loaded = backend.load().await.unwrap().unwrap();
    assert_eq!(encode(&loaded).unwrap(), encode(&device).unwrap());
    assert_eq!(loaded.device_props, Device::new().device_props);
    let elsewhere = DeviceBackend::new(&*storage, InstanceNumber(4));
    assert!(!elsewhere.exists().await.unwrap());
}
