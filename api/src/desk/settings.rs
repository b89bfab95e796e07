//! What the configuration file says of the desk.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::attachments::AttachmentSettings;
use super::calendar::{Calendar, CalendarSettings};
use super::intervention::{InterventionSettings, Rule};
use super::routing::{Overflow, RoutingConfig, Team};
use super::service_level::ServiceLevels;
use super::survey::SurveySettings;

/// The table `[desk]` of the configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeskSettings {
    /// Whether waiting tickets are offered to those who are there. Nothing happens while nobody is.
    pub route: bool,
    /// How the one who gets a ticket is chosen.
    pub routing: RoutingConfig,
    /// Until when customers are to be answered and their tickets resolved.
    pub service_levels: ServiceLevels,
    /// Working times by name.
    pub calendars: BTreeMap<String, CalendarSettings>,
    /// The calendar of the targets that count working time; all the time when left out.
    pub calendar: Option<String>,
    /// Teams. One that is not listed has no overflow and serves everything.
    pub teams: Vec<TeamSettings>,
    /// Files beside a conversation.
    pub attachments: AttachmentSettings,
    /// Seconds without a sign of life after which somebody counts as offline.
    pub offline_seconds: u32,
    /// Seconds after which the tickets of somebody who is offline go back to their queue.
    pub abandoned_seconds: u32,
    /// Which customers are asked what when their ticket is done.
    pub survey: SurveySettings,
    /// What the service does by itself when a customer is badly off.
    pub intervention: Vec<InterventionSettings>,
}

impl Default for DeskSettings {
    fn default() -> Self {
        Self {
            route: true,
            routing: RoutingConfig::default(),
            service_levels: ServiceLevels::default(),
            calendars: BTreeMap::new(),
            calendar: None,
            teams: Vec::new(),
            attachments: AttachmentSettings::default(),
            offline_seconds: 45,
            abandoned_seconds: 300,
            survey: SurveySettings::default(),
            intervention: Vec::new(),
        }
    }
}

/// A team.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeamSettings {
    /// Its name.
    pub name: String,
    /// The intents and categories that it serves; all when left out.
    #[serde(default)]
    pub skills: Vec<String>,
    /// Where its tickets go when it has no room.
    #[serde(default)]
    pub overflow: Option<Overflow>,
    /// Whether it belongs to another organisation, which gets only what is transferred to it.
    #[serde(default)]
    pub outside: bool,
}

/// Settings that have been checked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) settings: DeskSettings,
    pub(super) calendars: BTreeMap<String, Arc<Calendar>>,
}

impl DeskSettings {
    /// All that is wrong, a sentence each, naming the field.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let inside = |table: &str, found: Vec<String>| {
            found.into_iter().map(|problem| format!("[desk.{table}] {problem}")).collect::<Vec<_>>()
        };
        problems.extend(inside("routing", self.routing.problems()));
        problems.extend(inside("service_levels", self.service_levels.problems()));
        problems.extend(inside("survey", self.survey.problems()));
        if let Err(found) = Rule::all(&self.intervention, &self.teams) {
            problems.extend(found);
        }
        problems.extend(inside("attachments", self.attachments.problems()));
        for (name, settings) in &self.calendars {
            if let Err(error) = Calendar::new(settings.clone()) {
                problems.extend(inside(&format!("calendars.{name}"), error.problems));
            }
        }
        if let Some(name) = self.calendar.as_ref().filter(|name| !self.calendars.contains_key(*name)) {
            problems.push(format!("[desk] `calendar` is {name:?}, which no [desk.calendars.{name}] describes"));
        }
        for (number, team) in self.teams.iter().enumerate() {
            if self.teams[..number].iter().any(|other| other.name == team.name) {
                problems.push(format!("[[desk.teams]] names {:?} twice; give every team its own name", team.name));
            }
            if let Some(overflow) = &team.overflow
                && !self.teams.iter().any(|other| other.name == overflow.team)
            {
                problems.push(format!(
                    "[[desk.teams]] {:?} overflows to {:?}, which is not among the teams; add it, or correct the name",
                    team.name, overflow.team
                ));
            }
        }
        if self.offline_seconds < 10 {
            problems.push(
                "[desk] `offline_seconds` is under 10, but a console tells only every few seconds that it is there"
                    .to_owned(),
            );
        }
        problems
    }
}

impl Plan {
    /// Of settings without [`DeskSettings::problems`].
    pub(super) fn new(settings: DeskSettings) -> Self {
        let calendars = settings.calendars.iter();
        let calendars = calendars
            .filter_map(|(name, settings)| Some((name.clone(), Arc::new(Calendar::new(settings.clone()).ok()?))))
            .collect();
        Self { settings, calendars }
    }

    /// The teams of the settings, and those that only agents name.
    pub(super) fn teams<'a>(&self, of_agents: impl Iterator<Item = &'a str>) -> Vec<Team> {
        let known = self.settings.teams.iter().map(|team| Team {
            id: team.name.clone(),
            skills: team.skills.iter().cloned().collect(),
            overflow: team.overflow.clone(),
            outside: team.outside,
        });
        let mut teams: Vec<Team> = known.collect();
        for name in of_agents {
            if !teams.iter().any(|team| team.id == name) {
                teams.push(Team { id: name.to_owned(), skills: Default::default(), overflow: None, outside: false });
            }
        }
        teams
    }
}
