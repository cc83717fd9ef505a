//! The folder that files pass through, encrypted on their way out, plain on their way in.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IntoInnerError, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;
use wacore::download::DownloadWriter;

use crate::private_files;

/// Bytes that are gathered before they are written: a sealed file is opened sixteen at a time.
const GATHERED: usize = 256 << 10;

/// The folder. Nothing in it is worth anything after a restart.
#[derive(Clone, Debug)]
pub struct Passage(PathBuf);

impl Passage {
    /// Empties the folder, or makes it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        private_files::create_folder(folder)?;
        for entry in fs::read_dir(folder)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self(folder.to_owned()))
    }

    /// A file that nobody else can open and that goes with its handle.
    pub(super) fn unnamed(&self, limit: u64) -> io::Result<Capped> {
        Ok(Capped {
            file: BufWriter::with_capacity(GATHERED, tempfile::tempfile_in(&self.0)?),
            at: 0,
            limit,
        })
    }

    /// A file that can be opened again.
    pub(super) fn named(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(&self.0)
    }
}

/// A file that takes no more than so many bytes, whatever its sender says.
pub(super) struct Capped {
    file: BufWriter<File>,
    at: u64,
    limit: u64,
}

impl Capped {
    pub(super) fn into_file(self) -> io::Result<File> {
        self.file.into_inner().map_err(IntoInnerError::into_error)
    }
}

/// That there came more bytes than the file takes.
#[derive(Debug, thiserror::Error)]
#[error("the file has more than {0} bytes")]
pub(super) struct TooLarge(u64);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.at.saturating_add(bytes.len() as u64);
        if after > self.limit {
            return Err(io::Error::other(TooLarge(self.limit)));
        }
        let count = self.file.write(bytes)?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Capped {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

impl DownloadWriter for Capped {
    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().set_len(length)
    }
}
