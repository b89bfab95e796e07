//! Live sessions: who follows which session over a socket, and what both sides have received and read. No HTTP here.
//!
//! A follower is told only *that* a session changed, and reads by turn numbers what it has not seen. So nothing is lost, told
//! twice or out of order, however slow a follower is and whichever replica wrote it: a change by this process is told when its
//! transaction is committed, a change by another one is found by looking, four times a second.

mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, oneshot};

pub use standing::{Side, Standing};

use crate::storage::{SessionState, Storage, StorageError, now};

/// How often is looked for what other replicas did, and written what is not written yet.
const LOOK: Duration = Duration::from_millis(250);
/// Looks in a second, and between two signs of life of those who follow.
const EVERY_SECOND: u32 = 4;
const SEEN_EVERY: u32 = 60;
/// Longest wait of a new follower for the first reading; what comes later is told when it comes.
const FIRST_READING: Duration = Duration::from_secs(5);

/// What a follower should look at.
#[derive(Debug, Default)]
pub struct News {
    /// Sessions that changed.
    pub sessions: BTreeSet<String>,
    /// Whether some ticket changed.
    pub tickets: bool,
    /// Whether the service stops.
    pub stopping: bool,
}

impl News {
    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && !self.tickets && !self.stopping
    }
}

/// Where one follower finds what is new. It never grows beyond the sessions that are followed.
#[derive(Debug, Default)]
pub struct Inbox {
    news: Mutex<News>,
    arrived: Notify,
}

impl Inbox {
    /// Waits for something new, and takes it. Nothing is lost when the wait is given up.
    pub async fn news(&self) -> News {
        loop {
            let news = std::mem::take(&mut *locked(&self.news));
            if !news.is_empty() {
                return news;
            }
            self.arrived.notified().await;
        }
    }

    fn put(&self, change: impl FnOnce(&mut News)) {
        change(&mut locked(&self.news));
        self.arrived.notify_one();
    }
}

/// How a followed session stands.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The session; `None` before its first message.
    pub state: Option<SessionState>,
    /// What the customer has received and read.
    pub customer: Standing,
    /// What the agents have received and read.
    pub agent: Standing,
}

#[derive(Default)]
struct Followed {
    state: Option<SessionState>,
    standings: BTreeMap<Side, Standing>,
    unsaved: BTreeSet<Side>,
    followers: Vec<(Side, Arc<Inbox>)>,
}

impl Followed {
    fn standing(&self, side: Side) -> Standing {
        self.standings.get(&side).copied().unwrap_or_default()
    }

    fn tell(&self, session_id: &str) {
        for (_, inbox) in &self.followers {
            inbox.put(|news| {
                news.sessions.insert(session_id.to_owned());
            });
        }
    }
}

#[derive(Default)]
struct Followers {
    sessions: BTreeMap<String, Followed>,
    /// Those who want to know of tickets.
    desks: Vec<Arc<Inbox>>,
    everybody: Vec<Arc<Inbox>>,
    /// Sessions that are to be read again.
    unread: BTreeSet<String>,
    /// Those who wait until what is unread now has been read.
    waiting: Vec<oneshot::Sender<()>>,
    stopping: bool,
    /// When it was last looked who is there and types, in milliseconds since 1970.
    looked_at: i64,
}

/// All who follow something on this replica. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    storage: Storage,
    followers: Arc<Mutex<Followers>>,
    /// Something must be read at once.
    wanted: Arc<Notify>,
}

impl Live {
    /// Nobody follows anything yet. [`Live::run`] must run for followers to be told.
    pub fn new(storage: Storage) -> Self {
        Self { storage, followers: Arc::default(), wanted: Arc::default() }
    }

    /// A new follower. `side`: agents are told of tickets too.
    pub fn join(&self, side: Side) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        let mut followers = locked(&self.followers);
        if side == Side::Agent {
            followers.desks.push(Arc::clone(&inbox));
        }
        followers.everybody.push(Arc::clone(&inbox));
        if followers.stopping {
            inbox.put(|news| news.stopping = true);
        }
        inbox
    }

    /// Forgets a follower, who follows these sessions.
    pub fn leave<'a>(&self, inbox: &Arc<Inbox>, sessions: impl IntoIterator<Item = &'a String>) {
        let mut followers = locked(&self.followers);
        followers.desks.retain(|other| !Arc::ptr_eq(other, inbox));
        followers.everybody.retain(|other| !Arc::ptr_eq(other, inbox));
        for session_id in sessions {
            stop_following(&mut followers, session_id, inbox);
        }
    }

    /// Follows a session; the follower is told of it as soon as it has been read. It need not exist yet.
    pub async fn follow(&self, session_id: &str, side: Side, inbox: &Arc<Inbox>) {
        let (waiting, read) = oneshot::channel();
        {
            let mut followers = locked(&self.followers);
            let followed = followers.sessions.entry(session_id.to_owned()).or_default();
            if !followed.followers.iter().any(|(_, other)| Arc::ptr_eq(other, inbox)) {
                followed.followers.push((side, Arc::clone(inbox)));
            }
            // Read after it was put on the list: what is written from now on is told.
            followers.unread.insert(session_id.to_owned());
            followers.waiting.push(waiting);
        }
        self.stand(session_id, side, |standing, now| standing.seen_at = now);
        self.wanted.notify_one();
        // What cannot be read now is told when it can.
        let _ = tokio::time::timeout(FIRST_READING, read).await;
        inbox.put(|news| {
            news.sessions.insert(session_id.to_owned());
        });
    }

    /// Follows a session no longer.
    pub fn unfollow(&self, session_id: &str, inbox: &Arc<Inbox>) {
        stop_following(&mut locked(&self.followers), session_id, inbox);
    }

    /// How a followed session stands.
    pub fn snapshot(&self, session_id: &str) -> Option<Snapshot> {
        let followers = locked(&self.followers);
        let followed = followers.sessions.get(session_id)?;
        Some(Snapshot {
            state: followed.state.clone(),
            customer: followed.standing(Side::Customer),
            agent: followed.standing(Side::Agent),
        })
    }

    /// One side is typing in a session that is followed.
    pub fn typing(&self, session_id: &str, side: Side) {
        self.stand(session_id, side, |standing, now| standing.typing_at = now);
    }

    /// One side has received all turns up to `seq`, or read them.
    pub fn received(&self, session_id: &str, side: Side, seq: i64, read: bool) {
        let last = self.snapshot(session_id).and_then(|snapshot| snapshot.state).map_or(0, |state| state.last_seq);
        let seq = seq.min(last);
        self.stand(session_id, side, |standing, _| {
            standing.received_seq = standing.received_seq.max(seq);
            if read {
                standing.read_seq = standing.read_seq.max(seq);
            }
        });
    }

    fn stand(&self, session_id: &str, side: Side, change: impl FnOnce(&mut Standing, i64)) {
        let mut followers = locked(&self.followers);
        let Some(followed) = followers.sessions.get_mut(session_id) else { return };
        let mut standing = followed.standing(side);
        change(&mut standing, now());
        if standing != followed.standing(side) {
            followed.standings.insert(side, standing);
            followed.unsaved.insert(side);
            followed.tell(session_id);
        }
    }

    /// Tells everybody that the service stops.
    pub fn stop(&self) {
        let mut followers = locked(&self.followers);
        followers.stopping = true;
        for inbox in &followers.everybody {
            inbox.put(|news| news.stopping = true);
        }
    }

    /// Tells followers what is new, for as long as it is polled. What fails is told once and tried again.
    pub async fn run(&self) {
        tokio::select! {
            () = self.follow_changes() => {}
            () = self.keep_looking() => {}
        }
    }

    /// Tells at once what this process changes, and four times a second what others do.
    async fn follow_changes(&self) {
        let mut changes = self.storage.changes();
        let mut looks = interval(LOOK);
        let mut failing = false;
        loop {
            tokio::select! {
                changed = changes.recv() => match changed {
                    Ok(id) => {
                        let more = iter::from_fn(|| changes.try_recv().ok());
                        locked(&self.followers).unread.extend(iter::once(id).chain(more));
                    }
                    Err(RecvError::Lagged(_)) => self.distrust_all(),
                    Err(RecvError::Closed) => return,
                },
                () = self.wanted.notified() => {}
                // What could not be read is tried again, too.
                _ = looks.tick() => if self.storage.is_shared() {
                    self.distrust_all();
                },
            }
            report("followers of sessions are not told what is new", &self.refresh().await, &mut failing);
        }
    }

    /// Writes down how far everybody is, and looks for what time alone changes. Beside [`Live::follow_changes`]: it may have to wait
    /// for many others who write.
    async fn keep_looking(&self) {
        let mut looks = interval(LOOK);
        let (mut count, mut mark, mut failing) = (0_u32, (0, 0), false);
        loop {
            looks.tick().await;
            count = count.wrapping_add(1);
            report("who follows sessions is not written down", &self.look(count, &mut mark).await, &mut failing);
        }
    }

    async fn look(&self, count: u32, mark: &mut (i64, i64)) -> Result<(), StorageError> {
        if count.is_multiple_of(SEEN_EVERY) {
            self.mark_seen();
        }
        self.save().await?;
        if count.is_multiple_of(EVERY_SECOND) {
            self.tell_who_stopped();
        }
        if count.is_multiple_of(EVERY_SECOND) && !locked(&self.followers).desks.is_empty() {
            let found = self.storage.ticket_mark().await?;
            if found != *mark {
                *mark = found;
                locked(&self.followers).desks.iter().for_each(|inbox| inbox.put(|news| news.tickets = true));
            }
        }
        Ok(())
    }

    /// Every followed session is to be read again.
    fn distrust_all(&self) {
        let mut followers = locked(&self.followers);
        followers.unread = followers.sessions.keys().cloned().collect();
    }

    /// Reads how sessions stand that may have changed, all of them at once, and tells their followers where something did. One task
    /// alone does this: a crowd that comes at once costs it a reading or two, and what was read earlier never takes the place of what
    /// was read later.
    async fn refresh(&self) -> Result<(), StorageError> {
        // Whoever waits goes on when this is dropped, whether it could be read or not.
        let (ids, _waiting) = {
            let mut followers = locked(&self.followers);
            let unread = std::mem::take(&mut followers.unread);
            let ids: Vec<String> = unread.into_iter().filter(|id| followers.sessions.contains_key(id)).collect();
            (ids, std::mem::take(&mut followers.waiting))
        };
        if ids.is_empty() {
            return Ok(());
        }
        let read = async { Ok((self.storage.session_states(&ids).await?, self.storage.standings(&ids).await?)) };
        let read = read.await;
        let mut followers = locked(&self.followers);
        let (states, standings) = match read {
            Ok(read) => read,
            Err(error) => {
                followers.unread.extend(ids);
                return Err(error);
            }
        };
        let mut changed: BTreeSet<String> = BTreeSet::new();
        for (id, side, found) in standings {
            let Some(followed) = followers.sessions.get_mut(&id) else { continue };
            let joined = followed.standing(side).joined(found);
            if joined != followed.standing(side) {
                followed.standings.insert(side, joined);
                changed.insert(id);
            }
        }
        for (id, state) in states {
            let Some(followed) = followers.sessions.get_mut(&id) else { continue };
            if followed.state.as_ref() != Some(&state) {
                followed.state = Some(state);
                changed.insert(id);
            }
        }
        for id in changed {
            if let Some(followed) = followers.sessions.get(&id) {
                followed.tell(&id);
            }
        }
        Ok(())
    }

    /// Time alone ends typing, and being there.
    fn tell_who_stopped(&self) {
        let at = now();
        let mut followers = locked(&self.followers);
        let before = std::mem::replace(&mut followers.looked_at, at);
        let stands = |standing: &Standing, at| (standing.is_there(at), standing.is_typing(at));
        for (id, followed) in &followers.sessions {
            if followed.standings.values().any(|standing| stands(standing, before) != stands(standing, at)) {
                followed.tell(id);
            }
        }
    }

    fn mark_seen(&self) {
        let at = now();
        let mut followers = locked(&self.followers);
        for followed in followers.sessions.values_mut() {
            let sides: BTreeSet<Side> = followed.followers.iter().map(|(side, _)| *side).collect();
            for side in sides {
                let standing = Standing { seen_at: at, ..followed.standing(side) };
                followed.standings.insert(side, standing);
                followed.unsaved.insert(side);
            }
        }
    }

    /// Writes what is not written yet, and forgets sessions that nobody follows.
    async fn save(&self) -> Result<(), StorageError> {
        let unsaved: BTreeMap<(String, Side), Standing> = {
            let mut followers = locked(&self.followers);
            let mut unsaved = BTreeMap::new();
            for (id, followed) in &mut followers.sessions {
                // A session is written down with its first message; until then there is nothing to receive.
                if followed.state.is_some() {
                    for side in std::mem::take(&mut followed.unsaved) {
                        unsaved.insert((id.clone(), side), followed.standing(side));
                    }
                }
            }
            followers.sessions.retain(|_, followed| !followed.followers.is_empty());
            unsaved
        };
        if unsaved.is_empty() {
            return Ok(());
        }
        let kept = self.storage.keep_standings(&unsaved).await;
        if kept.is_err() {
            let mut followers = locked(&self.followers);
            for (id, side) in unsaved.into_keys() {
                if let Some(followed) = followers.sessions.get_mut(&id) {
                    followed.unsaved.insert(side);
                }
            }
        }
        kept
    }
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// Says once that something fails.
fn report(consequence: &str, done: &Result<(), StorageError>, failing: &mut bool) {
    if let Err(error) = done
        && !*failing
    {
        tracing::warn!(%error, "{consequence} at the moment; trying again");
    }
    *failing = done.is_err();
}

fn stop_following(followers: &mut Followers, session_id: &str, inbox: &Arc<Inbox>) {
    let Some(followed) = followers.sessions.get_mut(session_id) else { return };
    let Some(place) = followed.followers.iter().position(|(_, other)| Arc::ptr_eq(other, inbox)) else { return };
    let (side, _) = followed.followers.remove(place);
    if followed.followers.iter().all(|(other, _)| *other != side) {
        let standing = Standing { left_at: now(), ..followed.standing(side) };
        followed.standings.insert(side, standing);
        followed.unsaved.insert(side);
        followed.tell(session_id);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
