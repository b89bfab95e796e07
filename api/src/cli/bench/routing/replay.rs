//! One policy through one day, event by event.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::time::Instant;

use serde::Serialize;
use yingda::desk::routing::{Agent, Floor, RoutingConfig, Waiting, route};

use super::world::{Session, World};

const SECOND: i64 = 1000;
/// How much longer a session takes an agent who lacks the skill.
pub(super) const WITHOUT_SKILL: f64 = 1.6;

/// A way to give sessions to agents.
pub(super) struct Policy {
    pub(super) name: &'static str,
    pub(super) config: RoutingConfig,
    /// Whether it knows of VIPs.
    pub(super) knows_vips: bool,
}

/// What a policy comes to. Waits are from arrival to the assignment, in seconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) mean_wait_seconds: f64,
    pub(super) p95_wait_seconds: f64,
    pub(super) longest_wait_seconds: f64,
    pub(super) vip_p95_wait_seconds: f64,
    /// Share of the VIPs who waited longer than the target while an agent of the house had room for them.
    pub(super) vip_late_while_free: f64,
    /// Share of the sessions with an agent who has the skill.
    pub(super) skilled: f64,
    /// Share of the known customers who met the agent who served them last.
    pub(super) last_agent: f64,
    pub(super) mean_handling_seconds: f64,
}

impl Figures {
    /// The mean of several days.
    pub(super) fn mean(days: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| days.iter().map(figure).sum::<f64>() / days.len().max(1) as f64;
        Self {
            mean_wait_seconds: of(|day| day.mean_wait_seconds),
            p95_wait_seconds: of(|day| day.p95_wait_seconds),
            longest_wait_seconds: of(|day| day.longest_wait_seconds),
            vip_p95_wait_seconds: of(|day| day.vip_p95_wait_seconds),
            vip_late_while_free: of(|day| day.vip_late_while_free),
            skilled: of(|day| day.skilled),
            last_agent: of(|day| day.last_agent),
            mean_handling_seconds: of(|day| day.mean_handling_seconds),
        }
    }
}

/// What happens. At the same moment, first sessions end, then others come.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ends {
        agent: usize,
        units: u32,
        vip_units: u32,
    },
    Arrives {
        session: usize,
    },
    /// Teams that overflow and shifts that begin are noticed once a second.
    Looks,
}

/// What became of a session.
#[derive(Clone, Default)]
struct Outcome {
    wait_ms: i64,
    /// How much of that some agent had room for it.
    free_ms: i64,
    handling_ms: i64,
    skilled: bool,
    last_agent: bool,
}

/// Serves every session of the day.
pub(super) fn replay(world: &World, policy: &Policy) -> Figures {
    let mut floor = world.floor.clone();
    let places: HashMap<String, usize> =
        floor.agents.iter().enumerate().map(|(place, agent)| (agent.id.clone(), place)).collect();
    let mut outcomes = vec![Outcome::default(); world.sessions.len()];
    let mut events: BinaryHeap<Reverse<(i64, Event)>> = world
        .sessions
        .iter()
        .enumerate()
        .map(|(number, session)| Reverse((session.arrives_at, Event::Arrives { session: number })))
        .collect();
    let mut queue: Vec<usize> = Vec::new();
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut looks = false;
    while let Some(Reverse((now, event))) = events.pop() {
        match event {
            Event::Ends { agent, units, vip_units } => {
                let agent = &mut floor.agents[agent];
                agent.load -= units;
                agent.vip_load -= vip_units;
            }
            Event::Arrives { session } => {
                queue.push(session);
                waiting.push(ticket(session, &world.sessions[session], policy));
            }
            Event::Looks => looks = false,
        }
        let more_now = events.peek().is_some_and(|Reverse((next, _))| *next == now);
        if more_now || waiting.is_empty() {
            continue;
        }
        let mut given = BTreeSet::new();
        for assignment in route(&floor, &waiting, &policy.config, now) {
            let Some(at) = waiting.iter().position(|ticket| ticket.ticket_id == assignment.ticket_id) else { continue };
            let (number, place) = (queue[at], places[&assignment.agent_id]);
            let (session, agent) = (&world.sessions[number], &mut floor.agents[place]);
            let vip_units = if waiting[at].vip { assignment.units } else { 0 };
            agent.load += assignment.units;
            agent.vip_load += vip_units;
            agent.last_given_at = Some(now);
            let skilled = agent.skills.contains_key(&session.intent);
            let longer = if skilled { 1.0 } else { WITHOUT_SKILL };
            let handling_ms = (session.handling_ms as f64 * longer) as i64;
            let outcome = &mut outcomes[number];
            outcome.wait_ms = now - session.arrives_at;
            outcome.handling_ms = handling_ms;
            outcome.skilled = skilled;
            outcome.last_agent = session.last_agent.as_ref() == Some(&agent.id);
            events.push(Reverse((now + handling_ms, Event::Ends { agent: place, units: assignment.units, vip_units })));
            given.insert(number);
        }
        waiting.retain(|ticket| !ticket.ticket_id.parse().is_ok_and(|number: usize| given.contains(&number)));
        queue.retain(|number| !given.contains(number));
        if !waiting.is_empty() && !looks {
            events.push(Reverse((now + SECOND, Event::Looks)));
            looks = true;
        }
        let Some(Reverse((next, _))) = events.peek() else { continue };
        for number in queue.iter().copied().filter(|number| world.sessions[*number].vip) {
            if has_room(&floor, &world.sessions[number], &policy.config, now) {
                outcomes[number].free_ms += next - now;
            }
        }
    }
    figures(world, policy, &outcomes)
}

/// Milliseconds of one decision in a rush: every session of the day waits and every agent is there, with nothing to do. The
/// median of 21.
pub(super) fn rush(world: &World, policy: &Policy) -> f64 {
    let mut floor = world.floor.clone();
    floor.agents.iter_mut().for_each(|agent| agent.shift = None);
    let waiting: Vec<Waiting> =
        world.sessions.iter().enumerate().map(|(number, session)| ticket(number, session, policy)).collect();
    let now = world.sessions.last().map_or(0, |session| session.arrives_at);
    let mut times: Vec<f64> = (0..21)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(route(&floor, &waiting, &policy.config, now));
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn ticket(number: usize, session: &Session, policy: &Policy) -> Waiting {
    Waiting {
        ticket_id: format!("{number:08}"),
        intent: Some(session.intent.clone()),
        category: Some(session.category.clone()),
        language: None,
        channel: None,
        priority: session.priority,
        vip: session.vip && policy.knows_vips,
        since: session.arrives_at,
        last_agent: session.last_agent.clone(),
        team: None,
        declined: BTreeSet::new(),
    }
}

/// Whether any agent on shift, of any team, has room for a VIP's session.
fn has_room(floor: &Floor, session: &Session, config: &RoutingConfig, now: i64) -> bool {
    let units = config.load_units.of(session.priority);
    let on_shift = |agent: &Agent| agent.shift.as_ref().is_none_or(|shift| shift.is_open(now));
    floor.agents.iter().any(|agent| agent.load + units.min(agent.capacity) <= agent.capacity && on_shift(agent))
}

fn figures(world: &World, policy: &Policy, outcomes: &[Outcome]) -> Figures {
    let served = || world.sessions.iter().zip(outcomes);
    let vips = || served().filter(|(session, _)| session.vip);
    let seconds = |milliseconds: i64| milliseconds as f64 / SECOND as f64;
    let mean = |figure: fn(&Outcome) -> i64| seconds(outcomes.iter().map(figure).sum()) / outcomes.len().max(1) as f64;
    let target_ms = i64::from(policy.config.vip_target_seconds) * SECOND;
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let known = || served().filter(|(session, _)| session.last_agent.is_some());
    Figures {
        mean_wait_seconds: mean(|outcome| outcome.wait_ms),
        p95_wait_seconds: seconds(p95(served().map(|(_, outcome)| outcome.wait_ms).collect())),
        longest_wait_seconds: seconds(outcomes.iter().map(|outcome| outcome.wait_ms).max().unwrap_or_default()),
        vip_p95_wait_seconds: seconds(p95(vips().map(|(_, outcome)| outcome.wait_ms).collect())),
        vip_late_while_free: share(vips().filter(|(_, outcome)| outcome.free_ms > target_ms).count(), vips().count()),
        skilled: share(outcomes.iter().filter(|outcome| outcome.skilled).count(), outcomes.len()),
        last_agent: share(known().filter(|(_, outcome)| outcome.last_agent).count(), known().count()),
        mean_handling_seconds: mean(|outcome| outcome.handling_ms),
    }
}

/// The smallest of them that at least 95 % do not exceed.
fn p95(mut waits: Vec<i64>) -> i64 {
    waits.sort_unstable();
    let rank = (waits.len() * 95).div_ceil(100);
    waits.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
