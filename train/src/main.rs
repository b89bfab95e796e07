//! `yingda-train`: import and check chats, fit a model on them, evaluate, calibrate and compare it, export it.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, parser::ValueSource};
use yingda_datasets::{CheckOptions, ColumnMap};
use yingda_train::{
    TrainError,
    bench::{BenchCommand, accuracy, input, speed},
    check::check,
    compare::{self, CompareFlags, compare},
    eval::{eval, report},
    export::ExportFlags,
    fit::{FitConfig, check_resumed, fit},
    guarantee::{self, CalibrateFlags},
    import::ImportFlags,
    noise::{NoiseArgs, noise},
    pretrain::{PretrainConfig, held_out_line, pretrain},
    suggest::{SuggestArgs, suggest},
    sweep::{SweepArgs, sweep},
    tokenizer::{TokenizerFlags, tokenizer},
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
    /// Make a vocabulary of texts: characters, emoji, digits and Latin pieces
    Tokenizer(TokenizerFlags),
    /// Make a base model: masked language modelling on text, then contrastive training on question pairs
    Pretrain {
        #[command(flatten)]
        config: Box<PretrainConfig>,
        /// Folder of the run: configuration, corpus, metrics, checkpoint, and the base model in `model/`
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
    /// Time training and serving and score models, beside PyTorch, onnxruntime, TF-IDF where they are installed
    Bench {
        /// What is measured
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Write a model folder in another number format and measure what it changes, or for transformers, sentence-transformers,
    /// onnxruntime
    Export(ExportFlags),
    /// Make chats of exports from Label Studio, doccano or Rasa NLU; exit code 2, and nothing written, when something must be
    /// mended
    Import(ImportFlags),
    /// Choose the confidence from which wrong automatic answers provably stay below a bound; writes it into the model folder
    Calibrate(CalibrateFlags),
    /// Compare two models on the same labelled chats: what is lost, what is gained, and what may be chance
    Compare(CompareFlags),
    /// Find labels that are probably wrong: models that did not learn from a message judge it; writes files to review
    Noise(Box<NoiseArgs>),
    /// Choose what to label next: messages that the model is unsure of and that differ, as Label Studio tasks
    Suggest(SuggestArgs),
    /// Run fit over a grid of settings and several seeds, and rank them by validation score
    Sweep(Box<SweepArgs>),
}

#[expect(clippy::print_stderr, reason = "the last word to the user")]
fn main() -> ExitCode {
    let given = CommandLine::command().get_matches();
    let resumed = resumed_flags(&given);
    let command = CommandLine::from_arg_matches(&given).unwrap_or_else(|error| error.exit()).command;
    match run(command, &resumed) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// The settings that were given beside --resume, by the names of their fields.
fn resumed_flags(given: &ArgMatches) -> Vec<String> {
    let Some((name, given)) = given.subcommand().filter(|(name, _)| ["fit", "pretrain"].contains(name)) else {
        return Vec::new();
    };
    let command = CommandLine::command();
    let flags = command.find_subcommand(name).into_iter().flat_map(clap::Command::get_arguments);
    let names = flags.map(|flag| flag.get_id().as_str()).filter(|name| !["out", "resume", "json"].contains(name));
    let named = names.filter(|name| given.value_source(name) == Some(ValueSource::CommandLine));
    named.map(str::to_owned).collect()
}

fn run(command: Command, resumed: &[String]) -> Result<ExitCode, TrainError> {
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
            show(as_json, &checked, || checked.table(20));
            Ok(ExitCode::from(if checked.report.has_errors() { 2 } else { 0 }))
        }
        Command::Fit { config, out, resume, json: as_json } => {
            if resume {
                check_resumed(&*config, resumed, &out)?;
            }
            let stop = stop_flag()?;
            let summary = fit(&config, &out, resume, &stop)?;
            show(as_json, &summary, || {
                let test = report(&summary.test);
                format!("{test}\n\nbest epoch {}, model: {}", summary.best_epoch, summary.model.display())
            });
            Ok(ExitCode::SUCCESS)
        }
        Command::Tokenizer(flags) => {
            let summary = tokenizer(&flags)?;
            show(flags.json, &summary, || summary.report());
            Ok(ExitCode::SUCCESS)
        }
        Command::Pretrain { config, out, resume, json: as_json } => {
            if resume {
                check_resumed(&*config, resumed, &out)?;
            }
            let summary = pretrain(&config, &out, resume, &*stop_flag()?)?;
            show(as_json, &summary, || {
                let area = summary.pair_area.map_or(String::new(), |area| format!(", pairs AUC {area:.4}"));
                let loss = held_out_line(summary.masked_loss);
                format!("{loss}{area}, {} steps, base model: {}", summary.steps, summary.model.display())
            });
            Ok(ExitCode::SUCCESS)
        }
        Command::Eval { model, data, map, out, device, json: as_json } => {
            let scores = eval(&model, &data, &ColumnMap::for_chats(&map)?, &out, &device)?;
            show(as_json, &scores, || format!("{}\n\nwritten to {}", report(&scores), out.display()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench { command } => {
            match command {
                BenchCommand::Training(flags) => {
                    let figures = speed::training(&flags)?;
                    show(flags.json, &figures, || speed::table(&figures));
                }
                BenchCommand::Serving(flags) => {
                    let figures = speed::serving(&flags)?;
                    show(flags.json, &figures, || speed::table(&figures));
                }
                BenchCommand::Input(flags) => {
                    let stages = input::input(&flags)?;
                    show(flags.json, &stages, || input::table(&stages));
                }
                BenchCommand::Accuracy(flags) => {
                    let found = accuracy::accuracy(&flags, &*stop_flag()?)?;
                    show(flags.json, &found, || accuracy::table(&found));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Calibrate(flags) => {
            match flags.simulate {
                Some(runs) => {
                    let simulation = guarantee::rehearse(&flags, runs)?;
                    show(flags.json, &simulation, || guarantee::simulation_table(&simulation));
                }
                None => {
                    let calibrated = guarantee::certify(&flags)?;
                    show(flags.json, &calibrated, || guarantee::table(&calibrated));
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Compare(flags) => {
            let comparison = compare(&flags)?;
            show(flags.json, &comparison, || compare::report(&comparison));
            Ok(ExitCode::SUCCESS)
        }
        Command::Export(flags) => {
            let exported = flags.run()?;
            show(flags.json, &exported, || format!("{}\nwritten to {}", exported.line(), flags.out.display()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Import(flags) => {
            let summary = flags.run()?;
            show(flags.json, &summary, || summary.table(20));
            Ok(ExitCode::from(if summary.written.is_some() { 0 } else { 2 }))
        }
        Command::Noise(args) => {
            let summary = noise(&args, &*stop_flag()?)?;
            show(args.json, &summary, || format!("{}\n\nto review: {}", summary.report(), summary.suspects.display()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Suggest(args) => {
            let summary = suggest(&args)?;
            show(args.json, &summary, || format!("{}\nwritten to {}", summary.report(), args.out.display()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Sweep(args) => {
            let summary = sweep(&args, &*stop_flag()?)?;
            show(args.json, &summary, || summary.report());
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[expect(clippy::print_stdout, reason = "results go to standard output")]
fn show(as_json: bool, value: &impl serde::Serialize, table: impl FnOnce() -> String) {
    if as_json {
        println!("{}", serde_json::to_string_pretty(value).expect("plain data is always JSON"));
    } else {
        println!("{}", table());
    }
}

/// Becomes true at the first Ctrl-C. A second one ends the program at once: the last checkpoint is whole in any case.
fn stop_flag() -> Result<Arc<AtomicBool>, TrainError> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
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
