//! Filling the reply store, and following what others fill it with.

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use super::Engine;
use crate::{
    EngineError, KnowledgeEntry, ModelInfo,
    store::{Change, Contents, KEPT, ReplyStore, StoredReply, check_model, is_same_model},
    terms::Terms,
};

impl Engine {
    /// Replaces the whole store by `entries`, as a release of the knowledge; `progress(done, all)` counts entries. Returns how many
    /// wordings were written.
    ///
    /// # Errors
    /// When an entry cannot be indexed, or the model or the store fails; the old content is then still served.
    pub async fn index(
        &self,
        entries: Vec<KnowledgeEntry>,
        release: i64,
        progress: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<usize, EngineError> {
        check_entries(&entries)?;
        let serving = self.serving();
        let wordings: Vec<&str> = entries.iter().flat_map(KnowledgeEntry::wordings).collect();
        let contract = serving.folder.tokenizer.contract();
        let terms: usize = wordings.iter().map(|wording| Terms::count(&contract.model_text(wording))).sum();
        let average = terms as f32 / wordings.len().max(1) as f32;
        let replies = self.stored(&entries, average, progress).await?;
        let written = replies.len();
        let ModelInfo { model_id, dimension, .. } = &serving.info;
        // What was tuned for this model goes on being used, until it is tuned again.
        let old = self.0.store.contents().await?.filter(|old| is_same_model(&old.model_id, model_id));
        let contents = Contents {
            tuning: old.and_then(|old| old.tuning),
            ..Contents::new(model_id, *dimension, release, &replies, average)
        };
        self.0.store.replace(contents.clone(), replies).await?;
        self.note(Some(contents));
        Ok(written)
    }

    /// Makes the next release of the knowledge out of the one that is served: `changed` takes the place of what the store has of
    /// these entries, `removed` are gone. `entries` and `wordings` count the whole new release. Searches see either release and
    /// never a mixture. `progress(done, all)` counts changed entries.
    ///
    /// # Errors
    /// When an entry cannot be indexed, the model or the store fails, or the store holds nothing to go on from; the old release is
    /// then still served.
    pub async fn publish(
        &self,
        release: i64,
        changed: &[KnowledgeEntry],
        removed: &[String],
        (entries, wordings): (usize, usize),
        progress: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<(), EngineError> {
        check_entries(changed)?;
        let model_id = self.serving().info.model_id.clone();
        let contents = self.0.store.contents().await?;
        check_model(&self.0.store, contents.as_ref(), &model_id)?;
        let average = contents.map_or(0.0, |contents| contents.average_terms);
        let replies = self.stored(changed, average, progress).await?;
        let retired = changed.iter().map(|entry| &entry.id).chain(removed).cloned().collect();
        self.0.store.apply(Change { release, replies, retired, entries, wordings }).await?;
        self.note(self.0.store.contents().await?);
        Ok(())
    }

    /// The wordings of entries as the store keeps them.
    async fn stored(
        &self,
        entries: &[KnowledgeEntry],
        average_terms: f32,
        progress: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<Vec<StoredReply>, EngineError> {
        let serving = self.serving();
        let contract = serving.folder.tokenizer.contract();
        let all = entries.len();
        let wordings: Vec<(usize, &str)> = entries
            .iter()
            .enumerate()
            .flat_map(|(at, entry)| entry.wordings().into_iter().map(move |wording| (at, wording)))
            .collect();
        let mut replies = Vec::with_capacity(wordings.len());
        // Never more at once than may wait.
        let at_once = self.0.config.worker.queue.min(self.0.config.worker.batch_texts);
        for chunk in wordings.chunks(at_once) {
            progress(chunk[0].0, all);
            let texts: Vec<String> = chunk.iter().map(|(_, wording)| (*wording).to_owned()).collect();
            let understood = loop {
                match self.understand(texts.clone()).await {
                    // Customers come first.
                    Err(EngineError::Busy { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
                    understood => break understood?,
                }
            };
            for (understanding, (at, wording)) in understood.into_iter().zip(chunk) {
                replies.push(StoredReply {
                    entry: entries[*at].clone(),
                    wording: (*wording).to_owned(),
                    embedding: understanding.embedding,
                    terms: Terms::of_wording(&contract.model_text(wording), average_terms),
                });
            }
        }
        progress(all, all);
        Ok(replies)
    }

    /// Removes from the store what no search looks at any more.
    ///
    /// # Errors
    /// When the store fails; nothing is lost then.
    pub async fn tidy(&self) -> Result<(), EngineError> {
        self.0.store.tidy().await
    }

    /// Whether [`Engine::forget`] would remove something now, without waiting.
    pub fn may_forget(&self) -> bool {
        self.0.store.may_forget()
    }

    /// Removes what the last releases put out of use, once nobody can still be searching the release before: see
    /// [`ReplyStore::forget`].
    ///
    /// # Errors
    /// When the store fails; nothing is lost then.
    pub async fn forget(&self) -> Result<(), EngineError> {
        self.0.store.forget(KEPT).await
    }

    /// All entries of the release that is served, by id.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn entries(&self) -> Result<Vec<KnowledgeEntry>, EngineError> {
        self.0.store.entries().await
    }

    /// What the store holds now; `None` while it is empty.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn contents(&self) -> Result<Option<Contents>, EngineError> {
        self.0.store.contents().await
    }

    /// Looks again what the store holds, after another process changed it or it did not answer. Returns the release that is
    /// served.
    ///
    /// # Errors
    /// When the store fails, or its new content is of another model: then the old is served on, where it still can be.
    pub async fn refresh(&self) -> Result<i64, EngineError> {
        let contents = self.0.store.refresh(&self.serving().info.model_id).await?;
        self.0.reachable.store(true, Ordering::Relaxed);
        let release = contents.as_ref().map_or(0, |contents| contents.release);
        self.note(contents);
        Ok(release)
    }
}

fn check_entries(entries: &[KnowledgeEntry]) -> Result<(), EngineError> {
    let mut known = HashSet::new();
    for entry in entries {
        let problem = if entry.id.trim().is_empty() {
            "it has no id"
        } else if !known.insert(&entry.id) {
            "its id stands twice; give every entry its own"
        } else if entry.question.trim().is_empty() {
            "its question is empty"
        } else if entry.answer.trim().is_empty() {
            "its answer is empty"
        } else {
            continue;
        };
        return Err(EngineError::Knowledge { id: entry.id.clone(), message: problem.into() });
    }
    Ok(())
}
