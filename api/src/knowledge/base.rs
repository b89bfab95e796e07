//! The knowledge base: entries with their history in the database, and what of them is published in the reply store.
//!
//! A change is a draft until it is published. Publishing writes a *release*: first the database notes what it will be made of,
//! then the store writes it and switches to it, then the database notes that it is current. Whoever stops in between is found by
//! [`KnowledgeBase::settle`]: where the store has switched, the release is finished, otherwise it is given up, and its drafts are
//! drafts again. The database is the truth: a store that lost its content is filled again from it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use yingda_engine::{Engine, EngineError, KnowledgeEntry};

use crate::storage::{
    KnowledgeFilter, NewVersion, Release, ReleaseKind, ReleaseState, Storage, StorageError, Tx, Version, VersionState,
    now,
};

/// A release that was seen not to move for so long is given up by whoever looks next.
const STOPPED: Duration = Duration::from_secs(5);
/// One that says of itself that it has not moved for so long is given up at once: clocks are not that far apart.
const SURELY_STOPPED_MILLISECONDS: i64 = 60_000;
/// How often a release says that it moves.
const MOVES: Duration = Duration::from_millis(500);
/// How often a replica looks whether another one has published.
const LOOKS: Duration = Duration::from_millis(500);
/// Every how many looks it also sees to what somebody left open.
const SETTLES: u32 = 10;
/// How long a change of the knowledge may have to wait while what is out of use is removed.
const FORGETS: Duration = Duration::from_secs(2);
/// From so many changes on, if they are a quarter of all, everything is written anew.
const MANY_CHANGES: usize = 1_000;

/// Why something cannot be done with the knowledge.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// There is no such entry.
    #[error("there is no entry {0}")]
    NoEntry(String),
    /// There is no such release, or it was never current.
    #[error("there is no release {0} to go back to")]
    NoRelease(i64),
    /// Somebody else wrote the entry meanwhile.
    #[error("the entry {id} has version {found} now")]
    Changed {
        /// The entry.
        id: String,
        /// Its latest version.
        found: i64,
    },
    /// There is nothing to publish.
    #[error("there is no draft to publish")]
    NothingToPublish,
    /// Another release is being written.
    #[error("release {0} is being written; wait until it is done")]
    Busy(i64),
    /// The release took its time without a sign of life, and somebody else gave it up.
    #[error("release {0} was given up by another process because this one stood still; its drafts stay, publish again")]
    GivenUp(i64),
    /// The model or the store failed; what was served is served on.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What an import did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Imported {
    /// Entries that are new.
    pub added: usize,
    /// Entries that are not as they were.
    pub changed: usize,
    /// Entries that are as they were.
    pub unchanged: usize,
    /// Entries that are not in the file and go.
    pub removed: usize,
}

/// Entries with their history, and what of them is served. Clones share it.
#[derive(Clone)]
pub struct KnowledgeBase {
    engine: Engine,
    storage: Storage,
    /// The release that was last seen in the store.
    seen: Arc<AtomicI64>,
    /// The release that this process is writing; 0: none.
    own: Arc<AtomicI64>,
    /// A release that another process is writing, when it says to have moved last, and since when it has said so.
    others: Arc<Mutex<Option<(i64, i64, Instant)>>>,
}

/// Says that this process is writing a release, for as long as it lives.
struct Own(Arc<AtomicI64>, i64);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.compare_exchange(self.1, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl KnowledgeBase {
    /// Over an engine and a database.
    pub fn new(engine: Engine, storage: Storage) -> Self {
        Self { engine, storage, seen: Arc::default(), own: Arc::default(), others: Arc::default() }
    }

    /// Keeps an entry as a draft. `expected` is the latest version that the writer has seen, where they say so. Returns the
    /// number of the new version.
    ///
    /// # Errors
    ///
    /// When somebody else wrote it meanwhile, or the database fails.
    pub async fn save(
        &self,
        entry: &KnowledgeEntry,
        expected: Option<i64>,
        author: &str,
        note: &str,
    ) -> Result<i64, BaseError> {
        let mut tx = self.begin_change().await?;
        check_version(&mut tx, &entry.id, expected).await?;
        let number = tx.add_version(&version_of(entry), author, note, None).await?;
        tx.commit().await?;
        Ok(number)
    }

    /// Keeps it as a draft that an entry goes.
    ///
    /// # Errors
    ///
    /// When there is no such entry, somebody else wrote it meanwhile, or the database fails.
    pub async fn remove(&self, id: &str, expected: Option<i64>, author: &str, note: &str) -> Result<i64, BaseError> {
        let mut tx = self.begin_change().await?;
        let versions = check_version(&mut tx, id, expected).await?;
        if versions.iter().all(|version| version.body.is_none()) {
            return Err(BaseError::NoEntry(id.to_owned()));
        }
        let gone = NewVersion { entry_id: id.to_owned(), body: None, wordings: 0 };
        let number = tx.add_version(&gone, author, note, None).await?;
        tx.commit().await?;
        Ok(number)
    }

    /// Gives a draft up.
    ///
    /// # Errors
    ///
    /// When there is none, or the database fails.
    pub async fn discard(&self, id: &str) -> Result<(), BaseError> {
        let mut tx = self.begin_change().await?;
        if !tx.discard_draft(id).await? {
            return Err(BaseError::NoEntry(id.to_owned()));
        }
        Ok(tx.commit().await?)
    }

    /// The versions that count, entry by entry.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn list(&self, filter: &KnowledgeFilter) -> Result<Vec<Version>, BaseError> {
        Ok(self.storage.knowledge(filter).await?)
    }

    /// All versions of an entry, latest first.
    ///
    /// # Errors
    ///
    /// When there is no such entry, or the database fails.
    pub async fn history(&self, id: &str) -> Result<Vec<Version>, BaseError> {
        let versions = self.storage.knowledge_history(id).await?;
        if versions.is_empty() { Err(BaseError::NoEntry(id.to_owned())) } else { Ok(versions) }
    }

    /// Entries as they are served, or with `drafts` as they would be if all drafts were published; by id.
    ///
    /// # Errors
    ///
    /// When the database fails or holds an entry that this version cannot read.
    pub async fn entries(&self, drafts: bool) -> Result<Vec<KnowledgeEntry>, BaseError> {
        if !drafts {
            return self.storage.published_knowledge().await?.iter().map(|body| read(body)).collect();
        }
        let filter = KnowledgeFilter { limit: i64::MAX, ..KnowledgeFilter::default() };
        let versions = self.storage.knowledge(&filter).await?;
        let latest = versions.chunk_by(|a, b| a.entry_id == b.entry_id).filter_map(|versions| {
            let (published, draft) = split(versions);
            draft.or(published)?.body.as_deref()
        });
        latest.map(read).collect()
    }

    /// Keeps the entries of a file as drafts, where they are not what is there already; with `replace`, what the file does not
    /// have goes. With `dry_run` nothing is kept.
    ///
    /// # Errors
    ///
    /// When the database fails; then nothing is kept.
    pub async fn import(
        &self,
        entries: &[KnowledgeEntry],
        replace: bool,
        dry_run: bool,
        author: &str,
        note: &str,
    ) -> Result<Imported, BaseError> {
        let mut tx = self.begin_change().await?;
        let mut there: BTreeMap<String, String> = tx.published().await?.into_iter().collect();
        for version in tx.upcoming().await? {
            match version.body {
                Some(body) => there.insert(version.entry_id, body),
                None => there.remove(&version.entry_id),
            };
        }
        let (changes, imported) = changes(entries, there, replace);
        if dry_run {
            return Ok(imported);
        }
        tx.add_versions(&changes, author, note, None).await?;
        tx.commit().await?;
        Ok(imported)
    }

    /// Begins to publish all drafts, or those of some entries, as the next release; [`KnowledgeBase::finish`] finishes it.
    ///
    /// # Errors
    ///
    /// When there is no draft, another release is being written, or the database fails.
    pub async fn begin_publish(&self, ids: Option<&[String]>, author: &str, note: &str) -> Result<Begun, BaseError> {
        let (mut tx, number) = self.begin(ReleaseKind::Publish, None, author, note).await?;
        let drafts = tx.take_drafts(ids, number).await?;
        if drafts == 0 {
            return Err(BaseError::NothingToPublish);
        }
        self.commit(tx, number, usize::try_from(drafts).unwrap_or(usize::MAX), false).await
    }

    /// Begins to bring an earlier release back, as the next one. Drafts stay drafts.
    ///
    /// # Errors
    ///
    /// When there was no such release, nothing has changed since, another release is being written, or the database fails.
    pub async fn begin_rollback(&self, restores: i64, author: &str, note: &str) -> Result<Begun, BaseError> {
        let release = self.storage.release(restores).await?;
        let published = |release: &Release| release.state == ReleaseState::Published;
        if !release.as_ref().is_some_and(published) {
            return Err(BaseError::NoRelease(restores));
        }
        let (mut tx, number) = self.begin(ReleaseKind::Rollback, Some(restores), author, note).await?;
        let versions = tx.versions_of_release(restores, number).await?;
        if versions.is_empty() {
            return Err(BaseError::NothingToPublish);
        }
        tx.add_versions(&versions, author, note, Some(number)).await?;
        self.commit(tx, number, versions.len(), false).await
    }

    /// Begins to make `entries` the whole knowledge, as the next release.
    ///
    /// # Errors
    ///
    /// When another release is being written, or the database fails.
    pub async fn begin_replace(
        &self,
        entries: &[KnowledgeEntry],
        author: &str,
        note: &str,
    ) -> Result<Begun, BaseError> {
        let (mut tx, number) = self.begin(ReleaseKind::Import, None, author, note).await?;
        let there = tx.published().await?.into_iter().collect();
        let (versions, _) = changes(entries, there, true);
        tx.add_versions(&versions, author, note, Some(number)).await?;
        self.commit(tx, number, versions.len(), true).await
    }

    /// Begins to change something, when nobody else does.
    async fn begin_change(&self) -> Result<Tx, BaseError> {
        let mut tx = self.storage.begin().await?;
        tx.lock_knowledge().await?;
        Ok(tx)
    }

    /// Begins a release, where no other is being written; one whose writer has stopped is settled first.
    async fn begin(
        &self,
        kind: ReleaseKind,
        restores: Option<i64>,
        author: &str,
        note: &str,
    ) -> Result<(Tx, i64), BaseError> {
        self.settle().await?;
        if let Some(writing) = self.storage.release_in_writing().await? {
            return Err(BaseError::Busy(writing.release));
        }
        let contents = self.engine.contents().await?;
        let at_least = contents.map_or(0, |contents| contents.release);
        let mut tx = self.begin_change().await?;
        match tx.begin_release(kind, restores, at_least, author, note).await {
            Ok(number) => Ok((tx, number)),
            // Somebody else was faster: the index on what is being written refuses a second one.
            Err(error) => match self.storage.release_in_writing().await? {
                Some(writing) => Err(BaseError::Busy(writing.release)),
                None => Err(error.into()),
            },
        }
    }

    async fn commit(&self, mut tx: Tx, release: i64, changes: usize, whole: bool) -> Result<Begun, BaseError> {
        let (entries, wordings) = tx.count_release(release, changes).await?;
        let counts = (usize::try_from(entries).unwrap_or(0), usize::try_from(wordings).unwrap_or(0));
        // Only where the store has what the database thinks it has can a change be put on top.
        let stored = self.engine.contents().await?.map(|contents| contents.release);
        let current = self.storage.current_release().await?.map(|release| release.release);
        let many = changes > MANY_CHANGES && changes > counts.0 / 4;
        tx.commit().await?;
        Ok(Begun { release, changes, counts, whole: whole || many || stored.is_none() || stored != current })
    }

    /// Writes a release that was begun and makes it the current one; `progress(done, all)` counts entries.
    ///
    /// # Errors
    ///
    /// When the model, the store or the database fails. Where the store has not switched, the release is given up; where it cannot be
    /// asked whether it has, that is settled later.
    pub async fn finish(
        &self,
        begun: Begun,
        progress: impl Fn(usize, usize) + Send + Sync,
    ) -> Result<Release, BaseError> {
        let number = begun.release;
        self.own.store(number, Ordering::Relaxed);
        let _own = Own(Arc::clone(&self.own), number);
        let done = Arc::new(AtomicUsize::new(0));
        // Stops when this is dropped.
        let mut moving = tokio::task::JoinSet::new();
        moving.spawn({
            let (storage, done) = (self.storage.clone(), Arc::clone(&done));
            async move {
                let mut ticks = tokio::time::interval(MOVES);
                loop {
                    ticks.tick().await;
                    let done = done.load(Ordering::Relaxed) as i64;
                    if let Err(error) = storage.release_moved(number, done).await {
                        tracing::warn!(%error, release = number, "a release cannot say how far it has come");
                    }
                }
            }
        });
        let written = self
            .write(&begun, |at, all| {
                // All is written for some changes, where it is written anew.
                let share = if begun.whole { begun.changes * at / all.max(1) } else { at };
                done.store(share, Ordering::Relaxed);
                progress(at, all);
            })
            .await;
        // Until it has ended, it may hold the only connection that writes.
        moving.shutdown().await;
        if let Err(error) = written {
            // What failed may have come after the switch.
            let stored = self.engine.contents().await?.map_or(0, |contents| contents.release);
            if stored != number {
                let mut tx = self.begin_change().await?;
                tx.fail_release(number, None, &error.to_string()).await?;
                tx.commit().await?;
                return Err(error);
            }
            tracing::error!(%error, release = number, "a release is served, and something failed after the switch to it");
        }
        let mut tx = self.begin_change().await?;
        let ended = tx.end_release(number).await?;
        tx.commit().await?;
        self.seen.store(number, Ordering::Relaxed);
        match self.storage.release(number).await? {
            Some(release) if release.state == ReleaseState::Published => Ok(release),
            // This process stood still for so long that another one gave the release up.
            _ => Err(if ended { BaseError::NoRelease(number) } else { BaseError::GivenUp(number) }),
        }
    }

    async fn write(&self, begun: &Begun, progress: impl Fn(usize, usize) + Send + Sync) -> Result<(), BaseError> {
        let versions = self.storage.versions_in_writing(begun.release).await?;
        if begun.whole {
            let mut entries: BTreeMap<String, String> = BTreeMap::new();
            let published = self.storage.published_knowledge().await?;
            for body in published {
                entries.insert(read(&body)?.id, body);
            }
            for version in versions {
                match version.body {
                    Some(body) => entries.insert(version.entry_id, body),
                    None => entries.remove(&version.entry_id),
                };
            }
            let entries = entries.values().map(|body| read(body)).collect::<Result<Vec<_>, _>>()?;
            self.engine.index(entries, begun.release, progress).await?;
            return Ok(());
        }
        let removed: Vec<String> =
            versions.iter().filter(|version| version.body.is_none()).map(|version| version.entry_id.clone()).collect();
        let changed = versions.iter().filter_map(|version| version.body.as_deref()).map(read);
        let changed = changed.collect::<Result<Vec<_>, _>>()?;
        Ok(self.engine.publish(begun.release, &changed, &removed, begun.counts, progress).await?)
    }

    /// Removes what the last releases put out of use, where that slows searches down and nobody can need it any more.
    ///
    /// # Errors
    ///
    /// When the database or the store fails, or the store is slow: it is tried again later.
    async fn forget(&self) -> Result<(), BaseError> {
        if !self.engine.may_forget() {
            return Ok(());
        }
        // A store that is away must not hold up whoever writes to the database.
        self.engine.refresh().await?;
        // Nobody publishes meanwhile: it changes what the store says of itself, as a release does.
        let _held = self.begin_change().await?;
        if self.storage.release_in_writing().await?.is_some() {
            return Ok(());
        }
        match tokio::time::timeout(FORGETS, self.engine.forget()).await {
            Ok(done) => Ok(done?),
            Err(_) => {
                tracing::warn!("the reply store is slow; what is out of use stays in it for now");
                Ok(())
            }
        }
    }

    /// Puts database and store in step after a process stopped while it published, or one of the two lost its content.
    ///
    /// # Errors
    ///
    /// When either fails.
    pub async fn settle(&self) -> Result<(), BaseError> {
        let Some(writing) = self.storage.release_in_writing().await? else { return Ok(()) };
        if !self.has_stopped(&writing) {
            return Ok(());
        }
        let stored = self.engine.contents().await?.map_or(0, |contents| contents.release);
        let mut tx = self.begin_change().await?;
        if stored == writing.release {
            tracing::info!(release = stored, "a release that was written and not noted as published is noted now");
            tx.end_release(writing.release).await?;
        } else {
            tracing::warn!(release = writing.release, "a release whose writer stopped is given up; its drafts stay");
            let problem = "its writer stopped before it was done";
            tx.fail_release(writing.release, Some(writing.updated_at), problem).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Whether nobody is writing a release any more. Another machine's clock may be another one, so what counts is how long it has
    /// been seen not to move.
    fn has_stopped(&self, writing: &Release) -> bool {
        if self.own.load(Ordering::Relaxed) == writing.release {
            return false;
        }
        let mut seen = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match *seen {
            Some((release, moved_at, since)) if (release, moved_at) == (writing.release, writing.updated_at) => since,
            _ => Instant::now(),
        };
        *seen = Some((writing.release, writing.updated_at, since));
        since.elapsed() >= STOPPED || now() - writing.updated_at >= SURELY_STOPPED_MILLISECONDS
    }

    /// Fills a store that does not hold the current release again, and a database that knows nothing from the store.
    ///
    /// # Errors
    ///
    /// When either fails.
    pub async fn reconcile(&self) -> Result<(), BaseError> {
        self.settle().await?;
        let stored = self.engine.contents().await?.map_or(0, |contents| contents.release);
        let current = self.storage.current_release().await?;
        match current {
            Some(current) if stored != current.release && self.storage.release_in_writing().await?.is_none() => {
                tracing::warn!(
                    stored,
                    current = current.release,
                    "the reply store does not hold the current release; filling it again"
                );
                self.refill("the reply store did not hold the current release").await?;
            }
            None if stored > 0 && self.storage.release_in_writing().await?.is_none() => {
                tracing::info!(stored, "the database knows nothing of what the reply store holds; noting it");
                let entries = self.engine.entries().await?;
                let mut tx = self.begin_change().await?;
                let number = tx
                    .begin_release(ReleaseKind::Import, None, stored - 1, "yingda", "what the reply store held")
                    .await?;
                let versions: Vec<NewVersion> = entries.iter().map(version_of).collect();
                tx.add_versions(&versions, "yingda", "", Some(number)).await?;
                tx.count_release(number, entries.len()).await?;
                tx.end_release(number).await?;
                tx.commit().await?;
            }
            _ => {}
        }
        self.seen.store(self.engine.refresh().await?, Ordering::Relaxed);
        Ok(())
    }

    /// Writes what is published anew, for another model for instance, as a release of its own: nobody publishes meanwhile.
    ///
    /// # Errors
    ///
    /// As [`KnowledgeBase::begin_publish`].
    pub async fn refill(&self, note: &str) -> Result<Release, BaseError> {
        let begun = self.begin_refill(note).await?;
        self.finish(begun, |_, _| {}).await
    }

    /// Begins what [`KnowledgeBase::refill`] does.
    ///
    /// # Errors
    ///
    /// As [`KnowledgeBase::begin_publish`].
    pub async fn begin_refill(&self, note: &str) -> Result<Begun, BaseError> {
        let (tx, number) = self.begin(ReleaseKind::Import, None, "yingda", note).await?;
        self.commit(tx, number, 0, true).await
    }

    /// Whether the store has been at another release than the database says, both now and at the last look.
    async fn astray(&self, before: &mut Option<(i64, i64)>) -> Result<bool, BaseError> {
        // What is there now. Content of another model is an error: it waits for whoever loads that model.
        let stored = self.engine.refresh().await?;
        let current = self.storage.current_release().await?.map_or(0, |release| release.release);
        let seen = Some((stored, current)).filter(|(stored, current)| stored != current);
        let writing = self.storage.release_in_writing().await?.is_some();
        let last = std::mem::replace(before, seen);
        Ok(!writing && seen.is_some() && seen == last)
    }

    /// Follows what other processes publish and sees to what somebody left open, for ever. Problems are logged when they begin and
    /// when they end.
    pub async fn follow(&self) {
        let mut astray = None;
        let mut looks = 0;
        let mut ticks = tokio::time::interval(LOOKS);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            looks += 1;
            if looks % SETTLES == 0 {
                let settled = async {
                    self.settle().await?;
                    self.forget().await?;
                    if self.astray(&mut astray).await? { self.reconcile().await } else { Ok(()) }
                };
                // Where the store is away, it is said below.
                if let Err(error @ BaseError::Storage(_)) = settled.await {
                    tracing::error!(%error, "what somebody left open cannot be seen to");
                }
                if let Err(error) = self.engine.tidy().await {
                    tracing::warn!(%error, "what does not count any more stays in the reply store for now");
                }
            }
            match self.engine.refresh().await {
                Ok(release) => {
                    if failing {
                        tracing::info!("the reply store answers again");
                    }
                    failing = false;
                    let before = self.seen.swap(release, Ordering::Relaxed);
                    if before != release {
                        tracing::info!(before, release, "another release of the knowledge is served");
                    }
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(%error, "the reply store cannot be looked at; trying again until it can");
                    }
                    failing = true;
                }
            }
        }
    }
}

/// A release that was begun. Only [`KnowledgeBase::finish`] makes something of it.
#[derive(Debug)]
#[must_use = "a release that is not finished is given up by the next one"]
pub struct Begun {
    /// Its number.
    pub release: i64,
    /// Entries that it changes.
    changes: usize,
    /// Entries and wordings in it.
    counts: (usize, usize),
    /// Whether all of it is to be written anew.
    whole: bool,
}

async fn check_version(tx: &mut Tx, id: &str, expected: Option<i64>) -> Result<Vec<Version>, BaseError> {
    let versions = tx.versions(id).await?;
    let found = versions.iter().map(|version| version.version).max().unwrap_or(0);
    // Whoever makes a removed entry again need not know that there was one.
    let gone = versions.iter().all(|version| version.body.is_none());
    match expected {
        Some(expected) if expected != found && !(expected == 0 && gone) => {
            Err(BaseError::Changed { id: id.to_owned(), found })
        }
        _ => Ok(versions),
    }
}

/// What must be written to make `there` hold `entries`; with `replace` nothing else.
fn changes(
    entries: &[KnowledgeEntry],
    mut there: BTreeMap<String, String>,
    replace: bool,
) -> (Vec<NewVersion>, Imported) {
    let mut imported = Imported::default();
    let mut versions = Vec::new();
    for entry in entries {
        let version = version_of(entry);
        match there.remove(&entry.id) {
            Some(body) if read(&body).is_ok_and(|there| there == *entry) => {
                imported.unchanged += 1;
                continue;
            }
            Some(_) => imported.changed += 1,
            None => imported.added += 1,
        }
        versions.push(version);
    }
    if replace {
        imported.removed = there.len();
        versions.extend(there.into_keys().map(|entry_id| NewVersion { entry_id, body: None, wordings: 0 }));
    }
    (versions, imported)
}

fn version_of(entry: &KnowledgeEntry) -> NewVersion {
    NewVersion {
        entry_id: entry.id.clone(),
        wordings: entry.wordings().len() as i64,
        body: Some(serde_json::to_string(entry).expect("plain data is always JSON")),
    }
}

/// The entry of a version.
pub(crate) fn read(body: &str) -> Result<KnowledgeEntry, BaseError> {
    serde_json::from_str(body).map_err(|error| {
        BaseError::Storage(StorageError::Unknown { what: "an entry of the knowledge", value: error.to_string() })
    })
}

/// Which of the versions of one entry is served, and which would be.
pub(crate) fn split(versions: &[Version]) -> (Option<&Version>, Option<&Version>) {
    let published = versions.iter().find(|version| version.state == VersionState::Published && version.body.is_some());
    let of = |state: VersionState| versions.iter().find(move |version| version.state == state);
    let draft = of(VersionState::Draft).or_else(|| of(VersionState::Writing));
    (published, draft)
}
