//! Durable state: an append-only file of keyed JSON records, the last one of a key wins.
//!
//! Owns the file, its lock and its compaction. A committed batch is in the operating system's hands before
//! `commit` returns, so it survives the death of the process. Never knows what the records mean.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::error::SandboxError;

const FILE: &str = "network.jsonl";
const LOCK: &str = "network.lock";

/// The file is rewritten once it is this large and four times what was live at the last rewrite.
const COMPACT_FROM: u64 = 16 << 20;

/// One line of the file. Without a value the key is deleted.
#[derive(Serialize, Deserialize)]
struct Line<V> {
    k: String,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    v: Option<V>,
}

/// Records as they were at start.
#[derive(Default)]
pub struct Records(BTreeMap<String, Value>);

impl Records {
    /// The record of a key.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, SandboxError> {
        self.0.get(key).map(|raw| decode(key, raw)).transpose()
    }

    /// All records whose key starts with `prefix`, in key order, with the rest of the key.
    pub fn scan<'a, T: DeserializeOwned>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = Result<(&'a str, T), SandboxError>> {
        self.0
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(move |(key, raw)| Ok((&key[prefix.len()..], decode(key, raw)?)))
    }
}

fn decode<T: DeserializeOwned>(key: &str, raw: &Value) -> Result<T, SandboxError> {
    T::deserialize(raw).map_err(|source| SandboxError::Damaged {
        key: key.to_owned(),
        source,
    })
}

/// Changes that become durable together.
#[derive(Default)]
pub struct Batch {
    lines: Vec<u8>,
}

impl Batch {
    /// Sets a record.
    pub fn put(&mut self, key: impl Into<String>, value: &impl Serialize) {
        self.line(&Line {
            k: key.into(),
            v: Some(value),
        });
    }

    /// Deletes a record.
    pub fn delete(&mut self, key: impl Into<String>) {
        self.line(&Line::<()> {
            k: key.into(),
            v: None,
        });
    }

    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn line<V: Serialize>(&mut self, line: &Line<V>) {
        let start = self.lines.len();
        match serde_json::to_writer(&mut self.lines, line) {
            Ok(()) => self.lines.push(b'\n'),
            Err(error) => {
                // Our records are plain structs; this is a bug, not a state of the world.
                self.lines.truncate(start);
                tracing::error!(%error, "a sandbox record does not serialize");
            }
        }
    }
}

/// The store; in memory mode it keeps nothing.
pub struct Store {
    log: Option<Mutex<Log>>,
}

struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    compacted_size: u64,
    torn: bool,
    closed: bool,
    /// Held for the life of the store: two networks on one folder would hand out keys twice.
    lock: File,
}

impl Store {
    /// Opens the folder, or nothing at all, and reads what is there.
    pub fn open(folder: Option<&Path>) -> Result<(Self, Records), SandboxError> {
        let Some(folder) = folder else {
            return Ok((Self { log: None }, Records::default()));
        };
        fs::create_dir_all(folder)?;
        let lock = private_file(&folder.join(LOCK), false)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!("{} is in use by another sandbox", folder.display()),
                )
                .into());
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let path = folder.join(FILE);
        let records = read(&path)?;
        let size = rewrite(&path, &records)?;
        let file = private_file(&path, true)?;
        let log = Log {
            path,
            file,
            size,
            compacted_size: size,
            torn: false,
            closed: false,
            lock,
        };
        Ok((
            Self {
                log: Some(Mutex::new(log)),
            },
            Records(records),
        ))
    }

    /// Leaves the folder to others: nothing is written after this.
    pub fn close(&self) -> io::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.closed = true;
        log.lock.unlock()
    }

    /// False when it keeps nothing.
    pub fn is_durable(&self) -> bool {
        self.log.is_some()
    }

    /// Makes a batch durable.
    pub fn commit(&self, batch: &Batch) -> io::Result<()> {
        match &self.log {
            Some(log) if !batch.is_empty() => log
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .append(&batch.lines),
            _ => Ok(()),
        }
    }
}

impl Log {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.closed {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the sandbox is shut down",
            ));
        }
        if self.torn {
            // The half line before must not swallow this one; a lone half line is skipped when read.
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        if let Err(error) = self.file.write_all(lines) {
            self.torn = true;
            return Err(error);
        }
        self.size += lines.len() as u64;
        if self.size > COMPACT_FROM && self.size > 4 * self.compacted_size {
            let records = read(&self.path)?;
            self.size = rewrite(&self.path, &records)?;
            self.compacted_size = self.size;
            self.file = private_file(&self.path, true)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Value>> {
    let mut records = BTreeMap::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(records),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    while {
        line.clear();
        reader.read_until(b'\n', &mut line)? > 0
    } {
        match serde_json::from_slice::<Line<Value>>(&line) {
            Ok(Line { k, v: Some(value) }) => {
                records.insert(k, value);
            }
            Ok(Line { k, v: None }) => {
                records.remove(&k);
            }
            // The write in flight when the process died.
            Err(error) => tracing::warn!(%error, "skipped a torn line of the sandbox's state"),
        }
    }
    Ok(records)
}

fn rewrite(path: &Path, records: &BTreeMap<String, Value>) -> io::Result<u64> {
    let fresh = path.with_extension("tmp");
    let _ = fs::remove_file(&fresh);
    let mut writer = BufWriter::new(private_file(&fresh, true)?);
    for (key, value) in records {
        serde_json::to_writer(
            &mut writer,
            &Line {
                k: key.clone(),
                v: Some(value),
            },
        )?;
        writer.write_all(b"\n")?;
    }
    let file = writer
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    let size = file.metadata()?.len();
    fs::rename(&fresh, path)?;
    Ok(size)
}

/// The file holds private keys: nobody else may read it.
fn private_file(path: &Path, append: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .append(append)
        .write(true)
        .truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Bytes as base64 in a record.
pub mod base64_bytes {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(
        from: D,
    ) -> Result<T, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        let bytes = BASE64_STANDARD
            .decode(text.as_bytes())
            .map_err(D::Error::custom)?;
        T::try_from(bytes).map_err(|_| D::Error::custom("wrong length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(records: &Records) -> Vec<(String, u32)> {
        records
            .scan::<u32>("n/")
            .map(|record| record.map(|(key, value)| (key.to_owned(), value)).unwrap())
            .collect()
    }

    #[test]
    fn the_last_record_of_a_key_wins_and_deletes_hold() {
        let folder = tempfile::tempdir().unwrap();
        let (store, records) = Store::open(Some(folder.path())).unwrap();
        assert!(all(&records).is_empty());
        let mut batch = Batch::default();
        batch.put("n/1", &1);
        batch.put("n/2", &2);
        batch.put("n/1", &3);
        batch.put("other", &"x");
        store.commit(&batch).unwrap();
        let mut batch = Batch::default();
        batch.delete("n/2");
        store.commit(&batch).unwrap();
        drop(store);
        for _ in 0..2 {
            let (_store, records) = Store::open(Some(folder.path())).unwrap();
            assert_eq!(all(&records), [("1".to_owned(), 3)]);
            assert_eq!(
                records.get::<String>("other").unwrap().as_deref(),
                Some("x")
            );
        }
    }

    #[test]
    fn a_torn_last_line_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(Some(folder.path())).unwrap();
        let mut batch = Batch::default();
        batch.put("n/1", &1);
        store.commit(&batch).unwrap();
        drop(store);
        let mut file = OpenOptions::new()
            .append(true)
            .open(folder.path().join(FILE))
            .unwrap();
        file.write_all(b"{\"k\":\"n/2\",\"v\"").unwrap();
        let (_store, records) = Store::open(Some(folder.path())).unwrap();
        assert_eq!(all(&records), [("1".to_owned(), 1)]);
    }

    #[test]
    fn a_folder_serves_one_network_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(Some(folder.path())).unwrap();
        assert!(matches!(
            Store::open(Some(folder.path())),
            Err(SandboxError::Storage(_))
        ));
        drop(first);
        assert!(Store::open(Some(folder.path())).is_ok());
    }
}
