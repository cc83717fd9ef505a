//! Files and folders that only their owner can open.
//!
//! What lies on disk here opens WhatsApp accounts: their keys, and API keys of a sandbox.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

/// Creates the folder, and those it lies in, where they are missing.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

/// Writes a file of this one line.
pub fn write_line(path: &Path, line: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    writeln!(options.open(path)?, "{line}")
}
