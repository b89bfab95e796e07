//! `yingda-train`: check chats, fit a model on them, evaluate it, export it, and the tools around that.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::{Parser, Subcommand, ValueEnum};
use yingda_datasets::{CheckOptions, ColumnMap};
use yingda_models::Precision;
use yingda_train::{
    TrainError,
    check::check,
    eval::{eval, report},
    export::export,
    fit::{FitConfig, fit},
    noise::{NoiseArgs, noise},
    suggest::{SuggestArgs, suggest},
    sweep::{SweepArgs, sweep},
};

/// Train the intent, sentiment and embedding model of Yingda on historical chats.
#[derive(Parser)]
#[command(version, about, max_term_width = 120)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read chats and tell everything that is wrong with them; writes nothing, exit code 2 when something must be mended
    Check {
        /// CSV, TSV, JSON Lines, JSON or Parquet
        #[arg(required = true, value_name = "FILE")]
        data: Vec<PathBuf>,
        /// Column names: OURS=THEIRS, such as text=content; may be repeated
        #[arg(long, value_name = "OURS=THEIRS")]
        map: Vec<String>,
        /// Warn about classes with fewer messages
        #[arg(long, default_value_t = 10)]
        min_class: usize,
        /// A file with the allowed intents, one a line; any other is an error
        #[arg(long, value_name = "FILE")]
        intents: Option<PathBuf>,
        /// Print the whole report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Fine-tune both heads together with the encoder
    Fit {
        #[command(flatten)]
        config: Box<FitConfig>,
        /// Folder of the run: configuration, splits, metrics, checkpoint, test report, and the model in `model/`
        #[arg(long, value_name = "RUN")]
        out: PathBuf,
        /// Go on with the run in --out where it was stopped, with the settings it began with
        #[arg(long)]
        resume: bool,
        /// Print the summary as JSON
        #[arg(long)]
        json: bool,
    },
    /// Score a model on labelled chats: per class, confusion, calibration; writes metrics, predictions and mistakes
    Eval {
        /// Model folder
        #[arg(long, value_name = "FOLDER")]
        model: PathBuf,
        /// Labelled chats
        #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
        data: Vec<PathBuf>,
        /// Column names: OURS=THEIRS, such as text=content; may be repeated
        #[arg(long, value_name = "OURS=THEIRS")]
        map: Vec<String>,
        /// Where metrics.json, predictions.parquet and errors.jsonl go
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// Where to compute: cpu or cuda
        #[arg(long, default_value = "cpu")]
        device: String,
        /// Print the scores as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a model folder in another number format and measure what it changes
    Export {
        /// Model folder
        #[arg(long, value_name = "FOLDER")]
        model: PathBuf,
        /// New folder
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// Number format of the weights
        #[arg(long, value_enum, default_value = "f16")]
        precision: PrecisionFlag,
        /// Print the summary as JSON
        #[arg(long)]
        json: bool,
    },
    /// Find labels that are probably wrong: models that did not learn from a message judge it; writes files to review
    Noise(Box<NoiseArgs>),
    /// Choose what to label next: messages that the model is unsure of and that differ, as Label Studio tasks
    Suggest(SuggestArgs),
    /// Run fit over a grid of settings and several seeds, and rank them by validation score
    Sweep(Box<SweepArgs>),
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionFlag {
    F32,
    F16,
}

#[expect(clippy::print_stderr, reason = "the last word to the user")]
fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

#[expect(clippy::print_stdout, reason = "results go to standard output")]
fn run(command: Command) -> Result<ExitCode, TrainError> {
    match command {
        Command::Check { data, map, min_class, intents, json: as_json } => {
            let intents = intents
                .map(|path| {
                    std::fs::read_to_string(&path)
                        .map(|text| text.lines().map(|line| line.trim().to_owned()).filter(|l| !l.is_empty()).collect())
                        .map_err(|source| TrainError::Io { doing: "read", path, source })
                })
                .transpose()?;
            let options = CheckOptions { intents, min_per_class: min_class, ..CheckOptions::default() };
            let checked = check(&data, &ColumnMap::for_chats(&map)?, &options)?;
            if as_json {
                json(&checked);
            } else {
                println!("{}", checked.table(20));
            }
            Ok(ExitCode::from(if checked.report.has_errors() { 2 } else { 0 }))
        }
        Command::Fit { config, out, resume, json: as_json } => {
            let stop = stop_at_interrupt()?;
            let summary = fit(&config, &out, resume, &stop)?;
            if as_json {
                json(&summary);
            } else {
                println!("{}", report(&summary.test));
                println!("\nbest epoch {}, model: {}", summary.best_epoch, summary.model.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Eval { model, data, map, out, device, json: as_json } => {
            let scores = eval(&model, &data, &ColumnMap::for_chats(&map)?, &out, &device)?;
            if as_json {
                json(&scores);
            } else {
                println!("{}\n\nwritten to {}", report(&scores), out.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Export { model, out, precision, json: as_json } => {
            let precision = match precision {
                PrecisionFlag::F32 => Precision::F32,
                PrecisionFlag::F16 => Precision::F16,
            };
            let summary = export(&model, &out, precision)?;
            if as_json {
                json(&summary);
            } else {
                println!(
                    "weights: {:.1} MB -> {:.1} MB; largest change of a probability {:.5}, least cosine of an embedding {:.6}\n\
                     written to {}",
                    summary.bytes_before as f64 / 1e6,
                    summary.bytes_after as f64 / 1e6,
                    summary.probability_difference,
                    summary.least_cosine,
                    out.display()
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Noise(args) => {
            let summary = noise(&args, &*stop_at_interrupt()?)?;
            if args.json {
                json(&summary);
            } else {
                println!("{}\n\nto review: {}", summary.report(), summary.suspects.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Suggest(args) => {
            let summary = suggest(&args)?;
            if args.json {
                json(&summary);
            } else {
                println!("{}\nwritten to {}", summary.report(), args.out.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Sweep(args) => {
            let summary = sweep(&args, &*stop_at_interrupt()?)?;
            if args.json {
                json(&summary);
            } else {
                println!("{}", summary.report());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A flag that Ctrl-C sets.
fn stop_at_interrupt() -> Result<Arc<AtomicBool>, TrainError> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    // A second Ctrl-C ends the program at once: the last checkpoint is whole in any case.
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| {
        TrainError::Usage(format!("cannot listen for Ctrl-C ({error}); start the program from a normal shell"))
    })?;
    Ok(stop)
}

#[expect(clippy::print_stdout, reason = "results go to standard output")]
fn json(value: &impl serde::Serialize) {
    println!("{}", serde_json::to_string_pretty(value).expect("plain data is always JSON"));
}
