//! A key that lies in a file beside the database, so that a toy can be used without asking for one.

use std::{fs, io, path::Path};

use http::{HeaderMap, HeaderValue};

use crate::{
    auth::{Caller, Keys, NewKey},
    domain::permission::Permission,
    private_files,
    storage::StorageError,
};

/// Why there is no kept key.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The file can't be written.
    #[error("can't write {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The key can't be made.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Keys {
    /// The key in a file, which may do everything. Where the file is missing or its key is no good,
    /// the one given, or else a new one, is written there.
    pub async fn kept(&self, file: &Path, given: Option<&str>) -> Result<String, KeepError> {
        if let Ok(kept) = fs::read_to_string(file)
            && let Some(caller) = self.caller_with(kept.trim()).await
            && caller.may(Permission::All)
        {
            return Ok(kept.trim().to_owned());
        }
        let key = match given {
            Some(key) => key.to_owned(),
            None => {
                let new = NewKey {
                    display_name: "sandbox".to_owned(),
                    permissions: vec![Permission::All],
                    instances: Vec::new(),
                };
                self.create(new).await?.1.reveal()
            }
        };
        private_files::write_line(file, &key).map_err(|source| KeepError::File {
            path: file.display().to_string(),
            source,
        })?;
        Ok(key)
    }

    async fn caller_with(&self, key: &str) -> Option<Caller> {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_str(key).ok()?);
        self.authenticate(&headers).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::fake;

    #[tokio::test]
    async fn the_kept_key_is_found_again_and_replaced_where_it_is_no_good() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let keys = Keys::new(fake::store());
        let first = keys.create_first("first").await.unwrap().unwrap().reveal();
        assert_eq!(keys.kept(&file, Some(&first)).await.unwrap(), first);
        assert_eq!(keys.kept(&file, None).await.unwrap(), first);
        for unusable in ["", "two\nlines", "wg_0123456789abcdef_wrong"] {
            fs::write(&file, unusable).unwrap();
            let new = keys.kept(&file, None).await.unwrap();
            assert!(keys.caller_with(&new).await.is_some());
            assert_eq!(keys.kept(&file, None).await.unwrap(), new);
        }
    }
}
