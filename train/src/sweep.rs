//! `sweep`: `fit` over a small grid of settings and several seeds, ranked by validation score.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    TrainError,
    fit::{self, FitConfig, write_json},
    output, runs,
    statistics::mean_and_deviation,
};

const SUMMARY: &str = "sweep.json";
const RESULT: &str = "result.json";
/// Longest name of a combination's folder; a longer one ends in a digest.
const NAME: usize = 100;

/// The flags of `sweep`.
#[derive(Args, Clone, Debug)]
pub struct SweepArgs {
    /// Values to try for one of fit's flags, such as learning-rate=1e-4,5e-5; may be repeated for other flags
    #[arg(long, required = true, value_name = "FLAG=VALUE,...")]
    pub grid: Vec<String>,
    /// Runs of each combination, with --seed and the numbers after it
    #[arg(long, default_value_t = 3)]
    pub seeds: u64,
    /// Folder for sweep.json and the runs; the same command goes on where it stopped, also with more values or seeds
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Taken as by `fit`, and not needed
    #[arg(long, hide = true)]
    pub resume: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
    /// Settings that all runs share.
    #[command(flatten)]
    pub fit: FitConfig,
}

/// One of fit's flags with the values to try.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GridKey {
    /// As on the command line, without the dashes.
    pub flag: String,
    /// In the order in which they were given.
    pub values: Vec<Value>,
}

/// What one combination gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Combination {
    /// The values of the flags of the grid.
    pub settings: BTreeMap<String, Value>,
    /// The same, as they are written on the command line.
    pub flags: String,
    /// Mean of the validation scores over the seeds; `None` when no run came to its end.
    pub mean: Option<f64>,
    /// Their sample standard deviation, from two runs on.
    pub standard_deviation: Option<f64>,
    /// The best validation score of each run that came to its end, in the order of seeds.
    pub scores: Vec<f64>,
    /// The epoch of each of them, from 1.
    pub best_epochs: Vec<usize>,
    /// Seeds with which the loss left the numbers.
    pub diverged: Vec<u64>,
    /// Time of all its runs.
    pub seconds: f64,
    /// Folder with a run for each seed.
    pub folder: PathBuf,
}

/// What `sweep` gave, as `sweep.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepSummary {
    /// What was tried.
    pub grid: Vec<GridKey>,
    /// With which seeds.
    pub seeds: Vec<u64>,
    /// Runs that are done.
    pub runs_done: usize,
    /// Runs of the whole grid.
    pub runs: usize,
    /// Best mean validation score first; combinations that diverged with any seed come last.
    pub ranking: Vec<Combination>,
}

/// What a run left for the ranking.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RunResult {
    /// `None` when the loss left the numbers.
    best: Option<Best>,
    /// SHA-256 of the files.
    #[serde(default)]
    data: String,
    seconds: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Best {
    score: f64,
    epoch: usize,
}

/// Runs `sweep` to its end, or until `stop` becomes true. Runs that are done are not repeated, and `sweep.json` is up
/// to date after each.
///
/// # Errors
/// Those of [`fit`](crate::fit::fit), but for a loss that leaves the numbers, which is a result; also when `--grid`
/// names no flag of it or a value does not fit, and when `out` holds something else or cannot be written.
pub fn sweep(args: &SweepArgs, stop: &AtomicBool) -> Result<SweepSummary, TrainError> {
    if args.seeds == 0 {
        return Err(TrainError::Usage("--seeds must be at least 1".into()));
    }
    let grid = parse_grid(&args.fit, &args.grid)?;
    let combinations = combinations(&args.fit, &grid)?;
    // One that cannot be run is told before hours are spent on those before it.
    for (settings, config) in &combinations {
        let unusable = |error: TrainError| TrainError::Usage(format!("--grid, {}: {error}", flags(settings)));
        fit::validate(config).map_err(unusable)?;
    }
    let data = fingerprint(&args.fit)?;
    let seeds: Vec<u64> = (0..args.seeds).map(|more| args.fit.seed.wrapping_add(more)).collect();
    let out = &args.out;
    runs::claim(out, SUMMARY, "yingda-train sweep")?;
    let mut results: Vec<Vec<(u64, RunResult)>> = vec![Vec::new(); combinations.len()];
    // Seed by seed, so that a sweep that is stopped early has tried everything.
    let all = seeds.len() * combinations.len();
    for (round, &seed) in seeds.iter().enumerate() {
        for (place, (settings, config)) in combinations.iter().enumerate() {
            let number = round * combinations.len() + place + 1;
            write_json(&out.join(SUMMARY), &summary(out, &grid, &seeds, &combinations, &results))?;
            let run = out.join(folder_name(settings)).join(format!("seed-{seed}"));
            let config = FitConfig { seed, ..config.clone() };
            let what = format!("run {number} of {all}: {} --seed {seed}", flags(settings));
            results[place].push((seed, one_run(&config, &data, &run, &what, stop)?));
        }
    }
    let summary = summary(out, &grid, &seeds, &combinations, &results);
    write_json(&out.join(SUMMARY), &summary)?;
    Ok(summary)
}

fn one_run(config: &FitConfig, data: &str, run: &Path, what: &str, stop: &AtomicBool) -> Result<RunResult, TrainError> {
    let path = run.join(RESULT);
    if path.exists() {
        runs::same_settings(config, run)?;
        let text = std::fs::read(&path).map_err(TrainError::io("read", &path))?;
        let result: RunResult = serde_json::from_slice(&text).map_err(|error| {
            TrainError::Usage(format!("{} is damaged ({error}); remove it to run its run again", path.display()))
        })?;
        if result.data != data {
            return Err(TrainError::Usage(format!(
                "{} was run on other data, with which it cannot be ranked; put the old files back, or name a new --out",
                run.display()
            )));
        }
        output::line(&format!("{what} is done"));
        return Ok(result);
    }
    output::line(what);
    let started = Instant::now();
    let best = match runs::fit_to_the_end(config, run, stop) {
        Ok(summary) => Some(Best { score: summary.validation_score, epoch: summary.best_epoch }),
        Err(error @ TrainError::Diverged { .. }) => {
            output::line(&format!("{error}; the sweep goes on"));
            None
        }
        Err(error) => return Err(error),
    };
    let result = RunResult { best, data: data.to_owned(), seconds: started.elapsed().as_secs_f64() };
    write_json(&path, &result)?;
    runs::remove_checkpoint(run)?;
    Ok(result)
}

/// SHA-256 of what all runs read.
fn fingerprint(config: &FitConfig) -> Result<String, TrainError> {
    let mut hasher = Sha256::new();
    for path in config.data.iter().chain(&config.test).chain(&config.knowledge) {
        let mut file = std::fs::File::open(path).map_err(TrainError::io("read", path))?;
        let mut block = vec![0; 1 << 16];
        loop {
            match file.read(&mut block).map_err(TrainError::io("read", path))? {
                0 => break,
                count => hasher.update(&block[..count]),
            }
        }
        hasher.update(b"|");
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The flags that a grid can have: those of one value. The seed has its own flag.
fn known_flags(fields: &serde_json::Map<String, Value>) -> Vec<String> {
    let single = fields.iter().filter(|(name, value)| !value.is_array() && *name != "seed");
    let mut known: Vec<String> = single.map(|(name, _)| name.replace('_', "-")).collect();
    known.sort_unstable();
    known
}

fn parse_grid(config: &FitConfig, given: &[String]) -> Result<Vec<GridKey>, TrainError> {
    let fields = fields(config);
    let known = known_flags(&fields);
    let mut grid: Vec<GridKey> = Vec::new();
    for text in given {
        let usage = |what: String| TrainError::Usage(format!("--grid {text}: {what}"));
        let Some((flag, values)) = text.split_once('=') else {
            return Err(usage("write it as FLAG=VALUE,VALUE, such as learning-rate=1e-4,5e-5".into()));
        };
        let flag = flag.trim().trim_start_matches("--").replace('_', "-");
        if flag == "seed" {
            return Err(usage(
                "seeds have their own flags: --seeds 3 runs everything three times, from --seed on".into(),
            ));
        }
        if !known.contains(&flag) {
            return Err(usage(format!("fit has no flag `{flag}` of one value; the flags are {}", known.join(", "))));
        }
        if config.base.is_some() && ["hidden", "layers", "heads", "embeddings"].contains(&flag.as_str()) {
            return Err(usage(format!("--base has a shape and weights of its own, which `{flag}` does not change")));
        }
        if grid.iter().any(|key| key.flag == flag) {
            return Err(usage(format!("`{flag}` was given already; name all its values in one --grid")));
        }
        let mut parsed: Vec<Value> = Vec::new();
        for word in values.split(',').map(str::trim) {
            let value = fitting(&fields, &flag, word)
                .ok_or_else(|| usage(format!("`{word}` is no value for --{flag}; give what fit takes there")))?;
            if parsed.contains(&value) {
                return Err(usage(format!("`{word}` is there twice")));
            }
            parsed.push(value);
        }
        grid.push(GridKey { flag, values: parsed });
    }
    Ok(grid)
}

fn fields(config: &FitConfig) -> serde_json::Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("the settings are an object"),
    }
}

/// The value that `word` means for a flag: a number or a truth value where the settings take it, or else a text.
fn fitting(fields: &serde_json::Map<String, Value>, flag: &str, word: &str) -> Option<Value> {
    if word.is_empty() {
        return None;
    }
    let field = flag.replace('-', "_");
    let scalar = serde_json::from_str(word).ok().filter(|value: &Value| value.is_number() || value.is_boolean());
    scalar.into_iter().chain([Value::String(word.to_owned())]).find(|value| {
        let mut fields = fields.clone();
        fields.insert(field.clone(), value.clone());
        serde_json::from_value::<FitConfig>(Value::Object(fields)).is_ok()
    })
}

/// Every combination of the grid with its settings; the values of the last flag change fastest.
#[expect(clippy::type_complexity, reason = "the values of the grid beside all settings")]
fn combinations(config: &FitConfig, grid: &[GridKey]) -> Result<Vec<(Vec<(String, Value)>, FitConfig)>, TrainError> {
    let mut all: Vec<Vec<(String, Value)>> = vec![Vec::new()];
    for key in grid {
        let longer = |some: &Vec<(String, Value)>| {
            let with = |value: &Value| [&some[..], &[(key.flag.clone(), value.clone())]].concat();
            key.values.iter().map(with).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all.into_iter()
        .map(|settings| {
            let mut fields = fields(config);
            fields.extend(settings.iter().map(|(flag, value)| (flag.replace('-', "_"), value.clone())));
            let config = serde_json::from_value(Value::Object(fields))
                .map_err(|error| TrainError::Usage(format!("{} cannot be run: {error}", flags(&settings))))?;
            Ok((settings, config))
        })
        .collect()
}

fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The settings as they are written on the command line.
fn flags(settings: &[(String, Value)]) -> String {
    let flag = |(flag, value): &(String, Value)| match value {
        Value::Bool(true) => format!("--{flag}"),
        Value::Bool(false) => format!("(no --{flag})"),
        value => format!("--{flag} {}", written(value)),
    };
    settings.iter().map(flag).collect::<Vec<_>>().join(" ")
}

/// A folder name that tells the settings, by the values alone: 1e-4 and 0.0001 are the same combination.
fn folder_name(settings: &[(String, Value)]) -> String {
    let whole: Vec<String> = settings.iter().map(|(flag, value)| format!("{flag}={}", written(value))).collect();
    let whole = whole.join("_");
    let safe = |c: char| c.is_ascii_alphanumeric() || "=_.-+".contains(c);
    if whole.len() <= NAME && whole.chars().all(safe) {
        return whole;
    }
    let digest: String = Sha256::digest(whole.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let short: String = whole.chars().map(|c| if safe(c) { c } else { '-' }).take(NAME).collect();
    format!("{short}_{digest}")
}

fn summary(
    out: &Path,
    grid: &[GridKey],
    seeds: &[u64],
    combinations: &[(Vec<(String, Value)>, FitConfig)],
    results: &[Vec<(u64, RunResult)>],
) -> SweepSummary {
    let mut ranking: Vec<Combination> = combinations
        .iter()
        .zip(results)
        .filter(|(_, results)| !results.is_empty())
        .map(|((settings, _), results)| {
            let best: Vec<&Best> = results.iter().filter_map(|(_, result)| result.best.as_ref()).collect();
            let scores: Vec<f64> = best.iter().map(|best| best.score).collect();
            let (mean, standard_deviation) = mean_and_deviation(&scores);
            Combination {
                settings: settings.iter().cloned().collect(),
                flags: flags(settings),
                mean,
                standard_deviation,
                scores,
                best_epochs: best.iter().map(|best| best.epoch).collect(),
                diverged: results.iter().filter(|(_, r)| r.best.is_none()).map(|(seed, _)| *seed).collect(),
                seconds: results.iter().map(|(_, result)| result.seconds).sum(),
                folder: out.join(folder_name(settings)),
            }
        })
        .collect();
    ranking.sort_by(better_first);
    SweepSummary {
        grid: grid.to_vec(),
        seeds: seeds.to_vec(),
        runs_done: results.iter().map(Vec::len).sum(),
        runs: seeds.len() * combinations.len(),
        ranking,
    }
}

fn better_first(a: &Combination, b: &Combination) -> Ordering {
    let mean = |combination: &Combination| combination.mean.unwrap_or(f64::NEG_INFINITY);
    (!a.diverged.is_empty()).cmp(&!b.diverged.is_empty()).then(mean(b).total_cmp(&mean(a)))
}

impl SweepSummary {
    /// The ranking for a terminal.
    pub fn report(&self) -> String {
        let mut table = Table::new();
        let mut header: Vec<String> = vec!["rank".into()];
        header.extend(self.grid.iter().map(|key| key.flag.clone()));
        header.extend(["validation score", "± over seeds", "runs", "best epoch", "minutes"].map(String::from));
        table.load_style(presets::NOTHING).set_header(header);
        let figure = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        for (place, combination) in self.ranking.iter().enumerate() {
            let mut cells = vec![(place + 1).to_string()];
            cells.extend(self.grid.iter().map(|key| written(&combination.settings[&key.flag])));
            cells.push(figure(combination.mean));
            cells.push(figure(combination.standard_deviation));
            cells.push(match combination.diverged.len() {
                0 => combination.scores.len().to_string(),
                diverged => format!("{}, {diverged} diverged", combination.scores.len()),
            });
            let epochs: Vec<String> = combination.best_epochs.iter().map(ToString::to_string).collect();
            cells.push(epochs.join(" "));
            cells.push(format!("{:.1}", combination.seconds / 60.0));
            table.add_row(cells);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let best = self.ranking.first().filter(|combination| combination.mean.is_some());
        let best = best.map_or("no run came to its end; try lower learning rates".into(), |best| {
            format!("best: {} (by validation; the test split of no run was looked at for this)", best.flags)
        });
        format!("{table}\n\n{best}")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        fit: FitConfig,
        /// The settings name this flag.
        #[arg(long)]
        resume: bool,
    }

    fn config() -> FitConfig {
        Flags::parse_from(["fit", "--data", "chats.csv"]).fit
    }

    fn grid(given: &[&str]) -> Result<Vec<GridKey>, String> {
        let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
        parse_grid(&config(), &given).map_err(|error| error.to_string())
    }

    #[test]
    fn a_grid_sets_what_it_names() {
        let grid =
            grid(&["learning-rate=1e-4,5e-5", "epochs = 3", "no_mask=true,false", "base=2024"]).expect("a good grid");
        let all = combinations(&config(), &grid).expect("combinations");
        assert_eq!(all.len(), 4);
        let names: Vec<String> = all.iter().map(|(settings, _)| folder_name(settings)).collect();
        assert_eq!(names[1], "learning-rate=0.0001_epochs=3_no-mask=false_base=2024");
        let (settings, config) = &all[2];
        assert_eq!((config.learning_rate, config.epochs, config.no_mask), (Some(5e-5), 3, true));
        assert_eq!(config.base.as_deref(), Some("2024"), "a text, although it looks like a number");
        assert_eq!(flags(settings), "--learning-rate 0.00005 --epochs 3 --no-mask --base 2024");
        assert_eq!(config.data, [PathBuf::from("chats.csv")]);
    }

    #[test]
    fn a_bad_grid_says_what_to_write() {
        for (given, said) in [
            (&["dropout"][..], "FLAG=VALUE"),
            (&["drop-out=0.1"], "fit has no flag `drop-out` of one value; the flags are average-epochs"),
            (&["data=a,b"], "fit has no flag `data` of one value"),
            (&["seed=1,2"], "--seeds 3"),
            (&["epochs=1.5"], "`1.5` is no value for --epochs"),
            (&["dropout=0.1,,0.2"], "`` is no value for --dropout"),
            (&["dropout=0.1,1e-1"], "`1e-1` is there twice"),
            (&["dropout=0.1", "dropout=0.2"], "`dropout` was given already"),
        ] {
            let sentence = grid(given).expect_err(said);
            assert!(sentence.contains(said), "{given:?}: {sentence}");
        }
    }

    #[test]
    fn folder_names_are_safe_and_distinct() {
        let name = |value: &str| folder_name(&[("base".to_owned(), Value::from(value))]);
        assert!(!name("../../x").contains('/'));
        assert_ne!(name("a/b"), name("a-b"));
        assert_ne!(name("a/b"), name("a\\b"));
        let long = name(&"x".repeat(300));
        assert!(long.len() < 120 && long != name(&"x".repeat(301)), "{long}");
    }

    /// `statistics.mean` and `statistics.stdev` of Python give 0.8 and 0.05291502622129183.
    #[test]
    fn the_ranking_is_by_mean_and_divergence_comes_last() {
        let (mean, deviation) = mean_and_deviation(&[0.76, 0.78, 0.86]);
        assert!((mean.expect("a mean") - 0.8).abs() < 1e-12);
        assert!((deviation.expect("a deviation") - 0.052_915_026_221_291_83).abs() < 1e-12);
        assert_eq!(mean_and_deviation(&[0.7]), (Some(0.7), None));
        assert_eq!(mean_and_deviation(&[]), (None, None));

        let combination = |mean: Option<f64>, diverged: &[u64]| Combination {
            settings: BTreeMap::new(),
            flags: String::new(),
            mean,
            standard_deviation: None,
            scores: Vec::new(),
            best_epochs: Vec::new(),
            diverged: diverged.to_vec(),
            seconds: 0.0,
            folder: PathBuf::new(),
        };
        let mut all = [
            combination(None, &[1, 2]),
            combination(Some(0.7), &[]),
            combination(Some(0.9), &[2]),
            combination(Some(0.8), &[]),
        ];
        all.sort_by(better_first);
        assert_eq!(all.map(|combination| combination.mean), [Some(0.8), Some(0.7), Some(0.9), None]);
    }
}
