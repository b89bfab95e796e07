//! Service levels: how soon a ticket is to be answered and resolved, by its priority, and how it stands with that.
//!
//! A clock runs in the working time of the team or around the clock, and stands still while the customer is waited for.
//! Everything here is computed from what happened; nothing is stored. Times are milliseconds since 1970 in UTC.

use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::ticket::Priority;

const MINUTE: i64 = 60_000;

/// Which time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The working time of the team.
    Working,
    /// Every hour of every day.
    AroundTheClock,
}

/// The targets of one priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceLevel {
    /// Minutes until a person answers for the first time.
    pub first_response_minutes: u32,
    /// Minutes until the ticket is resolved.
    pub resolution_minutes: u32,
    /// Which time counts.
    pub clock: Clock,
}

/// The targets of all priorities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceLevels {
    /// Of urgent tickets: 1 and 60 minutes around the clock.
    pub urgent: ServiceLevel,
    /// Of high ones: 5 and 240 minutes of working time.
    pub high: ServiceLevel,
    /// Of medium ones: 15 and 480 minutes of working time.
    pub medium: ServiceLevel,
    /// Of low ones: 60 and 1440 minutes of working time.
    pub low: ServiceLevel,
    /// Share of a target after which somebody is warned: 0.8.
    pub warn_at: f64,
}

impl Default for ServiceLevels {
    fn default() -> Self {
        let level = |first_response_minutes, resolution_minutes, clock| ServiceLevel {
            first_response_minutes,
            resolution_minutes,
            clock,
        };
        Self {
            urgent: level(1, 60, Clock::AroundTheClock),
            high: level(5, 240, Clock::Working),
            medium: level(15, 480, Clock::Working),
            low: level(60, 1440, Clock::Working),
            warn_at: 0.8,
        }
    }
}

/// What is to be done in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A person answers for the first time.
    FirstResponse,
    /// The ticket is resolved.
    Resolution,
}

/// A time in which the customer was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// When it began.
    pub from: i64,
    /// When it ended; `None` while it lasts.
    pub to: Option<i64>,
}

/// What happened so far.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// When the clock was started.
    pub started_at: i64,
    /// When it was done; `None` while it is not.
    pub met_at: Option<i64>,
    /// When the customer was waited for, in any order; they may overlap. One that ends before it begins counts for nothing.
    pub pauses: &'a [Pause],
}

/// How a ticket stands with a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueState {
    /// There is time.
    InTime,
    /// The share of the target after which somebody is warned is used up.
    Warning,
    /// It is late.
    Breached,
    /// It was done in time.
    Met,
    /// It was done, too late.
    MetLate,
}

/// When something is due, and how it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The last moment that is in time; `None` while that is open: in a pause, or with a calendar that never opens again.
    pub due_at: Option<i64>,
    /// From when on somebody is to be warned; `None` for the same reasons.
    pub warn_at: Option<i64>,
    /// How it stands.
    pub state: DueState,
    /// Whether the clock stands still because the customer is waited for.
    pub paused: bool,
}

impl ServiceLevels {
    /// The targets of a priority.
    pub fn of(&self, priority: Priority) -> &ServiceLevel {
        match priority {
            Priority::Urgent => &self.urgent,
            Priority::High => &self.high,
            Priority::Medium => &self.medium,
            Priority::Low => &self.low,
        }
    }

    /// All that is wrong with these settings, a sentence each, naming the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, level) in [("urgent", self.urgent), ("high", self.high), ("medium", self.medium), ("low", self.low)]
        {
            if level.first_response_minutes == 0 {
                problems.push(format!("`{name}.first_response_minutes` is 0, which nobody can keep; write at least 1"));
            }
            if level.resolution_minutes < level.first_response_minutes {
                problems.push(format!(
                    "`{name}.resolution_minutes` ({}) is less than `first_response_minutes` ({}), but an answer comes before the \
                     resolution; exchange them, or correct one",
                    level.resolution_minutes, level.first_response_minutes
                ));
            }
        }
        if !(self.warn_at > 0.0 && self.warn_at <= 1.0) {
            problems.push(format!("`warn_at` is {}; write a share above 0 and up to 1, such as 0.8", self.warn_at));
        }
        problems
    }

    /// How a ticket stands with one of its targets at `now`. Without a calendar, working time is all the time.
    pub fn due(
        &self,
        target: Target,
        priority: Priority,
        calendar: Option<&Calendar>,
        course: &Course<'_>,
        now: i64,
    ) -> Due {
        let level = self.of(priority);
        let calendar = calendar.filter(|_| level.clock == Clock::Working);
        let minutes = match target {
            Target::FirstResponse => level.first_response_minutes,
            Target::Resolution => level.resolution_minutes,
        };
        let span = i64::from(minutes) * MINUTE;
        let running = running(course);
        let due_at = reached(&running, calendar, span);
        let warn_at = reached(&running, calendar, (span as f64 * self.warn_at) as i64);
        let is_late = |moment: i64| due_at.is_some_and(|due| moment > due);
        let state = match course.met_at {
            Some(met) if is_late(met) => DueState::MetLate,
            Some(_) => DueState::Met,
            None if is_late(now) => DueState::Breached,
            None if warn_at.is_some_and(|warn| now >= warn) => DueState::Warning,
            None => DueState::InTime,
        };
        let paused = course.met_at.is_none()
            && now >= course.started_at
            && course.pauses.iter().any(|pause| pause.from <= now && pause.to.is_none_or(|to| now < to));
        Due { due_at, warn_at, state, paused }
    }
}

/// The times in which the clock runs, in order; the last one has no end, unless a pause lasts.
fn running(course: &Course<'_>) -> Vec<(i64, Option<i64>)> {
    let mut pauses = course.pauses.to_vec();
    pauses.sort_by_key(|pause| pause.from);
    let (mut running, mut since) = (Vec::new(), course.started_at);
    for Pause { from, to } in pauses {
        if to.is_some_and(|to| to <= from.max(since)) {
            continue;
        }
        if from > since {
            running.push((since, Some(from)));
        }
        match to {
            Some(to) => since = to,
            None => return running,
        }
    }
    running.push((since, None));
    running
}

/// The moment at which the clock has run for `span` milliseconds.
fn reached(running: &[(i64, Option<i64>)], calendar: Option<&Calendar>, mut span: i64) -> Option<i64> {
    for (from, to) in running {
        if let Some(to) = to {
            let length =
                calendar.map_or_else(|| to.saturating_sub(*from), |calendar| calendar.working_between(*from, *to));
            if length < span {
                span -= length;
                continue;
            }
        }
        return calendar.map_or_else(|| from.checked_add(span), |calendar| calendar.add_working(*from, span));
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_772_413_200_000; // Monday, 2026-03-02 09:00 in China.
    const HOUR: i64 = 60 * MINUTE;

    fn office() -> Calendar {
        let days = ["monday", "tuesday", "wednesday", "thursday", "friday"];
        let week: String = days.iter().map(|day| format!("{day} = [\"09:00-18:00\"]\n")).collect();
        toml::from_str(&week).unwrap()
    }

    fn minutes(from: i64, to: Option<i64>) -> Pause {
        Pause { from: START + from * MINUTE, to: to.map(|to| START + to * MINUTE) }
    }

    /// When a medium ticket, with 480 minutes of time, is to be resolved, in minutes from its start.
    fn resolution(pauses: &[Pause], calendar: Option<&Calendar>) -> Option<i64> {
        let course = Course { started_at: START, met_at: None, pauses };
        let due = ServiceLevels::default().due(Target::Resolution, Priority::Medium, calendar, &course, START);
        due.due_at.map(|due| (due - START) / MINUTE)
    }

    #[test]
    fn targets_by_priority_in_their_own_time() {
        let office = office();
        let levels = ServiceLevels::default();
        // Friday at 17:50: ten minutes of work are left in the week.
        let started_at = START + 4 * 24 * HOUR + 8 * HOUR + 50 * MINUTE;
        let course = Course { started_at, met_at: None, pauses: &[] };
        let weekend = 15 * HOUR + 48 * HOUR;
        for (priority, first, last) in [
            (Priority::Urgent, MINUTE, HOUR),
            (Priority::High, 5 * MINUTE, weekend + 4 * HOUR),
            (Priority::Medium, weekend + 15 * MINUTE, weekend + 8 * HOUR),
            (Priority::Low, weekend + HOUR, weekend + 2 * 15 * HOUR + 24 * HOUR),
        ] {
            for (target, span) in [(Target::FirstResponse, first), (Target::Resolution, last)] {
                let due = levels.due(target, priority, Some(&office), &course, started_at);
                assert_eq!(due.due_at, Some(started_at + span), "{priority:?} {target:?}");
                assert_eq!(due.state, DueState::InTime);
            }
        }
    }

    #[test]
    fn the_clock_stands_still_while_the_customer_is_waited_for() {
        let office = office();
        for (name, pauses, around_the_clock, working) in [
            ("none", vec![], Some(480), Some(480)),
            ("an hour", vec![minutes(60, Some(120))], Some(540), Some(540)),
            ("in any order", vec![minutes(200, Some(210)), minutes(60, Some(70))], Some(500), Some(500)),
            ("overlapping", vec![minutes(60, Some(120)), minutes(100, Some(160))], Some(580), Some(1480)),
            ("one in another", vec![minutes(60, Some(160)), minutes(100, Some(110))], Some(580), Some(1480)),
            ("before the start", vec![minutes(-60, Some(30))], Some(510), Some(510)),
            ("before and over", vec![minutes(-60, Some(-30))], Some(480), Some(480)),
            ("backwards", vec![minutes(120, Some(60))], Some(480), Some(480)),
            ("empty", vec![minutes(60, Some(60))], Some(480), Some(480)),
            ("after it is due", vec![minutes(481, Some(600))], Some(480), Some(480)),
            ("lasting", vec![minutes(60, None)], None, None),
            ("lasting, a second inside", vec![minutes(60, None), minutes(70, Some(80))], None, None),
            ("lasting, begun when it was due", vec![minutes(480, None)], Some(480), Some(480)),
            // The night counts for nothing in working time, paused or not.
            ("overnight", vec![minutes(530, Some(1450))], Some(480), Some(480)),
            ("overnight, earlier", vec![minutes(470, Some(1440))], Some(1450), Some(1450)),
        ] {
            assert_eq!(resolution(&pauses, None), around_the_clock, "{name}");
            assert_eq!(resolution(&pauses, Some(&office)), working, "{name}, working time");
        }
    }

    #[test]
    fn warned_after_the_share_and_late_after_the_target() {
        let levels = ServiceLevels::default();
        let pauses = [minutes(10, Some(20))];
        let state = |now: i64, met: Option<i64>| {
            let met_at = met.map(|met| START + met);
            let course = Course { started_at: START, met_at, pauses: &pauses };
            levels.due(Target::Resolution, Priority::Urgent, None, &course, START + now)
        };
        // 60 minutes and a pause of 10; 80 % of 60 are 48.
        let due = state(0, None);
        assert_eq!((due.due_at, due.warn_at), (Some(START + 70 * MINUTE), Some(START + 58 * MINUTE)));
        for (now, met, expected, paused) in [
            (-MINUTE, None, DueState::InTime, false),
            (0, None, DueState::InTime, false),
            (10 * MINUTE, None, DueState::InTime, true),
            (20 * MINUTE, None, DueState::InTime, false),
            (58 * MINUTE - 1, None, DueState::InTime, false),
            (58 * MINUTE, None, DueState::Warning, false),
            (70 * MINUTE, None, DueState::Warning, false),
            (70 * MINUTE + 1, None, DueState::Breached, false),
            (90 * MINUTE, Some(70 * MINUTE), DueState::Met, false),
            (90 * MINUTE, Some(70 * MINUTE + 1), DueState::MetLate, false),
            (15 * MINUTE, Some(5 * MINUTE), DueState::Met, false),
        ] {
            let due = state(now, met);
            assert_eq!((due.state, due.paused), (expected, paused), "{now} {met:?}");
        }
    }

    #[test]
    fn settings_are_read_and_checked() {
        let read: ServiceLevels = toml::from_str(
            "warn_at = 0.5\nhigh = { first_response_minutes = 3, resolution_minutes = 90, clock = \"around_the_clock\" }",
        )
        .unwrap();
        assert_eq!(read.high.resolution_minutes, 90);
        assert_eq!(read.low, ServiceLevels::default().low);
        assert_eq!(read.problems(), Vec::<String>::new());
        assert!(ServiceLevels::default().problems().is_empty());
        assert_eq!(toml::from_str::<ServiceLevels>(&toml::to_string(&read).unwrap()).unwrap(), read);
        assert!(toml::from_str::<ServiceLevels>("warn = 0.5").is_err());
        let mut wrong = ServiceLevels { warn_at: f64::NAN, ..ServiceLevels::default() };
        wrong.low.first_response_minutes = 0;
        wrong.high.resolution_minutes = 1;
        let problems = wrong.problems();
        assert_eq!(problems.len(), 3, "{problems:#?}");
        for (problem, part) in
            problems.iter().zip(["`high.resolution_minutes` (1)", "`low.first_response", "`warn_at`"])
        {
            assert!(problem.starts_with(part), "{problem}");
        }
    }

    proptest! {
        /// The clock, read tick by tick: what is due is due when that much time has passed outside of every pause.
        #[test]
        fn due_is_when_the_time_outside_of_pauses_is_used_up(
            written in prop::collection::vec((0..9_000i64, prop::option::of(0..9_000i64)), 0..6),
        ) {
            let levels = ServiceLevels {
                // 3,000 ticks of 100 milliseconds.
                urgent: ServiceLevel { first_response_minutes: 5, resolution_minutes: 5, clock: Clock::AroundTheClock },
                ..ServiceLevels::default()
            };
            let pauses: Vec<Pause> =
                written.iter().map(|(from, to)| Pause { from: from * 100, to: to.map(|to| to * 100) }).collect();
            let course = Course { started_at: 0, met_at: None, pauses: &pauses };
            let due = levels.due(Target::Resolution, Priority::Urgent, None, &course, 0).due_at;
            let mut used = 0;
            let by_the_book = (0..40_000i64).find_map(|tick| {
                let paused = written.iter().any(|(from, to)| tick >= *from && to.is_none_or(|to| tick < to));
                used += i64::from(!paused);
                (used == 3_000).then_some((tick + 1) * 100)
            });
            prop_assert_eq!(due, by_the_book);
        }

        #[test]
        fn no_numbers_make_it_panic(
            started_at in any::<i64>(),
            met_at in any::<Option<i64>>(),
            pauses in prop::collection::vec(any::<(i64, Option<i64>)>(), 0..4),
            now in any::<i64>(),
            warn_at in any::<f64>(),
        ) {
            let pauses: Vec<Pause> = pauses.into_iter().map(|(from, to)| Pause { from, to }).collect();
            let course = Course { started_at, met_at, pauses: &pauses };
            let levels = ServiceLevels { warn_at, ..ServiceLevels::default() };
            for calendar in [None, Some(&office())] {
                levels.due(Target::Resolution, Priority::Low, calendar, &course, now);
            }
        }
    }
}
