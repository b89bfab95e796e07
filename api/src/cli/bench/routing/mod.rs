//! `bench routing`: one day of a call centre, replayed with our routing and with two simpler ones.

mod replay;
mod world;

use std::path::PathBuf;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use yingda::StartError;
use yingda::desk::routing::{PerPriority, RoutingConfig};

use self::replay::{Figures, Policy, WITHOUT_SKILL, replay, rush};
use self::world::World;
use crate::cli::{say, wrong};

/// Fewest agents with whom every shift and every team has somebody.
const FEWEST_AGENTS: usize = 20;

/// What `bench routing` is asked.
#[derive(Clone, Args)]
#[command(after_long_help = ASSUMPTIONS)]
pub(in crate::cli) struct RoutingFlags {
    /// Sessions of the day that want a person, about
    #[arg(long, default_value_t = 20_000)]
    sessions: usize,
    /// Agents, over all shifts
    #[arg(long, default_value_t = 60)]
    agents: usize,
    /// Share of the capacity on shift that the peak hour needs if every session meets an agent with the skill; handling times
    /// are chosen by it
    #[arg(long, default_value_t = 0.88)]
    load: f64,
    /// One team for everything, in place of one for each category
    #[arg(long)]
    pooled: bool,
    /// Settings of our routing to try, as TOML [default: its defaults]
    #[arg(long, value_name = "FILE")]
    routing: Option<PathBuf>,
    /// Seed of the day
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Days, with this and the following seeds; figures are their means
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

/// What is made up, and how; for the help text.
const ASSUMPTIONS: &str = "\
The day is made up. Customers come as a Poisson process with a peak at 11:00 and one at 19:30, ask for one of 20 intents in 5 \
categories (Zipf, exponent 0.8), are VIPs in 5 % of cases, urgent in 3, high in 12, medium in 70 and low in 15 %, and have met an \
agent of the team before in 30 %. Handling times are log-normal (spread 0.7), independent of how many sessions an agent has at once, \
and 1.6 times as long when the agent does not know the intent; how well it is known makes no difference to them.

Agents work one of four shifts, carry 3 to 5 sessions at once, know each intent of their category with probability 0.8 and each \
other one with 0.1, and accept at once. One in four serves the VIP lane. Teams are as large as their category is asked for; after \
30 seconds a team's sessions go to the next one, too. Nobody hangs up, nobody leaves early, and the end of a shift ends no session.

All policies see the same day and the same rules of who may have what; they differ in the order of the queue and the choice of \
the agent. Only ours knows of VIPs, priorities, skills and last agents.";

/// The outcome.
#[derive(Serialize)]
struct Report {
    /// Sessions that were served, all of them; the mean of the days.
    sessions: f64,
    agents: usize,
    pooled: bool,
    seeds: Vec<u64>,
    load: f64,
    /// Hours with the highest load, one a day.
    peak_hours: Vec<usize>,
    /// Mean handling time with the skill.
    handling_seconds: f64,
    policies: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    policy: &'static str,
    #[serde(flatten)]
    figures: Figures,
}

pub(super) fn run(flags: &RoutingFlags) -> Result<(), StartError> {
    if flags.sessions == 0 || flags.seeds == 0 || flags.agents < FEWEST_AGENTS {
        return Err(wrong(format!("--sessions and --seeds want at least 1, --agents at least {FEWEST_AGENTS}")));
    }
    if !(0.01..=2.0).contains(&flags.load) {
        return Err(wrong("--load wants a share from 0.01 to 2, such as 0.88".to_owned()));
    }
    let seeds: Vec<u64> = (0..flags.seeds).map(|number| flags.seed.wrapping_add(number)).collect();
    let ours = settings(flags).map_err(wrong)?;
    let units = ours.load_units;
    let days =
        seeds.iter().map(|seed| World::new(flags, *seed, units)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let mean = |figure: fn(&World) -> f64| days.iter().map(figure).sum::<f64>() / days.len() as f64;
    let policies = policies(ours);
    let rows = policies.each_ref().map(|policy| {
        let figures: Vec<Figures> = days.iter().map(|day| replay(day, policy)).collect();
        Row { policy: policy.name, figures: Figures::mean(&figures) }
    });
    let report = Report {
        sessions: mean(|day| day.sessions.len() as f64),
        agents: flags.agents,
        pooled: flags.pooled,
        load: flags.load,
        peak_hours: days.iter().map(|day| day.peak_hour).collect(),
        handling_seconds: mean(|day| day.handling_seconds),
        policies: rows.into(),
        seeds,
    };
    if flags.json {
        say!("{}", serde_json::to_string_pretty(&report).expect("plain data is always JSON"));
    } else {
        print(&report);
        let rushed = RoutingFlags { sessions: 1000, agents: 200, ..flags.clone() };
        let world = World::new(&rushed, flags.seed, units).map_err(wrong)?;
        say!(
            "\none decision over {} waiting tickets and 200 idle agents takes {:.1} ms",
            world.sessions.len(),
            rush(&world, &policies[0])
        );
    }
    Ok(())
}

/// The settings of our routing.
fn settings(flags: &RoutingFlags) -> Result<RoutingConfig, String> {
    let Some(path) = &flags.routing else { return Ok(RoutingConfig::default()) };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let settings: RoutingConfig = toml::from_str(&text)
        .map_err(|error| format!("{} is not as it should be: {}", path.display(), error.to_string().trim_end()))?;
    match settings.problems().as_slice() {
        [] => Ok(settings),
        problems => Err(format!("{} cannot be used:\n- {}", path.display(), problems.join("\n- "))),
    }
}

/// Ours and two that know neither VIPs nor priorities, skills or last agents.
fn policies(ours: RoutingConfig) -> [Policy; 3] {
    let simple = RoutingConfig {
        skill_weight: 0.0,
        last_agent_weight: 0.0,
        load_weight: 0.0,
        vip_reserved_units: 0,
        head_start_seconds: PerPriority { low: 0, medium: 0, high: 0, urgent: 0 },
        skill_head_start_seconds: 0,
        ..ours.clone()
    };
    [
        Policy { name: "yingda", config: ours, knows_vips: true },
        Policy { name: "least load", config: RoutingConfig { load_weight: 1.0, ..simple.clone() }, knows_vips: false },
        Policy { name: "first come, longest idle", config: simple, knows_vips: false },
    ]
}

fn print(report: &Report) {
    let Report { sessions, agents, pooled, seeds, load, peak_hours, handling_seconds, policies } = report;
    let teams = if *pooled { "one team" } else { "a team for each category" };
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let hours: Vec<String> = peak_hours.iter().map(|hour| format!("{hour}:00")).collect();
    say!("{sessions:.0} sessions, {agents} agents, {teams}; seed {}", seeds.join(", "));
    say!(
        "peak hour {}: {:.0} % of the capacity on shift if every session meets the skill",
        hours.join(", "),
        load * 100.0
    );
    say!(
        "handling {handling_seconds:.0} s with the skill, {:.0} s without; all sessions were served\n",
        handling_seconds * WITHOUT_SKILL
    );
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "policy",
        "mean wait s",
        "p95 s",
        "longest s",
        "VIP p95 s",
        "VIP late though free",
        "skilled",
        "last agent",
        "mean handling s",
    ]);
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    for Row { policy, figures } in policies {
        table.add_row([
            (*policy).to_owned(),
            format!("{:.1}", figures.mean_wait_seconds),
            format!("{:.1}", figures.p95_wait_seconds),
            format!("{:.1}", figures.longest_wait_seconds),
            format!("{:.1}", figures.vip_p95_wait_seconds),
            percent(figures.vip_late_while_free),
            percent(figures.skilled),
            percent(figures.last_agent),
            format!("{:.1}", figures.mean_handling_seconds),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    say!("{table}");
}
