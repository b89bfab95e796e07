//! The made-up day: agents, and sessions that need one. Everything in it is drawn before any policy is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, LogNormal};
use yingda::desk::Priority;
use yingda::desk::calendar::{Calendar, CalendarSettings};
use yingda::desk::routing::{Agent, Floor, Overflow, PerPriority, Presence, Team};

use crate::cli::bench::routing::RoutingFlags;

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
/// Tuesday, 2026-03-10, 00:00 in China.
const MIDNIGHT: i64 = 1_773_072_000_000;

const CATEGORIES: usize = 5;
const INTENTS: usize = 20;
/// An intent is asked for in proportion to its rank to the power of minus this.
const SKEW: f64 = 0.8;
/// Share of the agents and the hours of each shift.
const SHIFTS: [(f64, &[&str]); 4] = [
    (0.08, &["00:00-07:00"]),
    (0.36, &["07:00-16:00"]),
    (0.20, &["10:00-14:00", "17:00-21:00"]),
    (0.36, &["16:00-24:00"]),
];
/// One in so many agents of a shift serves the VIP lane.
const LANE_EVERY: usize = 4;
/// How likely an agent knows an intent of the own category, and of another one.
const KNOWS_OWN: f64 = 0.8;
const KNOWS_OTHER: f64 = 0.1;
/// Seconds after which a team's tickets go to the next team, too.
const OVERFLOW_SECONDS: u32 = 30;
const VIP_SHARE: f64 = 0.05;
const PRIORITIES: [(Priority, f64); 4] =
    [(Priority::Urgent, 0.03), (Priority::High, 0.12), (Priority::Medium, 0.70), (Priority::Low, 0.15)];
/// Share of the customers whom an agent of the team has served before.
const KNOWN_SHARE: f64 = 0.3;
/// Standard deviation of the logarithm of handling times.
const HANDLING_SPREAD: f64 = 0.7;

/// A session that an agent must serve.
pub(super) struct Session {
    pub(super) arrives_at: i64,
    pub(super) intent: String,
    pub(super) category: String,
    pub(super) priority: Priority,
    pub(super) vip: bool,
    pub(super) last_agent: Option<String>,
    /// What it takes an agent who has the skill.
    pub(super) handling_ms: i64,
}

/// The day.
pub(super) struct World {
    pub(super) floor: Floor,
    pub(super) sessions: Vec<Session>,
    /// The hour in which most is asked of those who are there.
    pub(super) peak_hour: usize,
    /// Mean seconds that a session takes an agent who has the skill.
    pub(super) handling_seconds: f64,
}

impl World {
    /// The day of a seed. Handling times are such that in the peak hour `load` of the capacity on shift is needed.
    pub(super) fn new(flags: &RoutingFlags, seed: u64, units: PerPriority) -> Result<Self, String> {
        let stream = |number: u64| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(number);
            random
        };
        let (floor, shifts) = floor(flags, &mut stream(0))?;
        let mut staffed = [0.0; 24];
        for (agent, shift) in floor.agents.iter().zip(shifts) {
            for (hour, capacity) in staffed.iter_mut().enumerate() {
                let begins = MIDNIGHT + hour as i64 * HOUR;
                *capacity += if shift.is_open(begins) { f64::from(agent.capacity) } else { 0.0 };
            }
        }
        let whole: f64 = (0..24).map(expected).sum();
        let pressure = |hour: usize| expected(hour) / whole * flags.sessions as f64 / staffed[hour].max(1.0);
        let peak_hour = (0..24).max_by(|one, other| pressure(*one).total_cmp(&pressure(*other))).unwrap_or_default();
        let mean_units: f64 = PRIORITIES.iter().map(|(priority, share)| share * f64::from(units.of(*priority))).sum();
        let handling_seconds = flags.load * 3600.0 / (pressure(peak_hour) * mean_units);
        let arrivals = arrivals(flags.sessions, &mut stream(1));
        let sessions = sessions(&arrivals, &floor, flags.pooled, handling_seconds, &mut stream(2))?;
        Ok(Self { floor, sessions, peak_hour, handling_seconds })
    }
}

/// How many customers come at an hour of the day, 1 being about the most: a little all day, a peak at 11 and one at 19:30.
fn rate(hour: f64) -> f64 {
    let peak = |at: f64| 0.9 * (-((hour - at) / 1.8).powi(2) / 2.0).exp();
    0.1 + peak(11.0) + peak(19.5)
}

/// The same over an hour.
fn expected(hour: usize) -> f64 {
    (0..60).map(|minute| rate(hour as f64 + (f64::from(minute) + 0.5) / 60.0) / 60.0).sum()
}

/// When customers come: a Poisson process with that rate, by thinning one with the highest.
fn arrivals(sessions: usize, random: &mut ChaCha8Rng) -> Vec<i64> {
    let scale = sessions as f64 / (0..24).map(expected).sum::<f64>();
    let highest = 1.1;
    let (mut arrivals, mut hour) = (Vec::with_capacity(sessions), 0.0);
    loop {
        let gap: f64 = Exp1.sample(random);
        hour += gap / (highest * scale);
        if hour >= 24.0 {
            return arrivals;
        }
        if random.random::<f64>() * highest < rate(hour) {
            arrivals.push(MIDNIGHT + (hour * HOUR as f64) as i64);
        }
    }
}

fn intent(number: usize) -> String {
    format!("intent-{number:02}")
}

fn category(number: usize) -> String {
    format!("category-{number}")
}

/// How often each intent is asked for, not scaled to anything.
fn intent_weights() -> [f64; INTENTS] {
    std::array::from_fn(|number| ((number + 1) as f64).powf(-SKEW))
}

/// Picks a place in proportion to its weight.
fn pick(weights: &[f64], random: &mut ChaCha8Rng) -> usize {
    let mut left = random.random::<f64>() * weights.iter().sum::<f64>();
    let chosen = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    chosen.unwrap_or(weights.len() - 1)
}

/// The place that has least of its share of what was handed out so far.
fn neediest(shares: &[f64], counts: &[usize]) -> usize {
    let all = counts.iter().sum::<usize>() as f64 + 1.0;
    let lack = |place: &usize| shares[*place] * all - counts[*place] as f64;
    (0..shares.len()).max_by(|one, other| lack(one).total_cmp(&lack(other))).unwrap_or_default()
}

/// The agents with their teams, and the shift of each. Teams are as large as their categories are asked for.
fn floor(flags: &RoutingFlags, random: &mut ChaCha8Rng) -> Result<(Floor, Vec<Arc<Calendar>>), String> {
    let shifts = SHIFTS.iter().map(|(_, hours)| shift(hours)).collect::<Result<Vec<_>, _>>()?;
    let shift_shares = SHIFTS.map(|(share, _)| share);
    let mut team_shares = [0.0; CATEGORIES];
    for (number, weight) in intent_weights().iter().enumerate() {
        team_shares[number % CATEGORIES] += weight / intent_weights().iter().sum::<f64>();
    }
    let (mut in_team, mut in_shift) = ([0; CATEGORIES], [0; SHIFTS.len()]);
    // Agents are put on teams and shifts by turns, so that each shift has people of as many teams as it can.
    let (mut agents, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..flags.agents {
        let team = neediest(&team_shares, &in_team);
        let shift = neediest(&shift_shares, &in_shift);
        in_team[team] += 1;
        in_shift[shift] += 1;
        let mut skills = BTreeMap::new();
        for asked in 0..INTENTS {
            let likely = if asked % CATEGORIES == team { KNOWS_OWN } else { KNOWS_OTHER };
            let (knows, level) = (random.random_bool(likely), random.random_range(1..=3));
            if knows {
                skills.insert(intent(asked), level);
            }
        }
        theirs.push(Arc::clone(&shifts[shift]));
        agents.push(Agent {
            id: format!("agent-{number:03}"),
            team: if flags.pooled { "everybody".to_owned() } else { category(team) },
            skills,
            languages: BTreeSet::new(),
            channels: BTreeSet::new(),
            capacity: random.random_range(3..=5),
            load: 0,
            vip_load: 0,
            presence: Presence::Online,
            shift: Some(Arc::clone(&shifts[shift])),
            vip_lane: in_shift[shift] % LANE_EVERY == 1,
            last_given_at: None,
        });
    }
    let teams = if flags.pooled {
        vec![Team { id: "everybody".to_owned(), skills: BTreeSet::new(), overflow: None, outside: false }]
    } else {
        (0..CATEGORIES)
            .map(|number| Team {
                id: category(number),
                skills: BTreeSet::from([category(number)]),
                overflow: Some(Overflow { team: category((number + 1) % CATEGORIES), after_seconds: OVERFLOW_SECONDS }),
                outside: false,
            })
            .collect()
    };
    Ok((Floor { agents, teams }, theirs))
}

/// The same hours every day.
fn shift(hours: &[&str]) -> Result<Arc<Calendar>, String> {
    let hours: Vec<String> = hours.iter().map(|&hours| hours.to_owned()).collect();
    let settings = CalendarSettings {
        monday: hours.clone(),
        tuesday: hours.clone(),
        wednesday: hours.clone(),
        thursday: hours.clone(),
        friday: hours.clone(),
        saturday: hours.clone(),
        sunday: hours,
        ..CalendarSettings::default()
    };
    Calendar::new(settings).map(Arc::new).map_err(|error| error.to_string())
}

fn sessions(
    arrivals: &[i64],
    floor: &Floor,
    pooled: bool,
    handling_seconds: f64,
    random: &mut ChaCha8Rng,
) -> Result<Vec<Session>, String> {
    let spread = HANDLING_SPREAD;
    let handling = LogNormal::new(handling_seconds.ln() - spread * spread / 2.0, spread)
        .map_err(|error| format!("handling times of {handling_seconds} s cannot be drawn: {error}"))?;
    let weights = intent_weights();
    let priorities = PRIORITIES.map(|(_, share)| share);
    let team = |category: &str| -> Vec<&str> {
        let in_team = |agent: &&Agent| pooled || agent.team == category;
        floor.agents.iter().filter(in_team).map(|agent| agent.id.as_str()).collect()
    };
    let teams: Vec<Vec<&str>> = (0..CATEGORIES).map(|number| team(&category(number))).collect();
    let session = |arrives_at: &i64| {
        let asked = pick(&weights, random);
        let team = &teams[asked % CATEGORIES];
        let (known, last) = (random.random_bool(KNOWN_SHARE), random.random_range(0..team.len().max(1)));
        Session {
            arrives_at: *arrives_at,
            intent: intent(asked),
            category: category(asked % CATEGORIES),
            priority: PRIORITIES[pick(&priorities, random)].0,
            vip: random.random_bool(VIP_SHARE),
            last_agent: team.get(last).filter(|_| known).map(|&id| id.to_owned()),
            handling_ms: (handling.sample(random) * SECOND as f64) as i64,
        }
    };
    Ok(arrivals.iter().map(session).collect())
}
