//! Routing: which agent gets which waiting ticket.
//!
//! [`route`] looks at the floor and the queue as they are at one moment and decides; it keeps nothing and asks nobody. The same
//! state gives the same assignments, in whatever order it is handed over. Whoever calls it stores the assignments, and calls again
//! when something happens and once a second while tickets wait, because teams that overflow open with time.
//!
//! Times are milliseconds since 1970 in UTC.

mod config;
#[cfg(test)]
mod tests;

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use config::{PerPriority, RoutingConfig};

use super::calendar::Calendar;
use super::ticket::Priority;

const SECOND: i64 = 1000;

/// The highest level of a skill; a higher one counts as this.
pub const HIGHEST_LEVEL: u8 = 3;

/// Whether an agent can be given work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// At work and ready.
    Online,
    /// Gone for a moment.
    Away,
    /// Not there.
    Offline,
}

/// A person who answers customers.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Unique on the floor.
    pub id: String,
    /// The team. One that is not on the floor gets nothing.
    pub team: String,
    /// Skills with their level, 1 to [`HIGHEST_LEVEL`]; a skill is an intent or a category of intents.
    pub skills: BTreeMap<String, u8>,
    /// Languages that they speak; empty: any.
    pub languages: BTreeSet<String>,
    /// Channels that they serve; empty: any.
    pub channels: BTreeSet<String>,
    /// Load units that they can carry at once. An ordinary ticket is one.
    pub capacity: u32,
    /// Load units that they carry: the sum of [`Assignment::units`] of their open tickets.
    pub load: u32,
    /// Of these, the load of VIPs.
    pub vip_load: u32,
    /// Whether they can be given work.
    pub presence: Presence,
    /// When they work; `None`: whenever they are online.
    pub shift: Option<Arc<Calendar>>,
    /// Whether they serve the VIP lane.
    pub vip_lane: bool,
    /// When they were last given a ticket.
    pub last_given_at: Option<i64>,
}

/// Where the tickets of a team may go when it has no room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overflow {
    /// The other team.
    pub team: String,
    /// Seconds that a ticket waits before.
    pub after_seconds: u32,
}

/// A group of agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Team {
    /// Unique on the floor.
    pub id: String,
    /// The intents and categories that it serves; empty: all.
    pub skills: BTreeSet<String>,
    /// Where its tickets go when it has no room; that team's own overflow comes after it.
    pub overflow: Option<Overflow>,
    /// Whether it belongs to another organisation, which gets only what is transferred to it, whatever is said elsewhere.
    pub outside: bool,
}

/// Who is there.
#[derive(Clone, Debug, Default)]
pub struct Floor {
    /// All agents.
    pub agents: Vec<Agent>,
    /// All teams.
    pub teams: Vec<Team>,
}

impl Floor {
    /// Whether anybody speaks a language, there or not.
    pub fn speaks(&self, language: &str) -> bool {
        self.agents.iter().any(|agent| agent.languages.is_empty() || agent.languages.contains(language))
    }
}

/// A ticket that waits for an agent.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The ticket, once in the queue.
    pub ticket_id: String,
    /// What the customer wants.
    pub intent: Option<String>,
    /// The category of that.
    pub category: Option<String>,
    /// The customer's language; `None`: any will do.
    pub language: Option<String>,
    /// Where the customer writes; `None`: any will do.
    pub channel: Option<String>,
    /// How soon a person should look.
    pub priority: Priority,
    /// Whether the customer belongs in the VIP lane.
    pub vip: bool,
    /// Since when it has been waiting in this queue; from the transfer on, if it was transferred.
    pub since: i64,
    /// The agent who served this customer last.
    pub last_agent: Option<String>,
    /// The team to which it was transferred. One that is not on the floor counts as none.
    pub team: Option<String>,
    /// Agents to whom it was given and who did not accept it. They do not get it again.
    pub declined: BTreeSet<String>,
}

/// A queue of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// That of VIPs, which goes first.
    Vip,
    /// That of everybody else.
    Ordinary,
}

/// A skill of an agent that a ticket asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchedSkill {
    /// The intent, or else the category.
    pub name: String,
    /// The level, 1 to [`HIGHEST_LEVEL`].
    pub level: u8,
}

/// Why this agent, for people who look at it later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The queue.
    pub lane: Lane,
    /// Milliseconds that the ticket waited.
    pub waited_ms: i64,
    /// Whether it is a VIP who waited longer than the target.
    pub late: bool,
    /// The skill for which the agent was fit; `None` if they have none that the ticket asks for.
    pub skill: Option<MatchedSkill>,
    /// Whether this agent served the customer last.
    pub last_agent: bool,
    /// The agent's load before.
    pub load: u32,
    /// What the agent can carry.
    pub capacity: u32,
    /// The agent's team.
    pub team: String,
    /// Whether that team got it because those it belongs to had no room for too long.
    pub overflow: bool,
    /// Whether it was transferred to a team.
    pub transferred: bool,
    /// What skill, last agent and load were worth together.
    pub score: f64,
}

/// A ticket that an agent is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The ticket.
    pub ticket_id: String,
    /// The agent.
    pub agent_id: String,
    /// Load units that it is for this agent until it is done.
    pub units: u32,
    /// When it goes to another agent unless this one has accepted.
    pub accept_by: i64,
    /// Why.
    pub reason: Reason,
}

/// An assignment that was not accepted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The ticket.
    pub ticket_id: String,
    /// The agent.
    pub agent_id: String,
    /// As in the assignment.
    pub accept_by: i64,
}

/// The offers that are over: the time to accept has passed, or the agent is not online any more. Their tickets go back into the
/// queue, with the agent in [`Waiting::declined`]. In the order of the time to accept, then of the tickets' ids.
pub fn to_route_again<'a>(offers: &'a [Offer], floor: &Floor, now: i64) -> Vec<&'a Offer> {
    let online: HashSet<&str> =
        floor.agents.iter().filter(|agent| agent.presence == Presence::Online).map(|agent| agent.id.as_str()).collect();
    let is_over = |offer: &&Offer| offer.accept_by <= now || !online.contains(offer.agent_id.as_str());
    let mut over: Vec<&Offer> = offers.iter().filter(is_over).collect();
    over.sort_by_key(|offer| (offer.accept_by, offer.ticket_id.as_str()));
    over
}

/// Gives waiting tickets to agents, as many as there is room for.
///
/// VIPs go first, and then whoever came first, priorities and skills being head starts. Each ticket gets the best agent who may
/// have it: for a VIP one of the VIP lane before others, then by skill, last agent and load, then who was given nothing for longest,
/// then by id. A ticket that nobody may have stays in the queue and holds up nobody.
pub fn route(floor: &Floor, waiting: &[Waiting], config: &RoutingConfig, now: i64) -> Vec<Assignment> {
    let teams = Teams::new(&floor.teams);
    let mut desks = desks(floor, &teams, config, now);
    let mut fits: HashMap<Need<'_>, Vec<Option<Fit<'_>>>> = HashMap::new();
    let mut given: HashSet<&str> = HashSet::new();
    let mut assignments = Vec::new();
    for Attempt { ticket, skilled_only } in attempts(waiting, config) {
        if desks.iter().all(Desk::is_full) {
            break;
        }
        if given.contains(ticket.ticket_id.as_str()) {
            continue;
        }
        let need = Need::new(ticket, &teams);
        let fits = fits.entry(need).or_insert_with_key(|need| need.fits(&desks, &teams, config));
        let case =
            Case { ticket, waited_ms: now.saturating_sub(ticket.since).max(0), transferred: need.team.is_some() };
        let best = desks
            .iter()
            .zip(&*fits)
            .enumerate()
            .filter_map(|(place, (desk, fit))| Some((place, desk, fit.as_ref()?)))
            .filter(|(_, _, fit)| !skilled_only || fit.skill.is_some())
            .filter_map(|(place, desk, fit)| Choice::new(place, desk, fit, &case, config))
            .max_by(|one, other| one.compare(other, &desks));
        if let Some(choice) = best {
            assignments.push(choice.assignment(&desks[choice.place], &case, config, now));
            desks[choice.place].take(ticket.vip, choice.units, now);
            given.insert(&ticket.ticket_id);
        }
    }
    assignments
}

/// A ticket's turn.
struct Attempt<'a> {
    ticket: &'a Waiting,
    /// Whether it is one for agents with the skill only.
    skilled_only: bool,
}

/// The turns in their order. Outside of the VIP lane a ticket has two: one at agents who know its intent, with the head start
/// for that, and one at all who may have it.
fn attempts<'a>(waiting: &'a [Waiting], config: &RoutingConfig) -> Vec<Attempt<'a>> {
    let skill_head_start = config.skill_head_start_seconds;
    let turn = |ticket: &'a Waiting, skilled_only: bool| {
        let skill = if skilled_only { skill_head_start } else { 0 };
        let head_start = (i64::from(config.head_start_seconds.of(ticket.priority)) + i64::from(skill)) * SECOND;
        let order = (lane(ticket), ticket.since.saturating_sub(head_start), ticket.since, ticket.ticket_id.as_str());
        (order, Attempt { ticket, skilled_only })
    };
    let mut turns: Vec<_> = waiting
        .iter()
        .flat_map(|ticket| {
            let has_two = !ticket.vip && skill_head_start > 0;
            has_two.then(|| turn(ticket, true)).into_iter().chain([turn(ticket, false)])
        })
        .collect();
    turns.sort_by_key(|(order, _)| *order);
    turns.into_iter().map(|(_, attempt)| attempt).collect()
}

fn lane(ticket: &Waiting) -> Lane {
    if ticket.vip { Lane::Vip } else { Lane::Ordinary }
}

/// An agent who can be given work now, and what they carry after the assignments so far.
struct Desk<'a> {
    agent: &'a Agent,
    team: usize,
    load: u32,
    vip_load: u32,
    /// What only VIPs may take.
    reserved: u32,
    last_given_at: Option<i64>,
}

/// Those agents, in the order of their ids.
fn desks<'a>(floor: &'a Floor, teams: &Teams<'_>, config: &RoutingConfig, now: i64) -> Vec<Desk<'a>> {
    let is_there = |agent: &&Agent| {
        agent.presence == Presence::Online
            && agent.load < agent.capacity
            && agent.shift.as_ref().is_none_or(|shift| shift.is_open(now))
    };
    let mut desks: Vec<Desk<'_>> = floor
        .agents
        .iter()
        .filter(is_there)
        .filter_map(|agent| {
            Some(Desk {
                agent,
                team: *teams.places.get(agent.team.as_str())?,
                load: agent.load,
                vip_load: agent.vip_load.min(agent.load),
                reserved: if agent.vip_lane { config.vip_reserved_units } else { 0 },
                last_given_at: agent.last_given_at,
            })
        })
        .collect();
    desks.sort_by_key(|desk| desk.agent.id.as_str());
    desks
}

impl Desk<'_> {
    fn is_full(&self) -> bool {
        self.load >= self.agent.capacity
    }

    /// The load units that a ticket would be here; `None` if there is no room for it. One that is more than the room takes all of
    /// it: were it to wait for more, lighter ones would take each unit that comes free, and the heaviest, which are the most urgent,
    /// would wait longest.
    fn units(&self, vip: bool, units: u32) -> Option<u32> {
        let (capacity, load) = (self.agent.capacity, self.load);
        let free = capacity.saturating_sub(load);
        let room = if vip {
            free
        } else {
            let ordinary_load = load - self.vip_load;
            free.min(capacity.saturating_sub(self.reserved).saturating_sub(ordinary_load))
        };
        (room > 0).then(|| units.clamp(1, room))
    }

    fn take(&mut self, vip: bool, units: u32, now: i64) {
        self.load += units;
        if vip {
            self.vip_load += units;
        }
        self.last_given_at = Some(now);
    }
}

/// The teams of a floor and where each stands in their list.
struct Teams<'a> {
    teams: &'a [Team],
    places: HashMap<&'a str, usize>,
}

/// How a ticket comes to a team.
#[derive(Clone, Copy)]
struct Reach {
    /// Milliseconds that it must have waited.
    after_ms: i64,
    /// Whether it belongs there.
    home: bool,
}

impl<'a> Teams<'a> {
    fn new(teams: &'a [Team]) -> Self {
        Self { teams, places: teams.iter().enumerate().map(|(place, team)| (team.id.as_str(), place)).collect() }
    }

    /// How a ticket comes to each team; `None` where it never does.
    fn reach(&self, need: &Need<'_>, config: &RoutingConfig) -> Vec<Option<Reach>> {
        let mut reach: Vec<Option<Reach>> = vec![None; self.teams.len()];
        let homes = self.homes(need);
        for home in &homes {
            reach[*home] = Some(Reach { after_ms: 0, home: true });
        }
        for home in homes {
            let (mut place, mut after_ms) = (home, 0);
            while let Some(overflow) = &self.teams[place].overflow
                && let Some(next) = self.places.get(overflow.team.as_str()).copied()
            {
                after_ms += i64::from(overflow.after_seconds) * SECOND;
                // Sooner by another way, or a circle: all that follows is known already.
                if self.teams[next].outside || reach[next].is_some_and(|known| known.after_ms <= after_ms) {
                    break;
                }
                reach[next] = Some(Reach { after_ms, home: false });
                place = next;
            }
        }
        if need.vip && need.team.is_none() {
            let after_ms = i64::from(config.vip_overflow_seconds) * SECOND;
            for (team, reach) in self.teams.iter().zip(&mut reach) {
                if !team.outside && reach.is_none_or(|known| known.after_ms > after_ms) {
                    *reach = Some(Reach { after_ms, home: false });
                }
            }
        }
        reach
    }

    /// The teams that a ticket belongs to: the one to which it was transferred, else those that serve it, else, so that it does not
    /// lie there for ever, all of the house.
    fn homes(&self, need: &Need<'_>) -> Vec<usize> {
        if let Some(team) = need.team {
            return vec![team];
        }
        let inside = || (0..self.teams.len()).filter(|place| !self.teams[*place].outside);
        let serves = |place: &usize| {
            let skills = &self.teams[*place].skills;
            skills.is_empty() || [need.intent, need.category].iter().flatten().any(|skill| skills.contains(*skill))
        };
        let serving: Vec<usize> = inside().filter(serves).collect();
        if serving.is_empty() { inside().collect() } else { serving }
    }
}

/// What decides, together with time and room, who may have a ticket. Many tickets share one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Need<'a> {
    intent: Option<&'a str>,
    category: Option<&'a str>,
    language: Option<&'a str>,
    channel: Option<&'a str>,
    /// Place of the team to which it was transferred.
    team: Option<usize>,
    vip: bool,
}

/// How an agent fits a need.
struct Fit<'a> {
    reach: Reach,
    /// Name and level.
    skill: Option<(&'a str, u8)>,
}

impl<'a> Need<'a> {
    fn new(ticket: &'a Waiting, teams: &Teams<'_>) -> Self {
        Self {
            intent: ticket.intent.as_deref(),
            category: ticket.category.as_deref(),
            language: ticket.language.as_deref(),
            channel: ticket.channel.as_deref(),
            team: ticket.team.as_deref().and_then(|team| teams.places.get(team).copied()),
            vip: ticket.vip,
        }
    }

    /// How each agent fits; `None` for those who never may have it.
    fn fits(&self, desks: &[Desk<'_>], teams: &Teams<'_>, config: &RoutingConfig) -> Vec<Option<Fit<'a>>> {
        let reach = teams.reach(self, config);
        let among = |known: &BTreeSet<String>, asked: Option<&str>| {
            known.is_empty() || asked.is_none_or(|asked| known.contains(asked))
        };
        desks
            .iter()
            .map(|Desk { agent, team, .. }| {
                let may = among(&agent.languages, self.language) && among(&agent.channels, self.channel);
                let reach = reach[*team].filter(|_| may)?;
                Some(Fit { reach, skill: self.skill(agent) })
            })
            .collect()
    }

    /// The agent's level for the intent; where they have none, for the category.
    fn skill(&self, agent: &Agent) -> Option<(&'a str, u8)> {
        [self.intent, self.category].into_iter().flatten().find_map(|name| {
            let level = *agent.skills.get(name)?;
            (level > 0).then_some((name, level.min(HIGHEST_LEVEL)))
        })
    }
}

/// A ticket whose turn it is.
struct Case<'a> {
    ticket: &'a Waiting,
    waited_ms: i64,
    transferred: bool,
}

/// An agent who may have a ticket now.
struct Choice<'a> {
    place: usize,
    units: u32,
    /// Whether it is an agent of the VIP lane for a VIP.
    lane_first: bool,
    score: f64,
    last_agent: bool,
    fit: &'a Fit<'a>,
}

impl<'a> Choice<'a> {
    fn new(place: usize, desk: &Desk<'_>, fit: &'a Fit<'a>, case: &Case<'_>, config: &RoutingConfig) -> Option<Self> {
        let (Desk { agent, load, .. }, ticket) = (desk, case.ticket);
        let units = desk.units(ticket.vip, config.load_units.of(ticket.priority))?;
        if case.waited_ms < fit.reach.after_ms || ticket.declined.contains(&agent.id) {
            return None;
        }
        let last_agent = ticket.last_agent.as_ref() == Some(&agent.id);
        let level = fit.skill.map_or(0, |(_, level)| level);
        let free = f64::from(agent.capacity.saturating_sub(*load)) / f64::from(agent.capacity);
        let score = config.skill_weight * f64::from(level) / f64::from(HIGHEST_LEVEL)
            + config.last_agent_weight * f64::from(u8::from(last_agent))
            + config.load_weight * free;
        Some(Self { place, units, lane_first: ticket.vip && agent.vip_lane, score, last_agent, fit })
    }

    /// Which is better. Never equal: desks are in the order of ids, the first before the others.
    fn compare(&self, other: &Self, desks: &[Desk<'_>]) -> Ordering {
        let rank = |choice: &Self| (Reverse(desks[choice.place].last_given_at), Reverse(choice.place));
        self.lane_first
            .cmp(&other.lane_first)
            .then(self.score.total_cmp(&other.score))
            .then_with(|| rank(self).cmp(&rank(other)))
    }

    fn assignment(&self, desk: &Desk<'_>, case: &Case<'_>, config: &RoutingConfig, now: i64) -> Assignment {
        let Case { ticket, waited_ms, transferred } = *case;
        let skill = self.fit.skill.map(|(name, level)| MatchedSkill { name: name.to_owned(), level });
        Assignment {
            ticket_id: ticket.ticket_id.clone(),
            agent_id: desk.agent.id.clone(),
            units: self.units,
            accept_by: now.saturating_add(i64::from(config.accept_seconds) * SECOND),
            reason: Reason {
                lane: lane(ticket),
                waited_ms,
                late: ticket.vip && waited_ms > i64::from(config.vip_target_seconds) * SECOND,
                skill,
                last_agent: self.last_agent,
                load: desk.load,
                capacity: desk.agent.capacity,
                team: desk.agent.team.clone(),
                overflow: !self.fit.reach.home,
                transferred,
                score: self.score,
            },
        }
    }
}
