//! A disk that is small enough to fill.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// A mounted file system in memory, with an end.
pub struct Volume {
    folder: PathBuf,
}

impl Volume {
    /// Mounts one on this folder; `None`, aloud, where this user or machine can't.
    pub fn mount(folder: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self {
                folder: folder.to_owned(),
            }),
            refused => {
                eprintln!("SKIPPED: no small volume can be mounted here: {refused:?}");
                None
            }
        }
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            let piece = vec![0; size];
            loop {
                match ballast.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("the ballast can't be written: {error}"),
                }
            }
        }
    }

    /// Frees what `fill` took.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.folder).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.folder.display());
        }
    }
}
