//! Databases that the program does not open, and what it says.

use std::{fs, path::Path};

use crate::support::program::{run, serve, wagate};

/// What `wagate serve` says of this folder, which it refuses.
async fn refusal(folder: &Path) -> String {
    let mut command = wagate(folder);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let (code, out, err) = run(&mut command).await;
    assert_eq!(code, 1, "{out}{err}");
    assert!(!err.contains("panicked"), "{err}");
    err
}

/// A folder with a database that was in use.
async fn used() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut program = serve(folder.path(), &[]);
    program.results.until("wg_").await;
    assert!(program.terminate().await.0.success());
    let database = folder.path().join("wagate-data/wagate.db");
    (folder, database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version() {
    let (folder, database) = used().await;
    let mut bytes = fs::read(&database).unwrap();
    // The version is the big-endian number at 60, <https://www.sqlite.org/fileformat.html>.
    bytes[60..64].copy_from_slice(&900_u32.to_be_bytes());
    fs::write(&database, &bytes).unwrap();
    let told = refusal(folder.path()).await;
    assert!(told.contains("newer wagate (version 900"), "{told}");
    assert!(told.contains("restore a copy"), "{told}");
    assert_eq!(fs::read(&database).unwrap(), bytes, "it was left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_database() {
    let (folder, database) = used().await;
    let good = fs::read(&database).unwrap();
    let page = usize::from(u16::from_be_bytes([good[16], good[17]]));
    assert!(good.len() > 4 * page);

    // One page in the middle holds nonsense: found though nobody has asked for it yet.
    let mut bytes = good.clone();
    bytes[2 * page..3 * page].fill(0xa5);
    fs::write(&database, &bytes).unwrap();
    let told = refusal(folder.path()).await;
    assert!(told.contains("is damaged or no database"), "{told}");
    assert!(told.contains("restore a copy"), "{told}");

    // Not even the beginning is right.
    fs::write(&database, vec![b'x'; 4 * page]).unwrap();
    let told = refusal(folder.path()).await;
    assert!(told.contains("is damaged or no database"), "{told}");

    // The copy is as good as ever.
    fs::write(&database, &good).unwrap();
    let mut program = serve(folder.path(), &[]);
    program.results.until("listens on").await;
    assert!(program.terminate().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = serve(folder.path(), &[]);
    first.results.until("wg_").await;
    let told = refusal(folder.path()).await;
    assert!(told.contains("another process uses"), "{told}");
    assert!(told.contains("stop it or choose another"), "{told}");
    assert!(first.terminate().await.0.success());
}
