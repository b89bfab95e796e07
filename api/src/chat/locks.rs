//! One message of a session at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// One lock per session that has a message in work.
#[derive(Clone, Default)]
pub(super) struct SessionLocks(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

pub(super) struct SessionGuard {
    locks: SessionLocks,
    id: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl SessionLocks {
    /// Waits until all earlier messages of the session are done; first come, first served.
    pub(super) async fn lock(&self, id: &str) -> SessionGuard {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(id.to_owned()).or_default())
        };
        SessionGuard { locks: self.clone(), id: id.to_owned(), guard: Some(lock.lock_owned().await) }
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        drop(self.guard.take());
        let mut locks = self.locks.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits holds a second reference; nobody can get one while the map is locked.
        if locks.get(&self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_lock_is_given_in_turn_and_forgotten_after() {
        let locks = SessionLocks::default();
        let first = locks.lock("s").await;
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { drop(locks.lock("s").await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        assert!(locks.0.lock().unwrap().is_empty());
    }
}
