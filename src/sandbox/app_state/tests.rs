use std::collections::BTreeSet;

use waproto::whatsapp::{SyncdIndex, SyncdValue};

use super::*;
use crate::sandbox::store::Store;

const PLACE: Place = Place {
    number: Number::PLACEHOLDER,
    collection: Collection::RegularHigh,
};

/// A patch that sets, or removes, the record of an index. What is sealed in it nobody here reads.
fn patch(index: u8, value: u8, operation: SyncdOperation) -> Vec<u8> {
    let key_id = MessageField::some(KeyId {
        id: Some(vec![0, 0, 0, 0, 0, 1]),
    });
    let record = SyncdRecord {
        index: MessageField::some(SyncdIndex {
            blob: Some(vec![index; MAC]),
        }),
        value: MessageField::some(SyncdValue {
            blob: Some(vec![value; MIN_VALUE + 16]),
        }),
        key_id: key_id.clone(),
    };
    let patch = SyncdPatch {
        mutations: vec![SyncdMutation {
            operation: Some(operation.into()),
            record: MessageField::some(record),
        }],
        snapshot_mac: Some(vec![value; MAC]),
        patch_mac: Some(vec![index; MAC]),
        key_id,
        ..Default::default()
    };
    patch.encode_to_vec()
}

fn set(index: u8, value: u8) -> Vec<u8> {
    patch(index, value, SyncdOperation::SET)
}

/// Leaves a patch as the network does.
fn push(log: &mut PatchLog, made_on: u64, patch: &[u8], store: &Store) -> Result<u64, Rejected> {
    let mut batch = Batch::default();
    let taken = log.check(PLACE, made_on, patch, &mut batch)?;
    store.commit(&batch).unwrap();
    let version = log.take(taken);
    let mut batch = Batch::default();
    if let Some(folded) = log.fold(PLACE, &mut batch) {
        store.commit(&batch).unwrap();
        log.adopt(folded);
    }
    Ok(version)
}

fn versions(missed: &Missed) -> Vec<u64> {
    let patches = missed.patches.iter();
    patches
        .map(|patch| {
            let patch = SyncdPatch::decode_from_slice(patch).unwrap();
            patch.version.version.unwrap()
        })
        .collect()
}

#[test]
fn a_patch_counts_on_top_of_the_newest_one() {
    let (store, _) = Store::open(None).unwrap();
    let media = MediaHost::open(None).unwrap();
    let mut log = PatchLog::default();
    assert_eq!(push(&mut log, 0, &set(1, 1), &store), Ok(1));
    assert_eq!(push(&mut log, 0, &set(2, 2), &store), Err(Rejected::Behind));
    assert_eq!(push(&mut log, 2, &set(2, 2), &store), Err(Rejected::Behind));
    assert_eq!(push(&mut log, 1, &set(2, 2), &store), Ok(2));
    assert_eq!(versions(&log.since(0, &media).unwrap()), [1, 2]);
    assert_eq!(versions(&log.since(1, &media).unwrap()), [2]);
    assert_eq!(versions(&log.since(2, &media).unwrap()), [] as [u64; 0]);
    // One who claims to know more than there is hears nothing.
    assert_eq!(versions(&log.since(9, &media).unwrap()), [] as [u64; 0]);
}

#[test]
fn what_nobody_could_read_is_no_patch() {
    let (store, _) = Store::open(None).unwrap();
    let mut log = PatchLog::default();
    let whole = SyncdPatch::decode_from_slice(&set(1, 1)).unwrap();
    let broken: [fn(&mut SyncdPatch); 6] = [
        |patch| patch.patch_mac = None,
        |patch| patch.snapshot_mac = Some(vec![1; 31]),
        |patch| patch.key_id = MessageField::none(),
        |patch| patch.mutations.clear(),
        |patch| patch.mutations.push(patch.mutations[0].clone()),
        |patch| patch.external_mutations = MessageField::some(Default::default()),
    ];
    for (number, breaks) in broken.into_iter().enumerate() {
        let mut patch = whole.clone();
        breaks(&mut patch);
        let pushed = push(&mut log, 0, &patch.encode_to_vec(), &store);
        assert_eq!(pushed, Err(Rejected::Malformed), "{number}");
    }
    let nonsense = push(&mut log, 0, &[0xff; 40], &store);
    assert_eq!(nonsense, Err(Rejected::Malformed));
    let huge = push(&mut log, 0, &vec![0; MAX_PATCH + 1], &store);
    assert_eq!(huge, Err(Rejected::Malformed));
    assert_eq!(log.head(), 0);
}

#[test]
fn old_patches_become_a_snapshot_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let media = MediaHost::open(None).unwrap();
    let (store, _) = Store::open(Some(folder.path())).unwrap();
    let mut log = PatchLog::default();
    for version in 0..=MOST_PATCHES as u64 {
        // Ten records, set again and again; the first is gone in the end.
        let (index, value) = (version % 10, u8::try_from(version).unwrap());
        let patch = match u8::try_from(index).unwrap() {
            0 if version == 90 => patch(0, value, SyncdOperation::REMOVE),
            0 if version > 90 => set(1, value),
            index => set(index, value),
        };
        push(&mut log, version, &patch, &store).unwrap();
    }
    assert!(log.base.version > 90);
    let check = |log: &mut PatchLog| {
        let head = MOST_PATCHES as u64 + 1;
        assert_eq!(log.head(), head);
        let indexes: BTreeSet<u8> = log.base.records.keys().map(|index| index[0]).collect();
        assert_eq!(indexes, (1..10).collect());
        let newest = u8::try_from(log.base.version - 1).unwrap();
        assert_eq!(log.base.mac, vec![newest; MAC]);

        let missed = log.since(0, &media).unwrap();
        let reference = missed.snapshot.as_ref().unwrap();
        let reference = ExternalBlobReference::decode_from_slice(reference).unwrap();
        assert_eq!(versions(&missed)[0], log.base.version + 1);
        assert!(missed.more && missed.patches.len() == PAGE);
        // The same one for the next who asks.
        let again = log.since(0, &media).unwrap();
        assert_eq!(again.snapshot, missed.snapshot);
        let last = log.since(head - 3, &media).unwrap();
        assert_eq!(versions(&last), [head - 2, head - 1, head]);
        assert!(last.snapshot.is_none() && !last.more);
        reference.direct_path.unwrap()
    };
    let left = check(&mut log);
    drop(store);
    let (store, records) = Store::open(Some(folder.path())).unwrap();
    let mut log = PatchLog::load(&records, PLACE).unwrap();
    // Sealed anew, so that it lies elsewhere.
    assert_ne!(check(&mut log), left);

    let mut batch = Batch::default();
    log.clear(PLACE, &mut batch);
    store.commit(&batch).unwrap();
    drop(store);
    let (_store, records) = Store::open(Some(folder.path())).unwrap();
    assert_eq!(PatchLog::load(&records, PLACE).unwrap().head(), 0);
}
