//! Rows that are asked for far more often than they change, kept in memory under what they are asked for.
//!
//! Nothing is changed here: whoever writes such a row has everything forgotten right after the commit
//! (`Unit::forget`). What was read before that and arrives later is not kept, nor is that nothing was found.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::storage::Result;

/// See the module. Holds `MOST` answers at most; then it begins anew.
pub(super) struct Remembered<Value, const MOST: usize>(RwLock<Kept<Value>>);

struct Kept<Value> {
    /// Counts how often everything was forgotten.
    turn: u64,
    answers: HashMap<String, Value>,
}

impl<Value, const MOST: usize> Default for Remembered<Value, MOST> {
    fn default() -> Self {
        Self(RwLock::new(Kept {
            turn: 0,
            answers: HashMap::new(),
        }))
    }
}

impl<Value: Clone, const MOST: usize> Remembered<Value, MOST> {
    /// The answer, or what `read` finds.
    pub(super) async fn recall(
        &self,
        asked: &str,
        read: impl Future<Output = Result<Option<Value>>>,
    ) -> Result<Option<Value>> {
        let turn = {
            let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = kept.answers.get(asked) {
                return Ok(Some(known.clone()));
            }
            kept.turn
        };
        let Some(value) = read.await? else {
            return Ok(None);
        };
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.turn == turn {
            if kept.answers.len() >= MOST {
                kept.answers.clear();
            }
            kept.answers.insert(asked.to_owned(), value.clone());
        }
        Ok(Some(value))
    }
}

/// What remembers rows that may have been written.
pub(super) trait Forget: Send + Sync {
    /// They were.
    fn forget(&self);
}

impl<Value: Send + Sync, const MOST: usize> Forget for Remembered<Value, MOST> {
    fn forget(&self) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        kept.turn += 1;
        kept.answers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_read_before_a_write_is_not_kept() {
        let remembered = Remembered::<u32, 2>::default();
        let recall = async |asked, found| {
            let read = async { Ok(found) };
            remembered.recall(asked, read).await.unwrap()
        };
        assert_eq!(recall("a", None).await, None);
        assert_eq!(recall("a", Some(1)).await, Some(1));
        assert_eq!(recall("a", Some(2)).await, Some(1));
        let late = remembered.recall("b", async {
            remembered.forget();
            Ok(Some(3))
        });
        assert_eq!(late.await.unwrap(), Some(3));
        assert_eq!(recall("b", Some(4)).await, Some(4));
        assert_eq!(recall("a", Some(5)).await, Some(5));
    }

    #[tokio::test]
    async fn it_holds_no_more_than_it_may() {
        let remembered = Remembered::<u32, 2>::default();
        for (asked, value) in [("a", 1), ("b", 2), ("c", 3)] {
            let read = async { Ok(Some(value)) };
            remembered.recall(asked, read).await.unwrap();
        }
        assert_eq!(remembered.0.read().unwrap().answers.len(), 1);
    }
}
