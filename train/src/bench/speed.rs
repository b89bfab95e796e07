//! How fast this program trains and serves, beside a peer that is measured in the same run.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use candle_core::Device;
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use yingda_models::{
    Batch, BertConfig, Labels, Learner, ModelSettings, MultiTaskModel, Parameters, Pooling, Precision, SENTIMENTS,
    Seeded, ServingPrecision, Temperatures, TextTokenizer, Thresholds, text::TextContract,
};

use super::peer;
use crate::{
    TrainError,
    export::export_onnx,
    loss,
    optimizer::{AdamW, AdamWSettings},
    output,
};

/// Labels of the classifier that is timed.
const LABELS: usize = 30;
/// Entries of the vocabulary: those of Google's Chinese BERT.
const VOCABULARY: usize = 21_128;
/// 32 messages of a chat: most are short, some are long. The same as in `bench/serving_speed.py`.
const LENGTHS: [usize; 32] = [
    5, 9, 14, 7, 22, 11, 64, 6, 17, 12, 8, 31, 10, 19, 5, 13, 26, 9, 15, 48, 7, 12, 38, 6, 20, 11, 16, 8, 55, 10, 24,
    18,
];

/// Size of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// 4 layers of width 256
    Mini,
    /// 12 layers of width 768, as BERT base
    Base,
}

impl Shape {
    fn name(self) -> &'static str {
        if self == Self::Mini { "mini" } else { "base" }
    }

    fn config(self) -> BertConfig {
        let (layers, hidden) = if self == Self::Mini { (4, 256) } else { (12, 768) };
        BertConfig {
            vocab_size: VOCABULARY,
            hidden_size: hidden,
            num_hidden_layers: layers,
            num_attention_heads: hidden / 64,
            intermediate_size: 4 * hidden,
            max_position_embeddings: 512,
            ..BertConfig::default()
        }
    }
}

/// Flags of `bench training` and `bench serving`.
#[derive(Args, Clone, Debug)]
pub struct SpeedFlags {
    /// Encoder sizes
    #[arg(long, value_enum, num_args = 1.., default_values_t = [Shape::Mini, Shape::Base])]
    pub shape: Vec<Shape>,
    /// Threads of both sides
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Least seconds that every figure is measured over
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// A Python interpreter with the peer's packages (tests/python/requirements.txt); without it only this program is timed
    #[arg(long, value_name = "PROGRAM")]
    pub python: Option<PathBuf>,
    /// Folder of the peers' scripts
    #[arg(long, default_value = "bench", value_name = "FOLDER")]
    pub scripts: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Encoder size.
    pub shape: &'static str,
    /// What was run, such as `1 x 16`.
    pub work: String,
    /// Number format.
    pub precision: &'static str,
    /// Our median, in milliseconds.
    pub milliseconds: f64,
    /// The peer's median, in milliseconds.
    pub peer_milliseconds: Option<f64>,
}

impl Figure {
    /// How many times as fast as the peer; above 1 is faster.
    pub fn ratio(&self) -> Option<f64> {
        Some(self.peer_milliseconds? / self.milliseconds)
    }
}

/// Times training steps.
///
/// # Errors
/// When a tensor operation fails, or the peer cannot be run.
pub fn training(flags: &SpeedFlags) -> Result<Vec<Figure>, TrainError> {
    use_threads(flags.threads);
    flags.shape.iter().map(|&shape| training_step(shape, flags)).collect()
}

/// Times forward passes.
///
/// # Errors
/// When a tensor operation fails, or the peer cannot be run.
pub fn serving(flags: &SpeedFlags) -> Result<Vec<Figure>, TrainError> {
    use_threads(flags.threads);
    let figures: Vec<_> =
        flags.shape.iter().map(|&shape| forward_passes(shape, flags)).collect::<Result<_, TrainError>>()?;
    Ok(figures.concat())
}

fn use_threads(threads: usize) {
    // Fails when the pool exists already: then the caller chose the number of threads.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
}

/// The figures as a table.
pub fn table(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["encoder", "work", "precision", "ms", "peer ms", "times as fast"]);
    for figure in figures {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        table.add_row([
            figure.shape.to_owned(),
            figure.work.clone(),
            figure.precision.to_owned(),
            format!("{:.2}", figure.milliseconds),
            number(figure.peer_milliseconds),
            number(figure.ratio()),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Median milliseconds of `work`, run for at least `seconds` and five times, after three that are not counted.
fn median(seconds: f64, mut work: impl FnMut() -> Result<(), TrainError>) -> Result<f64, TrainError> {
    let mut times = Vec::new();
    let started = Instant::now();
    for round in 0.. {
        let one = Instant::now();
        work()?;
        if round >= 3 {
            times.push(one.elapsed().as_secs_f64() * 1e3);
        }
        if times.len() >= 5 && started.elapsed() >= Duration::from_secs_f64(seconds) {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn model(shape: Shape, trainable: bool) -> Result<MultiTaskModel, TrainError> {
    let parameters = Parameters::new(Default::default(), trainable, 1, 0.02, &Device::Cpu);
    Ok(MultiTaskModel::new(parameters, &shape.config(), &labels(), &Device::Cpu)?.0)
}

fn labels() -> Labels {
    Labels {
        intents: (0..LABELS).map(|index| index.to_string()).collect(),
        sentiments: SENTIMENTS.map(str::to_owned).to_vec(),
    }
}

fn texts(lengths: &[usize]) -> Batch {
    let mut generator = Seeded::new(1, 1);
    let mut batch = Batch::default();
    for &length in lengths {
        let ids: Vec<u32> = (0..length).map(|_| 1 + generator.below(VOCABULARY - 1) as u32).collect();
        batch.push(&ids, length);
    }
    batch
}

/// A training step as `fit` does it: forward with dropout, loss, backward, clipping, one AdamW step.
fn training_step(shape: Shape, flags: &SpeedFlags) -> Result<Figure, TrainError> {
    output::line(&format!("{}: training steps of 32 x 32 tokens", shape.name()));
    let model = model(shape, true)?;
    let mut learner = Learner::new(&model)?;
    let mut optimizer = AdamW::new(AdamWSettings::default());
    let batch = texts(&[32; 32]);
    let labels: Vec<Option<u32>> = (0..32).map(|row| Some(row % LABELS as u32)).collect();
    let mut step = 0;
    let milliseconds = median(flags.seconds, || {
        step += 1;
        learner.clear();
        let pass = learner.forward(batch.clone(), step)?;
        let loss = loss::cross_entropy(&pass.output.intent_logits, &labels, &[1.0; LABELS])?;
        learner.backward(&loss.expect("every row has a label"), vec![pass])?;
        optimizer.step(model.variables(), learner.gradients(), 5e-5)?;
        Ok(())
    })?;
    let peer = match &flags.python {
        None => None,
        Some(python) => {
            let threads = flags.threads.to_string();
            let found = peer(
                python,
                &flags.scripts.join("training_speed.py"),
                &["--shape", shape.name(), "--threads", &threads, "--json"],
            )?;
            found["shapes"][shape.name()]["step_milliseconds"].as_f64()
        }
    };
    Ok(Figure {
        shape: shape.name(),
        work: "training step, 32 x 32".into(),
        precision: "f32",
        milliseconds,
        peer_milliseconds: peer,
    })
}

fn forward_passes(shape: Shape, flags: &SpeedFlags) -> Result<Vec<Figure>, TrainError> {
    let mut model = model(shape, false)?;
    let works: [(&str, Vec<usize>); 5] = [
        ("1x16", vec![16]),
        ("1x64", vec![64]),
        ("32x16", vec![16; 32]),
        ("32x64", vec![64; 32]),
        ("mixed", LENGTHS.to_vec()),
    ];
    let peer = flags.python.as_ref().map(|python| serving_peer(&model, shape, python, flags)).transpose()?;
    let mut figures = Vec::new();
    for (precision, name, theirs) in [(ServingPrecision::F32, "f32", "fp32"), (ServingPrecision::Int8, "int8", "int8")]
    {
        model.serve_in(precision)?;
        let found = peer.as_ref().and_then(|peer| {
            peer["results"].as_array()?.iter().find(|found| found["precision"].as_str() == Some(theirs))
        });
        if let (ServingPrecision::F32, Some(found)) = (precision, found) {
            let difference = largest_difference(&model, found)?;
            output::line(&format!("{}: outputs differ from the peer's by at most {difference:.1e}", shape.name()));
        }
        for (work, lengths) in &works {
            output::line(&format!("{}, {name}: {work}", shape.name()));
            let batch = texts(lengths);
            let milliseconds = median(flags.seconds, || Ok(model.run(&batch).map(drop)?))?;
            figures.push(Figure {
                shape: shape.name(),
                work: (*work).to_owned(),
                precision: name,
                milliseconds,
                peer_milliseconds: found.and_then(|found| found["shapes"][*work]["milliseconds"].as_f64()),
            });
        }
    }
    Ok(figures)
}

/// Writes the model as ONNX and has the peer time it, and answer the mixed batch.
fn serving_peer(
    model: &MultiTaskModel,
    shape: Shape,
    python: &Path,
    flags: &SpeedFlags,
) -> Result<serde_json::Value, TrainError> {
    let folder = tempfile::tempdir().map_err(TrainError::io("make", &std::env::temp_dir()))?;
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let entries: Vec<String> =
        special.into_iter().chain((0..VOCABULARY - 5).map(|index| format!("entry{index}"))).collect();
    let settings = ModelSettings {
        format: 1,
        labels: labels(),
        pooling: Pooling::Mean,
        max_tokens: shape.config().max_position_embeddings,
        context_turns: 0,
        serving: ServingPrecision::F32,
        text: TextContract::default(),
        temperatures: Temperatures::default(),
        thresholds: Thresholds::default(),
        guarantee: None,
        folded: None,
        data_fingerprint: String::new(),
        created_by: "bench".into(),
    };
    let tokenizer = TextTokenizer::from_vocabulary(&entries, settings.text.clone(), settings.max_tokens)?;
    let source = folder.path().join("model");
    model.save(&source, &tokenizer, &settings, "Random weights, for timing.\n", Precision::F32)?;
    let onnx = folder.path().join("onnx");
    export_onnx(&source, &onnx)?;
    let ids = folder.path().join("ids.json");
    let batch = texts(&LENGTHS);
    let rows: Vec<&[u32]> = batch.texts().iter().map(|text| &batch.ids()[text.clone()]).collect();
    crate::fit::write_json(&ids, &rows)?;
    let (threads, seconds) = (flags.threads.to_string(), flags.seconds.to_string());
    let file = |path: &Path| path.display().to_string();
    peer(
        python,
        &flags.scripts.join("serving_speed.py"),
        &[
            &file(&onnx.join("model.onnx")),
            "--ids",
            &file(&ids),
            "--vocabulary",
            "20000",
            "--threads",
            &threads,
            "--seconds",
            &seconds,
            "--json",
        ],
    )
}

/// Largest difference of any output of the mixed batch.
fn largest_difference(model: &MultiTaskModel, found: &serde_json::Value) -> Result<f64, TrainError> {
    let mut worst = 0f64;
    for (row, output) in model.run(&texts(&LENGTHS))?.iter().enumerate() {
        for (name, ours) in [
            ("embedding", &output.embedding),
            ("intent_logits", &output.intent_logits),
            ("sentiment_logits", &output.sentiment_logits),
        ] {
            for (index, ours) in ours.iter().enumerate() {
                let theirs = found["outputs"][name][row][index].as_f64().ok_or_else(|| {
                    TrainError::Usage(format!(
                        "the peer gave no {name} for text {row}; use bench/serving_speed.py as it is"
                    ))
                })?;
                worst = worst.max((f64::from(*ours) - theirs).abs());
            }
        }
    }
    Ok(worst)
}
