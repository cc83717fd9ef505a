//! The media host: encrypted files that devices leave for one another.
//!
//! Owns the files, by the hash that names them: whole ones, and the beginnings of uploads that broke off. Owns
//! its own faults. Never sees a key: what lies here is what WhatsApp's servers see.

mod routes;

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
    prelude::BASE64_URL_SAFE_NO_PAD,
};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

pub use routes::routes;

use super::{error::SandboxError, keys::random_bytes};

/// The folder of files within the data folder.
const FOLDER: &str = "media";

/// How an unfinished file's name ends.
const UNFINISHED: &str = "part";

/// How the name of a file ends that only phones still have.
const KEPT: &str = "kept";

/// Most bytes of all files.
const MOST_BYTES: u64 = 16 << 30;

/// Most faults at a time.
const MAX_FAULTS: usize = 256;

/// Some clients pad, some do not.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What goes wrong with a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaFaultAction {
    /// It is answered with this HTTP status: 401, 403, 404, 410, 507 …
    Status(u16),
    /// It goes no faster than so many bytes a second.
    Slow(u32),
    /// It breaks off after so many bytes.
    BreakAfter(u64),
    /// Its first byte is another one.
    Damage,
}

/// A fault of the media host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaFault {
    /// Hits uploads.
    pub uploads: bool,
    /// Hits downloads.
    pub downloads: bool,
    /// What happens.
    pub action: MediaFaultAction,
    /// Ends after this many; `None` never.
    pub count: Option<u32>,
}

/// Which way a transfer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Upload,
    Download,
}

/// The name of a file: the SHA-256 of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Hash([u8; 32]);

impl Hash {
    fn parse(token: &str) -> Option<Self> {
        let bytes = URL_SAFE.decode(token).ok()?;
        bytes.try_into().ok().map(Self)
    }

    fn token(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// See the module.
pub struct MediaHost {
    folder: PathBuf,
    /// Without a data folder: goes with the host.
    _temporary: Option<TempDir>,
    /// What uploads show. Made anew at every start, as WhatsApp's own end after a while.
    auth: String,
    /// Host and port of its URLs.
    authority: OnceLock<String>,
    faults: Mutex<Vec<MediaFault>>,
    /// Uploads that run.
    writing: Mutex<HashSet<Hash>>,
    used: AtomicU64,
}

impl MediaHost {
    /// Opens the folder of files; without a data folder, one that goes with the host.
    pub fn open(data_dir: Option<&Path>) -> Result<Self, SandboxError> {
        let (folder, temporary) = match data_dir {
            Some(data_dir) => (data_dir.join(FOLDER), None),
            None => {
                let temporary = tempfile::Builder::new()
                    .prefix("wagate-sandbox-")
                    .tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        fs::create_dir_all(&folder)?;
        let mut used = 0;
        for entry in fs::read_dir(&folder)? {
            used += entry?.metadata()?.len();
        }
        Ok(Self {
            folder,
            _temporary: temporary,
            auth: BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<24>()),
            authority: OnceLock::new(),
            faults: Mutex::default(),
            writing: Mutex::default(),
            used: AtomicU64::new(used),
        })
    }

    /// Sets where clients find it; only the first time counts.
    pub fn found_at(&self, authority: String) {
        let _ = self.authority.set(authority);
    }

    /// Where clients find it: host and port.
    pub fn authority(&self) -> &str {
        self.authority.get().map_or("localhost", String::as_str)
    }

    /// What uploads must show.
    pub fn auth(&self) -> &str {
        &self.auth
    }

    /// Adds a fault; the oldest that fits a transfer decides.
    pub fn add_fault(&self, fault: MediaFault) -> Result<(), SandboxError> {
        let sensible = match fault.action {
            MediaFaultAction::Status(status) => (400..=599).contains(&status),
            MediaFaultAction::Slow(rate) => rate > 0,
            MediaFaultAction::BreakAfter(_) | MediaFaultAction::Damage => true,
        };
        if !sensible {
            let problem = "must be a status of 400 to 599, or a rate over 0";
            return Err(SandboxError::invalid("action", problem));
        }
        let mut faults = lock(&self.faults);
        if faults.len() >= MAX_FAULTS {
            return Err(SandboxError::Exhausted(
                "there are 256 faults of the media host already; clear some",
            ));
        }
        faults.push(fault);
        Ok(())
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        lock(&self.faults).clear();
    }

    /// Forgets every file, as WhatsApp does after some weeks; phones keep theirs.
    pub fn expire(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            match path.extension() {
                None => fs::rename(&path, path.with_extension(KEPT))?,
                Some(extension) if extension == KEPT => {}
                Some(_) => {
                    let bytes = fs::metadata(&path)?.len();
                    fs::remove_file(path)?;
                    self.used.fetch_sub(bytes, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Lets phones lose what only they still have.
    pub fn lose(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == KEPT) {
                let bytes = fs::metadata(&path)?.len();
                fs::remove_file(path)?;
                self.used.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// A phone leaves a file again; `None` if it has lost it. Answers with the path at which it is fetched.
    pub fn bring_back(&self, hash: &[u8]) -> io::Result<Option<String>> {
        let Some(hash) = hash.try_into().ok().map(Hash) else {
            return Ok(None);
        };
        let whole = self.whole(hash);
        if !whole.exists() {
            match fs::rename(whole.with_extension(KEPT), whole) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                renamed => renamed?,
            }
        }
        Ok(Some(routes::path(hash)))
    }

    /// What lies at a path, by the hash that it must have.
    pub fn fetch(&self, hash: &[u8], path: Option<&str>) -> Result<Vec<u8>, SandboxError> {
        let hash = hash.try_into().ok().map(Hash);
        let hash = hash.filter(|hash| path == Some(&routes::path(*hash)));
        let hash =
            hash.ok_or_else(|| SandboxError::invalid("message", "tells of no place or another"))?;
        Ok(fs::read(self.whole(hash))?)
    }

    /// Takes a whole file from a phone; returns the path at which it is fetched.
    pub fn leave(&self, bytes: &[u8]) -> Result<String, SandboxError> {
        let hash = Hash(Sha256::digest(bytes).into());
        if !self.reserve(bytes.len() as u64) {
            return Err(SandboxError::Exhausted("the media host is full"));
        }
        fs::write(self.whole(hash), bytes)?;
        Ok(routes::path(hash))
    }

    /// What happens to this transfer, if anything does.
    fn fault(&self, transfer: Transfer) -> Option<MediaFaultAction> {
        let mut faults = lock(&self.faults);
        let at = faults.iter().position(|fault| match transfer {
            Transfer::Upload => fault.uploads,
            Transfer::Download => fault.downloads,
        })?;
        let action = faults[at].action;
        match &mut faults[at].count {
            Some(0 | 1) => {
                faults.remove(at);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Some(action)
    }

    fn whole(&self, hash: Hash) -> PathBuf {
        self.folder.join(hex::encode(hash.0))
    }

    fn unfinished(&self, hash: Hash) -> PathBuf {
        self.whole(hash).with_extension(UNFINISHED)
    }

    /// Room for more bytes; false if there is none.
    fn reserve(&self, bytes: u64) -> bool {
        let taken = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|used| *used <= MOST_BYTES)
            });
        taken.is_ok()
    }

    /// Claims an upload, so that two of the same do not write into one another.
    fn claim(&self, hash: Hash) -> Option<Claim<'_>> {
        let first = lock(&self.writing).insert(hash);
        first.then_some(Claim { host: self, hash })
    }
}

/// An upload that runs.
struct Claim<'h> {
    host: &'h MediaHost,
    hash: Hash,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.host.writing).remove(&self.hash);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
