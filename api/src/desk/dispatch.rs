//! Offers waiting tickets to agents, takes back what nobody accepts, and tells of targets that are missed.
//!
//! Any number of replicas may run this: one of them holds the lease and does the work, and when it stops another goes on within
//! seconds. All that it knows is in the database. Should two do the same for a moment, the session's lock and the ticket's state
//! let only one of them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;

use super::routing::{Agent, Assignment, Floor, Offer, Presence, Waiting, route, to_route_again};
use super::service_level::{Course, DueState, Target};
use super::settings::Plan;
use super::{Desk, DeskError, DeskSettings, Status, Ticket, Tuning};
use crate::rounds::Rounds;
use crate::storage::{AgentRecord, Queued, Storage, new_id, now};

const SECOND: i64 = 1000;
/// The lease on this work, and for how long it is taken.
const LEASE: &str = "dispatch";
const LEASE_MILLISECONDS: i64 = 5 * SECOND;
/// How often the queue is looked at, and after how many looks the targets.
const TICK: Duration = Duration::from_secs(1);
const TARGETS_EVERY: u32 = 5;
/// For how many offers' time a ticket rests that all have let pass.
const RESTS: i64 = 3;

/// Whoever does it.
pub struct Dispatcher {
    storage: Storage,
    desk: Desk,
    /// What the configuration file says.
    settings: DeskSettings,
    /// What counts, and the version of the change that it comes from.
    plan: Mutex<(i64, Arc<Plan>)>,
    /// Tickets that all who are there have let pass, and since when.
    resting: Mutex<HashMap<String, i64>>,
    /// Tells replicas apart.
    holder: String,
}

/// What one look at the queue did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dispatched {
    /// Tickets that were offered.
    pub offered: usize,
    /// Tickets that went back to their queue.
    pub returned: usize,
}

impl Dispatcher {
    /// Of settings that have no [`DeskSettings::problems`].
    pub fn new(storage: Storage, settings: DeskSettings) -> Self {
        let desk = Desk::new(storage.clone());
        let plan = Mutex::new((0, Arc::new(Plan::new(settings.clone()))));
        Self { storage, desk, settings, plan, resting: Mutex::default(), holder: new_id() }
    }

    /// What counts now: the configuration file, or what supervisors made of it since.
    async fn plan(&self) -> Result<Arc<Plan>, DeskError> {
        let mut plan = self.plan.lock().await;
        let Some(changed) = self.storage.tuning().await?.filter(|changed| changed.version != plan.0) else {
            return Ok(Arc::clone(&plan.1));
        };
        let settings = match changed.tuning.as_deref().map(serde_json::from_str::<Tuning>) {
            Some(Ok(tuning)) if tuning.problems().is_empty() => tuning.applied(&self.settings),
            None => self.settings.clone(),
            Some(_) => {
                tracing::warn!(version = changed.version, "the desk's settings cannot be used; the file's are");
                self.settings.clone()
            }
        };
        *plan = (changed.version, Arc::new(Plan::new(settings)));
        Ok(Arc::clone(&plan.1))
    }

    /// Works for as long as it is polled. What fails is told once and tried again.
    pub async fn run(&self) {
        let mut rounds = Rounds::new(TICK, "tickets are not given out at the moment");
        loop {
            let round = rounds.next().await;
            rounds.ended(self.tick(round.is_multiple_of(TARGETS_EVERY)).await);
        }
    }

    async fn tick(&self, targets: bool) -> Result<(), DeskError> {
        if !self.storage.take_lease(LEASE, &self.holder, now() + LEASE_MILLISECONDS).await? {
            return Ok(());
        }
        if self.plan().await?.settings.route {
            self.dispatch(now()).await?;
        }
        if targets {
            self.check_targets(now()).await?;
        }
        Ok(())
    }

    /// Takes back what was offered and not accepted, or left behind, and offers what waits. `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn dispatch(&self, now: i64) -> Result<Dispatched, DeskError> {
        let plan = self.plan().await?;
        let agents = self.storage.agents().await?;
        let mut done = Dispatched::default();
        if agents.is_empty() {
            return Ok(done);
        }
        let held = self.storage.held_tickets().await?;
        let mut floor = floor(&plan, &agents, &held, now);
        let outside = self.storage.organisations().await?;
        for team in &mut floor.teams {
            // Whatever the settings say: what is not shared with them they do not even see.
            team.outside |= outside.iter().any(|organisation| organisation.team == team.id);
        }
        for ticket in left(&plan, &agents, &floor, &held, now) {
            done.returned += usize::from(changed(self.desk.take_back(ticket).await)?);
        }
        let queue = self.storage.queue().await?;
        if queue.is_empty() {
            return Ok(done);
        }
        let waiting = self.waiting(queue, &floor, i64::from(plan.settings.routing.accept_seconds) * SECOND, now).await;
        for assignment in route(&floor, &waiting, &plan.settings.routing, now) {
            let Assignment { ticket_id, agent_id, reason, .. } = &assignment;
            if changed(self.desk.offer(ticket_id, agent_id, json!({ "routing": reason })).await)? {
                self.storage.note_given(agent_id, now).await?;
                done.offered += 1;
            }
        }
        Ok(done)
    }

    /// What may be offered. A ticket that all who are there have let pass rests for three times as long as an offer stands, and then
    /// begins anew with the first.
    async fn waiting(&self, queue: Vec<Queued>, floor: &Floor, accept: i64, now: i64) -> Vec<Waiting> {
        let mut resting = self.resting.lock().await;
        let queued: HashSet<&str> = queue.iter().map(|queued| queued.ticket.id.as_str()).collect();
        resting.retain(|id, _| queued.contains(id.as_str()));
        let mut waiting = Vec::new();
        for queued in queue {
            let declined: BTreeSet<&str> = queued.ticket.declined.iter().map(String::as_str).collect();
            let left = |agent: &Agent| agent.presence == Presence::Online && !declined.contains(agent.id.as_str());
            let anew = !declined.is_empty() && !floor.agents.iter().any(left);
            if anew {
                let since = *resting.entry(queued.ticket.id.clone()).or_insert(now);
                if now - since < RESTS * accept {
                    continue;
                }
            }
            resting.remove(&queued.ticket.id);
            waiting.push(offered(queued, floor, anew));
        }
        waiting
    }

    /// Tells of every open ticket whose target is nearly or already missed, once each, and raises the priority of those that
    /// missed one. Returns how many were told. `now` in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn check_targets(&self, now: i64) -> Result<usize, DeskError> {
        let pauses = self.storage.pauses().await?;
        let plan = self.plan().await?;
        let settings = &plan.settings;
        let calendar = settings.calendar.as_ref().and_then(|name| plan.calendars.get(name));
        let mut told = 0;
        for ticket in self.storage.open_tickets().await? {
            let pauses = pauses.get(&ticket.id).map_or(&[][..], Vec::as_slice);
            // One that began again has been answered before; its resolution counts from then on.
            let started_at = if ticket.reopened > 0 { ticket.queued_at } else { ticket.created_at };
            for (target, name, met_at) in [
                (Target::FirstResponse, "first_response", ticket.first_reply_at),
                (Target::Resolution, "resolution", None),
            ] {
                let course = Course { started_at, met_at, pauses };
                let due = settings.service_levels.due(target, ticket.priority, calendar.map(|c| &**c), &course, now);
                let state = match due.state {
                    DueState::Warning => "warning",
                    DueState::Breached => "breached",
                    DueState::InTime | DueState::Met | DueState::MetLate => continue,
                };
                told += usize::from(changed(self.desk.tell_target(&ticket.id, name, state, due.due_at).await)?);
            }
        }
        Ok(told)
    }
}

/// Whether something was done; that somebody else was faster is no failure.
fn changed(result: Result<bool, DeskError>) -> Result<bool, DeskError> {
    match result {
        Err(DeskError::NotAllowed { .. } | DeskError::NotFound { .. }) => Ok(false),
        other => other,
    }
}

fn offered(queued: Queued, floor: &Floor, anew: bool) -> Waiting {
    let Queued { ticket, channel, served_by } = queued;
    let declined = if anew { BTreeSet::new() } else { ticket.declined.into_iter().collect() };
    Waiting {
        ticket_id: ticket.id,
        intent: ticket.intent.map(|(label, _)| label),
        category: ticket.category,
        // A language that nobody speaks is waited for in vain.
        language: ticket.language.filter(|language| floor.speaks(language)),
        channel: Some(channel),
        priority: ticket.priority,
        vip: ticket.vip,
        since: ticket.queued_at,
        last_agent: ticket.last_assignee.or(served_by),
        team: ticket.team,
        declined,
    }
}

fn floor(plan: &Plan, agents: &[AgentRecord], held: &[Ticket], now: i64) -> Floor {
    let units = |ticket: &Ticket| plan.settings.routing.load_units.of(ticket.priority);
    let mut loads: HashMap<&str, (u32, u32)> = HashMap::new();
    for ticket in held {
        let (load, vip) = loads.entry(ticket.assignee.as_deref().unwrap_or_default()).or_default();
        *load += units(ticket);
        *vip += if ticket.vip { units(ticket) } else { 0 };
    }
    let silent = i64::from(plan.settings.offline_seconds) * SECOND;
    let agent = |record: &AgentRecord| {
        let (load, vip_load) = loads.get(record.name.as_str()).copied().unwrap_or_default();
        Agent {
            id: record.name.clone(),
            team: record.team.clone(),
            skills: record.skills.clone(),
            languages: record.languages.clone(),
            channels: record.channels.clone(),
            capacity: record.capacity,
            load,
            vip_load,
            presence: if now - record.seen_at > silent { Presence::Offline } else { record.presence },
            shift: record.shift.as_ref().and_then(|name| plan.calendars.get(name).cloned()),
            vip_lane: record.vip_lane,
            last_given_at: record.last_given_at,
        }
    };
    let teams = plan.teams(agents.iter().map(|agent| agent.team.as_str()));
    Floor { agents: agents.iter().map(agent).collect(), teams }
}

/// Tickets that their assignee does not accept in time, or has left behind.
fn left<'a>(plan: &Plan, agents: &[AgentRecord], floor: &Floor, held: &'a [Ticket], now: i64) -> Vec<&'a Ticket> {
    let accept = i64::from(plan.settings.routing.accept_seconds) * SECOND;
    let offers: Vec<Offer> = held
        .iter()
        .filter(|ticket| !ticket.accepted && !ticket.by_hand)
        .map(|ticket| Offer {
            ticket_id: ticket.id.clone(),
            agent_id: ticket.assignee.clone().unwrap_or_default(),
            accept_by: ticket.assigned_at.unwrap_or(0) + accept,
        })
        .collect();
    let over: BTreeSet<&str> =
        to_route_again(&offers, floor, now).into_iter().map(|offer| offer.ticket_id.as_str()).collect();
    let abandoned = i64::from(plan.settings.abandoned_seconds) * SECOND;
    let seen: HashMap<&str, i64> = agents.iter().map(|agent| (agent.name.as_str(), agent.seen_at)).collect();
    held.iter()
        .filter(|ticket| {
            // Who waits for a customer need not be there, nor at once who was chosen by a colleague.
            let since = |seen: &i64| if ticket.by_hand { ticket.assigned_at.unwrap_or(0).max(*seen) } else { *seen };
            let left = (ticket.accepted || ticket.by_hand)
                && ticket.status != Status::WaitingCustomer
                && ticket
                    .assignee
                    .as_deref()
                    .and_then(|name| seen.get(name))
                    .is_some_and(|at| now - since(at) > abandoned);
            left || over.contains(ticket.id.as_str())
        })
        .collect()
}
