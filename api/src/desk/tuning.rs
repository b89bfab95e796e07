//! What of the desk's settings supervisors change while the service runs.

use serde::{Deserialize, Serialize};

use super::routing::RoutingConfig;
use super::service_level::ServiceLevels;
use super::settings::DeskSettings;

/// Routing and targets. Teams, calendars and all else stay in the configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Whether waiting tickets are offered to those who are there.
    pub route: bool,
    /// How the one who gets a ticket is chosen.
    pub routing: RoutingConfig,
    /// Until when customers are to be answered and their tickets resolved.
    pub service_levels: ServiceLevels,
}

impl Tuning {
    /// What the configuration file says.
    pub fn of(settings: &DeskSettings) -> Self {
        let DeskSettings { route, routing, service_levels, .. } = settings.clone();
        Self { route, routing, service_levels }
    }

    /// All that is wrong, a sentence each, naming the field.
    pub fn problems(&self) -> Vec<String> {
        let inside = |table: &'static str| move |problem: String| format!("{table}: {problem}");
        let routing = self.routing.problems().into_iter().map(inside("routing"));
        routing.chain(self.service_levels.problems().into_iter().map(inside("service_levels"))).collect()
    }

    /// The settings, with this in them.
    pub(super) fn applied(self, settings: &DeskSettings) -> DeskSettings {
        let Self { route, routing, service_levels } = self;
        DeskSettings { route, routing, service_levels, ..settings.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuning_changes_what_it_names_and_nothing_else() {
        let settings = DeskSettings { offline_seconds: 99, ..DeskSettings::default() };
        let mut tuning = Tuning::of(&settings);
        assert_eq!(tuning.clone().applied(&settings), settings);
        tuning.route = false;
        tuning.routing.accept_seconds = 7;
        let applied = tuning.clone().applied(&settings);
        assert_eq!((applied.route, applied.routing.accept_seconds, applied.offline_seconds), (false, 7, 99));
        assert_eq!(tuning.problems(), Vec::<String>::new());
        tuning.routing.accept_seconds = 0;
        tuning.service_levels.warn_at = 2.0;
        let problems = tuning.problems();
        assert!(problems[0].starts_with("routing: `accept_seconds`"), "{problems:?}");
        assert!(problems[1].starts_with("service_levels: "), "{problems:?}");
    }
}
