//! `export`: a model folder in another number format, or for other programs: transformers, sentence-transformers, ONNX.

mod hugging_face;
mod onnx;
mod onnx_graph;
mod onnx_lexical;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use yingda_datasets::ColumnMap;
use yingda_models::{ModelFolder, ModelSettings, Precision, ServingPrecision};

use crate::{TrainError, chats::Seen, eval, metrics::TaskScores, output};

pub use hugging_face::{export_hugging_face, export_sentence_transformers};
pub use onnx::{OnnxSummary, export_onnx};

/// For which program the folder is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ExportFormat {
    /// Yingda itself
    #[default]
    Yingda,
    /// transformers: loads with AutoModel; Yingda reads it, too
    HuggingFace,
    /// sentence-transformers: as hugging-face, with pooling and normalisation; Yingda reads it, too
    SentenceTransformers,
    /// ONNX: encoder, embedding and both heads in model.onnx
    Onnx,
}

/// Number format on the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PrecisionFlag {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// Served in 8-bit integers on the CPU; the weights are kept as 16-bit floats
    Int8,
}

/// Flags of `export`.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportFlags {
    /// Model folder
    #[arg(long, value_name = "FOLDER")]
    pub model: PathBuf,
    /// New folder
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// For which program
    #[arg(long, value_enum, default_value = "yingda")]
    pub format: ExportFormat,
    /// Number format of the weights: f16 when it is left out for yingda, else f32
    #[arg(long, value_enum)]
    pub precision: Option<PrecisionFlag>,
    /// Labelled chats on which the model is scored before and after
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Column names of --data: OURS=THEIRS, such as text=content; may be repeated
    #[arg(long, value_name = "OURS=THEIRS")]
    pub map: Vec<String>,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

impl ExportFlags {
    /// Writes the folder.
    ///
    /// # Errors
    /// As the function of each format, and when the flags contradict each other.
    pub fn run(&self) -> Result<Exported, TrainError> {
        let serving = match (self.precision, self.format) {
            (Some(PrecisionFlag::Int8), ExportFormat::Yingda) => ServingPrecision::Int8,
            (Some(PrecisionFlag::Int8), _) => {
                return Err(TrainError::Usage(
                    "--precision int8 is for Yingda's own format; leave --format out, or quantize with the other program"
                        .to_owned(),
                ));
            }
            _ => ServingPrecision::F32,
        };
        // What cannot be read is told before anything is written.
        let before = self.scores(&self.model)?;
        let precision = match (self.precision, self.format) {
            (Some(PrecisionFlag::Int8), _) => Precision::F16,
            (Some(PrecisionFlag::F32), _) => Precision::F32,
            (Some(PrecisionFlag::F16), ExportFormat::Onnx) => {
                return Err(TrainError::Usage(
                    "--format onnx writes 32-bit floats; leave --precision f16 out".to_owned(),
                ));
            }
            (Some(PrecisionFlag::F16), _) | (None, ExportFormat::Yingda) => Precision::F16,
            (None, _) => Precision::F32,
        };
        Ok(match self.format {
            ExportFormat::Yingda => self.scored(export(&self.model, &self.out, precision, serving)?, before)?,
            ExportFormat::HuggingFace => {
                self.scored(export_hugging_face(&self.model, &self.out, precision)?, before)?
            }
            ExportFormat::SentenceTransformers => {
                self.scored(export_sentence_transformers(&self.model, &self.out, precision)?, before)?
            }
            ExportFormat::Onnx => Exported::Onnx(export_onnx(&self.model, &self.out)?),
        })
    }
}

type MacroF1 = [Option<f64>; 2];

impl ExportFlags {
    /// Macro-F1 of a folder's heads on --data, if there is any.
    fn scores(&self, folder: &Path) -> Result<Option<MacroF1>, TrainError> {
        if self.data.is_empty() {
            return Ok(None);
        }
        let scores = eval::score_folder(folder, &self.data, &ColumnMap::for_chats(&self.map)?)?;
        Ok(Some([&scores.intent, &scores.sentiment].map(|task| task.as_ref().map(|task: &TaskScores| task.macro_f1))))
    }

    /// Adds the scores on --data before and after.
    fn scored(&self, mut summary: ExportSummary, before: Option<MacroF1>) -> Result<Exported, TrainError> {
        if let Some((before, after)) = before.zip(self.scores(&self.out)?) {
            summary.intent_macro_f1 = before[0].zip(after[0]);
            summary.sentiment_macro_f1 = before[1].zip(after[1]);
        }
        Ok(Exported::Weights(summary))
    }
}

/// What was exported.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Exported {
    /// Weights that Yingda reads, too, and how they differ.
    Weights(ExportSummary),
    /// An ONNX graph.
    Onnx(OnnxSummary),
}

impl Exported {
    /// The summary for a terminal.
    pub fn line(&self) -> String {
        match self {
            Self::Weights(summary) => {
                let mut line = format!(
                    "weights: {:.1} MB -> {:.1} MB; largest change of a probability {:.5}, least cosine of an embedding {:.6}",
                    summary.bytes_before as f64 / 1e6,
                    summary.bytes_after as f64 / 1e6,
                    summary.probability_difference,
                    summary.least_cosine
                );
                for (task, scores) in [("intent", summary.intent_macro_f1), ("sentiment", summary.sentiment_macro_f1)] {
                    if let Some((before, after)) = scores {
                        line.push_str(&format!("\n{task} macro-F1 {before:.4} -> {after:.4} ({:+.4})", after - before));
                    }
                }
                line
            }
            Self::Onnx(summary) => {
                format!("model.onnx: {:.1} MB, {} nodes", summary.bytes as f64 / 1e6, summary.nodes)
            }
        }
    }
}

/// What an export changed.
#[derive(Clone, Debug, Serialize)]
pub struct ExportSummary {
    /// Size of the weights in bytes, before.
    pub bytes_before: u64,
    /// Size of the weights in bytes, after.
    pub bytes_after: u64,
    /// Largest difference of any probability on the probe texts.
    pub probability_difference: f32,
    /// Least cosine between the embeddings of a probe text before and after.
    pub least_cosine: f32,
    /// Macro-F1 of the intent on labelled chats, before and after, when such were given.
    pub intent_macro_f1: Option<(f64, f64)>,
    /// Macro-F1 of the sentiment, likewise.
    pub sentiment_macro_f1: Option<(f64, f64)>,
}

/// Texts of every shape that both folders must agree on.
const PROBES: [&str; 8] = [
    "我的包裹怎么还没到",
    "退货",
    "你好",
    "说了三天了还不处理，太让人失望了！！！",
    "谢谢，问题解决啦😊",
    "訂單號20260101123，幫我查一下",
    "ok",
    "我想问一下上周买的那件蓝色外套尺码偏大能不能换小一号，另外运费是你们出还是我出，换的话大概几天能收到",
];

/// Writes the model in `model` to `out` in `precision`, to be served in `serving`, and compares both on probe texts.
///
/// # Errors
/// When the folder is not a model folder, `out` exists already, or it cannot be written.
pub fn export(
    model: &Path,
    out: &Path,
    precision: Precision,
    serving: ServingPrecision,
) -> Result<ExportSummary, TrainError> {
    let (before, card) = open(model, out)?;
    let mut settings = ModelSettings { serving, ..before.settings.clone() };
    if settings.serving != before.settings.serving && settings.guarantee.take().is_some() {
        // It was certified on probabilities that this model does not give any more.
        output::line(
            "the guarantee of the thresholds was left out; certify the new folder with `yingda-train calibrate`",
        );
    }
    before.model.save(out, &before.tokenizer, &settings, &card, precision)?;
    Seen::read(model)?.write(out)?;
    compare(&before, out)
}

/// The model and its card, when there is a place to export it to.
fn open(model: &Path, out: &Path) -> Result<(ModelFolder, String), TrainError> {
    if out.exists() {
        return Err(TrainError::Usage(format!("--out {} exists already; name a new folder", out.display())));
    }
    let folder = ModelFolder::open(model, &candle_core::Device::Cpu, false)?;
    let card_path = model.join("README.md");
    let card = std::fs::read_to_string(&card_path).map_err(TrainError::io("read", &card_path))?;
    Ok((folder, card))
}

/// Measures on probe texts how the model in `out` differs.
fn compare(before: &ModelFolder, out: &Path) -> Result<ExportSummary, TrainError> {
    let after = ModelFolder::open(out, &candle_core::Device::Cpu, false)?;
    let mut summary = ExportSummary {
        bytes_before: weight_bytes(&before.path)?,
        bytes_after: weight_bytes(out)?,
        probability_difference: 0.0,
        least_cosine: 1.0,
        intent_macro_f1: None,
        sentiment_macro_f1: None,
    };
    for (old, new) in before.predict(&PROBES)?.iter().zip(after.predict(&PROBES)?) {
        let pairs = old.intents.iter().chain(&old.sentiments).zip(new.intents.iter().chain(&new.sentiments));
        for (a, b) in pairs {
            summary.probability_difference = summary.probability_difference.max((a - b).abs());
        }
        let cosine: f32 = old.embedding.iter().zip(&new.embedding).map(|(a, b)| a * b).sum();
        summary.least_cosine = summary.least_cosine.min(cosine);
    }
    Ok(summary)
}

fn weight_bytes(folder: &Path) -> Result<u64, TrainError> {
    ["model.safetensors", "heads.safetensors"]
        .iter()
        .map(|file| {
            let path = folder.join(file);
            Ok(std::fs::metadata(&path).map_err(TrainError::io("read", &path))?.len())
        })
        .sum()
}

/// The card of an export: its front matter names the program, and `section` says how to use it there.
fn card_for(card: &str, library: &str, task: &str, section: &str) -> String {
    let (front, body) = match card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")) {
        Some((front, body)) => (front, body),
        None => ("language: zh", card),
    };
    let kept = front.lines().filter(|line| !line.starts_with("library_name:") && !line.starts_with("pipeline_tag:"));
    let mut text = String::from("---\n");
    for line in kept {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("library_name: {library}\npipeline_tag: {task}\n---\n"));
    text.push_str(body.trim_end());
    text.push_str("\n\n");
    text.push_str(section.trim_end());
    text.push('\n');
    text
}

/// What every program but Yingda must be told about texts.
fn text_note(model: &ModelFolder) -> String {
    format!(
        "The tokenizer reads a text as it stands. Yingda first cleans it (Unicode NFKC, Traditional to Simplified characters, \
         lower case, HTML, emoticons, long repeats) and masks personal data as words such as `[手机号]`; `yingda.json` says \
         which of these steps this model was trained with. Do the same, or scores are lower than in this card. Of a text \
         longer than {} tokens Yingda keeps the beginning and the end; the tokenizer's own truncation keeps the beginning.",
        model.tokenizer.max_tokens()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_names_the_program_and_keeps_the_rest() {
        let card = "---\nlanguage: zh\nlibrary_name: yingda\nlicense: mit\npipeline_tag: text-classification\n---\n\n# A\n\nB\n";
        assert_eq!(
            card_for(card, "onnx", "feature-extraction", "## Use\n\nC\n\n"),
            "---\nlanguage: zh\nlicense: mit\nlibrary_name: onnx\npipeline_tag: feature-extraction\n---\n\n# A\n\nB\n\n## Use\n\nC\n"
        );
        assert_eq!(
            card_for("A.\n", "onnx", "x", "B"),
            "---\nlanguage: zh\nlibrary_name: onnx\npipeline_tag: x\n---\nA.\n\nB\n"
        );
    }
}
