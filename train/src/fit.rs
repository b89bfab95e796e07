//! `fit`: from chats to a model folder.

use std::{
    collections::HashSet,
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use candle_core::Tensor;
use clap::Args;
use polars::prelude::{DataFrame, IntoColumn, NamedFrom, Series};
use serde::{Deserialize, Serialize};
use yingda_datasets::{
    Chats, CheckOptions, ColumnMap, Knowledge, Message, NearDuplicates, Role, SplitOptions, check_knowledge,
    has_errors, load_knowledge, write_frame, write_parquet,
};
use yingda_models::{
    BertConfig, FoldedIntents, HiddenAct, Labels, LoadReport, ModelSettings, MultiTaskModel, Parameters, Precision,
    TextTokenizer, character_vocabulary,
    text::{MaskOptions, TextContract},
};

use crate::{
    TrainError, card,
    chats::{self, Seen},
    embeddings::TokenVectors,
    eval,
    examples::{self, Example},
    lexical,
    optimizer::{AdamW, AdamWSettings},
    output,
    retrieval::{self, KnowledgePairs, RetrievalScores},
    run::{self, Run},
    state::{self, State},
    thresholds::Thresholding,
};

/// Everything that decides what a run gives. Kept in the run's `config.json`.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitConfig {
    /// Chats to learn from: CSV, TSV, JSON Lines, JSON or Parquet
    #[arg(long, num_args = 1.., required_unless_present = "resume", value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// Chats to test on, never learnt from; without them a test split is taken from the data
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub test: Vec<PathBuf>,
    /// Column names: OURS=THEIRS, such as text=content; may be repeated
    #[arg(long, value_name = "OURS=THEIRS")]
    pub map: Vec<String>,
    /// Knowledge entries: their wordings train the embedding for retrieval, and the intent where an entry has one
    #[arg(long, value_name = "FILE")]
    pub knowledge: Vec<PathBuf>,
    /// A Hugging Face BERT folder to start from
    #[arg(long, value_name = "FOLDER")]
    pub base: Option<String>,
    /// Let --base name a model at the Hugging Face hub when there is no such folder
    #[arg(long, requires = "base")]
    pub from_hub: bool,
    /// Character vectors to start a fresh encoder from: a word2vec text file, or a folder with .npz and vocab.json
    #[arg(long, value_name = "PATH", conflicts_with = "base")]
    pub embeddings: Option<PathBuf>,
    /// Where to compute: cpu or cuda
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Seed of everything random: the same command on the same data gives the same model
    #[arg(long, default_value_t = 20_260_101)]
    pub seed: u64,
    /// Most passes over the data
    #[arg(long, default_value_t = 20)]
    pub epochs: usize,
    /// Stop after this many epochs without a better validation score
    #[arg(long, default_value_t = 5)]
    pub patience: usize,
    /// Messages per step
    #[arg(long, default_value_t = 32)]
    pub batch_size: usize,
    /// Highest learning rate [default: 5e-4 for a fresh encoder, 5e-5 with --base]
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Share of all steps in which the learning rate rises
    #[arg(long, default_value_t = 0.1)]
    pub warm_up: f64,
    /// Pull of the weights towards 0
    #[arg(long, default_value_t = 0.01)]
    pub weight_decay: f64,
    /// Largest norm of the gradients of a step
    #[arg(long, default_value_t = 1.0)]
    pub max_norm: f64,
    /// Dropout in the encoder and before the heads [default: 0.1 for a fresh encoder, with --base what it was trained with]
    #[arg(long)]
    pub dropout: Option<f64>,
    /// Share of tokens that are hidden from the model at each step, so that it does not rely on single words
    #[arg(long, default_value_t = 0.1)]
    pub token_dropout: f64,
    /// Longest message in tokens; a longer one keeps its beginning and end
    #[arg(long, default_value_t = 96)]
    pub max_tokens: usize,
    /// Turns before a message that are read with it as its context
    #[arg(long, default_value_t = 0)]
    #[serde(default)]
    pub context_turns: usize,
    /// What the learning rate is multiplied with for every layer further down; 1 for the same rate everywhere
    #[arg(long, default_value_t = 1.0)]
    #[serde(default = "one")]
    pub layer_decay: f64,
    /// Epochs whose last weights are averaged; of one epoch alone the validation score is often luck
    #[arg(long, default_value_t = 1)]
    #[serde(default = "one_epoch")]
    pub average_epochs: usize,
    /// Width of a fresh encoder
    #[arg(long, default_value_t = 256, conflicts_with = "base")]
    pub hidden: usize,
    /// Layers of a fresh encoder
    #[arg(long, default_value_t = 4, conflicts_with = "base")]
    pub layers: usize,
    /// Attention heads of a fresh encoder
    #[arg(long, default_value_t = 4, conflicts_with = "base")]
    pub heads: usize,
    /// Leave out the lexical part: a linear classifier over n-grams of tokens whose logits are added to those of the encoder
    #[arg(long)]
    #[serde(default)]
    pub no_lexical: bool,
    /// How much rare classes are lifted: 0 not at all, 1 every class counts alike
    #[arg(long, default_value_t = 0.5)]
    pub class_weight_power: f64,
    /// Weight of the intent loss
    #[arg(long, default_value_t = 1.0)]
    pub intent_weight: f64,
    /// Weight of the sentiment loss
    #[arg(long, default_value_t = 1.0)]
    pub sentiment_weight: f64,
    /// Weight of the contrastive loss over the wordings of --knowledge
    #[arg(long, default_value_t = 1.0)]
    pub contrastive_weight: f64,
    /// Knowledge entries per step
    #[arg(long, default_value_t = 16)]
    pub contrastive_pairs: usize,
    /// Fold intents with fewer messages into --rare-label
    #[arg(long, default_value_t = 0)]
    pub min_class: usize,
    /// The intent that rare ones are folded into
    #[arg(long, default_value = "OTHER")]
    pub rare_label: String,
    /// Share of sessions for validation
    #[arg(long, default_value_t = 0.1)]
    pub validation_share: f64,
    /// Share of sessions for the test split, when no --test files are given
    #[arg(long, default_value_t = 0.1)]
    pub test_share: f64,
    /// Share of trusted intents that must be right; the thresholds are chosen for it on messages that were not learnt from
    #[arg(long, default_value_t = 0.9)]
    pub precision: f64,
    /// Leave personal data as it is, for data that was masked before
    #[arg(long)]
    pub no_mask: bool,
}

/// The only intent of a model that learnt from sentiments alone.
const NO_INTENT: &str = "no_intent";

fn one() -> f64 {
    1.0
}

fn one_epoch() -> usize {
    1
}

/// What a run gave.
#[derive(Clone, Debug, Serialize)]
pub struct FitSummary {
    /// Folder of the model.
    pub model: PathBuf,
    /// Optimiser steps of the run.
    pub steps: usize,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Its validation score, before the lexical part: the mean of the macro-F1 of both tasks and, with knowledge, of the recall@1
    /// of held-out wordings.
    pub best_score: f64,
    /// The same of the whole model. How much the lexical part counts was chosen on these messages, too: one number a task.
    pub validation_score: f64,
    /// Scores on the test split.
    pub test: eval::Scores,
    /// How held-out wordings find their knowledge entry.
    pub retrieval: Option<RetrievalScores>,
}

/// Data of a run after reading, checking and splitting.
struct Data {
    train: Vec<Message>,
    validation: Vec<Message>,
    test: Vec<Message>,
    held_out: Vec<Message>,
    knowledge: Knowledge,
    folded: Option<FoldedIntents>,
    notes: Vec<String>,
    files: Files,
}

/// What notebooks and baselines read of a run.
struct Files {
    splits: [(&'static str, Chats); 3],
    /// Wordings that the intent is learnt from.
    wordings: Vec<Message>,
}

impl Files {
    /// Writes them into `out/splits`.
    fn write(self, contract: &TextContract, out: &Path) -> Result<(), TrainError> {
        let folder = out.join("splits");
        std::fs::create_dir_all(&folder).map_err(TrainError::io("make", &folder))?;
        let model_text = |text: &str| contract.model_text(text);
        for (name, chats) in self.splits {
            let texts = chats.messages()?.iter().map(|message| model_text(&message.text)).collect();
            write_parquet(&chats, &folder.join(format!("{name}.parquet")), Some(("model_text", texts)))?;
        }
        if !self.wordings.is_empty() {
            write_frame(&message_frame(&self.wordings, &model_text)?, &folder.join("knowledge.parquet"))?;
        }
        Ok(())
    }
}

/// Runs `fit` to its end, or until `stop` becomes true, into the folder `out`.
///
/// # Errors
/// A sentence for each way in which data, flags, disk or numbers can be wrong. What was in `out` stays.
pub fn fit(given: &FitConfig, out: &Path, resume: bool, stop: &AtomicBool) -> Result<FitSummary, TrainError> {
    let config: FitConfig = if resume { read_config(out)? } else { given.clone() };
    validate(&config)?;
    if !resume {
        check_new_folder(out)?;
    }
    let device = yingda_models::device(&config.device)?;
    if let Some(base) = &config.base {
        yingda_models::resolve_base(base, config.from_hub)?;
    }
    let contract = TextContract {
        mask: if config.no_mask { MaskOptions::none() } else { MaskOptions::default() },
        ..TextContract::default()
    };
    let data = prepare(&config, &contract)?;

    let mut labels = examples::labels(&data.train);
    if labels.intents.is_empty() {
        if !data.train.iter().any(examples::is_labelled) {
            return Err(TrainError::Usage(
                "no training message has an intent or a sentiment; check the columns with `yingda-train check`, or map them with \
                 --map intent=..."
                    .into(),
            ));
        }
        // A model of sentiment alone has one intent, which is always right.
        labels.intents.push(NO_INTENT.into());
    }
    let (mut model, tokenizer, report) = make_model(&config, &contract, &data, &labels, &device)?;
    let rest = examples::rest_fingerprint([&data.validation, &data.test], &data.knowledge);
    let train = examples::examples(data.train, &labels, &tokenizer, config.context_turns)?;
    let validation = examples::examples(data.validation, &labels, &tokenizer, config.context_turns)?;
    let test = examples::examples(data.test, &labels, &tokenizer, config.context_turns)?;
    let held_out = examples::examples(data.held_out, &labels, &tokenizer, config.context_turns)?;
    if validation.is_empty() {
        return Err(TrainError::Usage(
            "no labelled message is left for validation; give more sessions or a larger --validation-share".into(),
        ));
    }
    let pairs = (!data.knowledge.entries.is_empty())
        .then(|| KnowledgePairs::new(&data.knowledge.entries, &tokenizer))
        .transpose()?;
    describe(&model, &report, &labels, [&train, &validation, &test], pairs.is_some(), &data.notes);
    // All that can be wrong with flags and data was found before the first file is written.
    data.files.write(&contract, out)?;
    let learnt_from = examples::data_fingerprint(&train);

    let mut run = Run {
        config: &config,
        out,
        model: &model,
        tokenizer: &tokenizer,
        labels: &labels,
        train: &train,
        validation: &validation,
        pairs: pairs.as_ref(),
        optimizer: AdamW::new(AdamWSettings {
            weight_decay: config.weight_decay,
            max_norm: config.max_norm,
            layer_decay: config.layer_decay,
            layers: model.encoder().config().num_hidden_layers,
            ..AdamWSettings::default()
        }),
        state: State { data_fingerprint: learnt_from.clone(), rest_fingerprint: rest, ..State::default() },
        epochs: Vec::new(),
        events: None,
    };
    if resume && state::folder(out).exists() {
        run.resume()?;
    } else {
        write_json(&out.join("config.json"), &config)?;
        // From the first moment on there is something to resume from.
        state::save(out, &run.state, model.variables(), &run.optimizer)?;
    }
    run.train(stop)?;

    let Run { state, epochs, .. } = run;

    state::set_weights(model.variables(), &out.join("best.safetensors"))?;
    let settings =
        ModelSettings { folded: data.folded, ..run::settings(&config, &labels, &tokenizer, &state.data_fingerprint) };
    if !config.no_lexical {
        lexical::add(&mut model, &settings, &config, [&train, &validation, &held_out])?;
    }
    let (settings, retrieval) = Thresholding {
        config: &config,
        model: &model,
        validation: &validation,
        held_out: &held_out,
        pairs: pairs.as_ref(),
    }
    .choose(settings)?;
    let validated = eval::score_examples(&model, &settings, &validation)?.scores(&labels);
    let scored = eval::score_examples(&model, &settings, &test)?;
    let scores = scored.reliable_scores(&labels);
    let card = card::card(&card::About {
        config: &config,
        labels: &labels,
        settings: &settings,
        encoder: model.encoder().config(),
        lexical: model.lexical(),
        sizes: [train.len(), validation.len(), test.len()],
        train_counts: examples::label_counts(&train, &labels),
        train: &train,
        epochs: &epochs,
        best_epoch: state.best_epoch,
        test: &scores,
        retrieval: retrieval.as_ref(),
    });
    let folder = out.join("model");
    model.save(&folder, &tokenizer, &settings, &card, Precision::F32)?;
    Seen::new(train.iter().chain(&validation)).write(&folder)?;
    eval::write(&out.join("test"), &scores, &scored, &labels)?;
    Ok(FitSummary {
        model: folder,
        steps: state.step,
        best_epoch: state.best_epoch,
        best_score: state.best_score.unwrap_or_default(),
        validation_score: run::whole_score(&validated, retrieval.as_ref()),
        test: scores,
        retrieval,
    })
}

/// Whether the flags can be run, whatever the data.
///
/// # Errors
/// A sentence about the first that cannot.
pub(crate) fn validate(config: &FitConfig) -> Result<(), TrainError> {
    let share = |name: &str, value: f64| {
        if (0.0..1.0).contains(&value) {
            Ok(())
        } else {
            Err(TrainError::Usage(format!("--{name} is {value}; it must be at least 0 and below 1")))
        }
    };
    share("validation-share", config.validation_share)?;
    share("test-share", config.test_share)?;
    share("warm-up", config.warm_up)?;
    share("dropout", config.dropout.unwrap_or_default())?;
    share("precision", config.precision)?;
    share("token-dropout", config.token_dropout)?;
    if config.validation_share + config.test_share >= 1.0 {
        return Err(TrainError::Usage("--validation-share and --test-share leave nothing to train on".into()));
    }
    if [config.epochs, config.batch_size, config.patience, config.average_epochs].contains(&0) {
        return Err(TrainError::Usage(
            "--epochs, --batch-size, --patience and --average-epochs must be at least 1".into(),
        ));
    }
    for (name, value) in [
        ("learning-rate", config.learning_rate.unwrap_or(1.0)),
        ("max-norm", config.max_norm),
        ("layer-decay", config.layer_decay),
    ] {
        if !(value.is_finite() && value > 0.0) {
            return Err(TrainError::Usage(format!("--{name} is {value}; it must be above 0")));
        }
    }
    for (name, value) in [
        ("weight-decay", config.weight_decay),
        ("class-weight-power", config.class_weight_power),
        ("intent-weight", config.intent_weight),
        ("sentiment-weight", config.sentiment_weight),
        ("contrastive-weight", config.contrastive_weight),
    ] {
        if !(value.is_finite() && value >= 0.0) {
            return Err(TrainError::Usage(format!("--{name} is {value}; it must be 0 or more")));
        }
    }
    check_shape(config.hidden, config.layers, config.heads)
}

/// Whether there is an encoder of this shape.
pub(crate) fn check_shape(hidden: usize, layers: usize, heads: usize) -> Result<(), TrainError> {
    if [hidden, layers, heads].contains(&0) {
        return Err(TrainError::Usage("--hidden, --layers and --heads must be at least 1".into()));
    }
    if !hidden.is_multiple_of(heads) {
        return Err(TrainError::Usage(format!("--hidden {hidden} cannot be shared out evenly among --heads {heads}")));
    }
    Ok(())
}

/// Refuses flags that say something else than the settings of the run in `out`, which goes on with those. `named` are the
/// flags that were given, in the names of the fields.
///
/// # Errors
/// When one differs, or the settings cannot be read.
pub fn check_resumed<T: Serialize + serde::de::DeserializeOwned>(
    given: &T,
    named: &[String],
    out: &Path,
) -> Result<(), TrainError> {
    let value = |settings: &T| serde_json::to_value(settings).expect("plain data is always JSON");
    let (begun, given) = (value(&read_config::<T>(out)?), value(given));
    let other = |name: &&String| begun.get(name.as_str()) != given.get(name.as_str());
    let others: Vec<String> = named.iter().filter(other).map(|name| format!("--{}", name.replace('_', "-"))).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(TrainError::Usage(format!(
        "--resume goes on with the settings in {}; leave {} out, or start a new run in another folder",
        out.join("config.json").display(),
        others.join(", ")
    )))
}

/// A run begins in a folder of its own.
pub(crate) fn check_new_folder(out: &Path) -> Result<(), TrainError> {
    if out.exists() && std::fs::read_dir(out).map_err(TrainError::io("read", out))?.next().is_some() {
        return Err(TrainError::Usage(format!(
            "--out {} is not empty; name a new folder, or go on with the run in it by --resume",
            out.display()
        )));
    }
    Ok(())
}

/// The settings that the run in `out` began with.
pub(crate) fn read_config<T: serde::de::DeserializeOwned>(out: &Path) -> Result<T, TrainError> {
    let path = out.join("config.json");
    let text = std::fs::read(&path).map_err(|source| {
        TrainError::Usage(format!(
            "--resume: {} cannot be read ({source}); name the --out folder of the run that was stopped",
            path.display()
        ))
    })?;
    serde_json::from_slice(&text)
        .map_err(|error| TrainError::Usage(format!("{} is damaged: {error}; start the run anew", path.display())))
}

/// Reads, checks and splits; writes nothing.
fn prepare(config: &FitConfig, contract: &TextContract) -> Result<Data, TrainError> {
    let map = ColumnMap::for_chats(&config.map)?;
    let model_text = |text: &str| contract.model_text(text);
    let mut notes = Vec::new();
    let mut chats = chats::checked("--data", &config.data, &map, contract)?;
    let mut folded = None;
    if config.min_class > 0 {
        let (common, rare) = chats.fold_rare_intents(config.min_class, &config.rare_label)?;
        chats = common;
        notes.push(format!(
            "{} intents with fewer than {} messages became {}",
            rare.len(),
            config.min_class,
            config.rare_label
        ));
        folded = (!rare.is_empty())
            .then(|| FoldedIntents { into: config.rare_label.clone(), rare: rare.into_keys().collect() });
    }
    let held_out = if config.test.is_empty() { config.test_share } else { 0.0 };
    let splits = yingda_datasets::split(
        &chats,
        &SplitOptions {
            train: 1.0 - config.validation_share - held_out,
            validation: config.validation_share,
            test: held_out,
            seed: config.seed,
            ..SplitOptions::default()
        },
        &model_text,
    )?;
    let report = splits.report;
    if report.groups > 0 {
        notes.push(format!(
            "{} sessions hold nearly the same long message as another; each of the {} groups is kept on one side",
            report.grouped_sessions, report.groups
        ));
    }
    let removed = report.validation.labels_removed + report.test.labels_removed;
    if removed > 0 {
        notes.push(format!("{removed} held-out messages are not scored: nearly the same stands in training"));
    }
    let test = if config.test.is_empty() {
        splits.test
    } else {
        let test = chats::checked("--test", &config.test, &map, contract)?;
        match &folded {
            Some(folded) => test.fold_intents(|intent| folded.rare.contains(intent), &folded.into)?,
            None => test,
        }
    };
    let mut knowledge = if config.knowledge.is_empty() {
        Knowledge::default()
    } else {
        let knowledge = load_knowledge(&config.knowledge, &ColumnMap::default())?;
        let problems = check_knowledge(&knowledge, &model_text);
        if has_errors(&problems) {
            output::line(&yingda_datasets::format_problems(&problems, 20));
            return Err(TrainError::Unfit { errors: problems.len() });
        }
        knowledge
    };
    if let Some(folded) = &folded {
        for intent in knowledge.entries.iter_mut().filter_map(|entry| entry.intent.as_mut()) {
            *intent = folded.name(intent).to_owned();
        }
    }
    let splits = [("train", splits.train), ("validation", splits.validation), ("test", test)];
    let [mut train, validation, test] = [splits[0].1.messages()?, splits[1].1.messages()?, splits[2].1.messages()?];
    if !config.test.is_empty() {
        if let Some((first, count)) = chats::shared(&[&train, &validation], &test) {
            return Err(TrainError::Usage(format!(
                "--test has {count} messages of --data, the first in {}:{} (session {}): a model is not tested on what it learnt; \
                 take them out of one of the two",
                first.file, first.row, first.session_id
            )));
        }
        let sets = [(splits[0].0, &splits[0].1), (splits[2].0, &splits[2].1)];
        let near = yingda_datasets::check_splits(&sets, &CheckOptions::default(), &model_text)?;
        let near = near.iter().filter(|problem| problem.code == "near_duplicate_across_splits").count();
        if near > 0 {
            notes.push(format!(
                "{near} messages of --test are nearly the same as one that is learnt from; they are scored all the same"
            ));
        }
    }
    let dropped = leave_out(&mut knowledge, [&validation, &test], &model_text);
    if dropped > 0 {
        notes.push(format!(
            "{dropped} wordings of --knowledge are not learnt from: nearly the same is asked in a session for validation or test"
        ));
    }
    let (wordings, held_out) = knowledge_messages(&knowledge);
    train.extend(wordings.iter().cloned());
    Ok(Data { train, validation, test, held_out, knowledge, folded, notes, files: Files { splits, wordings } })
}

/// Takes similar questions out of entries that stand almost the same in `held_out`: a model that learns them would be judged
/// on what it knows by heart. Returns how many.
fn leave_out(knowledge: &mut Knowledge, held_out: [&[Message]; 2], model_text: &dyn Fn(&str) -> String) -> usize {
    let judged = held_out.into_iter().flatten().filter(|message| examples::is_labelled(message));
    let mut texts: Vec<String> = judged.map(|message| model_text(&message.text)).collect();
    let count = texts.len();
    let wordings = knowledge.entries.iter().flat_map(|entry| &entry.similar_questions);
    texts.extend(wordings.map(|wording| model_text(wording)));
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let clusters = NearDuplicates::default().clusters(&texts);
    let asked: HashSet<usize> = clusters[..count].iter().flatten().copied().collect();
    let mut asked = clusters[count..].iter().map(|cluster| cluster.is_some_and(|cluster| asked.contains(&cluster)));
    let mut dropped = 0;
    for entry in &mut knowledge.entries {
        entry.similar_questions.retain(|_| {
            let drop = asked.next().unwrap_or_default();
            dropped += usize::from(drop);
            !drop
        });
    }
    dropped
}

/// The wordings of entries that have an intent, as user messages: those to learn from, and those held out.
fn knowledge_messages(knowledge: &Knowledge) -> (Vec<Message>, Vec<Message>) {
    let (mut train, mut held_out) = (Vec::new(), Vec::new());
    for entry in knowledge.entries.iter().filter(|entry| entry.intent.is_some()) {
        // Nobody asks them one after the other: each is a session of its own.
        let message = |(number, wording): (usize, &str)| Message {
            session_id: format!("knowledge:{}:{number}", entry.id),
            turn: 0,
            role: Role::User,
            text: wording.to_owned(),
            intent: entry.intent.clone(),
            sentiment: None,
            time: None,
            channel: None,
            file: "knowledge".into(),
            row: 0,
        };
        let (learnt, kept) = retrieval::wordings(entry);
        held_out.extend(kept.map(|wording| message((learnt.len(), wording))));
        train.extend(learnt.into_iter().enumerate().map(message));
    }
    (train, held_out)
}

fn message_frame(messages: &[Message], model_text: &dyn Fn(&str) -> String) -> Result<DataFrame, TrainError> {
    let strings = |name: &str, value: &dyn Fn(&Message) -> Option<String>| {
        Series::new(name.into(), messages.iter().map(value).collect::<Vec<_>>()).into_column()
    };
    let columns = vec![
        strings("session_id", &|message| Some(message.session_id.clone())),
        Series::new("turn".into(), messages.iter().map(|message| message.turn).collect::<Vec<_>>()).into_column(),
        strings("role", &|message| Some(message.role.as_str().to_owned())),
        strings("text", &|message| Some(message.text.clone())),
        strings("intent", &|message| message.intent.clone()),
        strings("sentiment", &|_| None),
        strings("model_text", &|message| Some(model_text(&message.text))),
    ];
    Ok(DataFrame::new(messages.len(), columns)?)
}

fn make_model(
    config: &FitConfig,
    contract: &TextContract,
    data: &Data,
    labels: &Labels,
    device: &candle_core::Device,
) -> Result<(MultiTaskModel, TextTokenizer, Option<LoadReport>), TrainError> {
    if let Some(base) = &config.base {
        let folder = yingda_models::resolve_base(base, config.from_hub)?;
        let tokenizer = TextTokenizer::load(&folder, contract.clone(), config.max_tokens)?;
        let (model, report) = MultiTaskModel::from_base(&folder, labels, config.dropout, config.seed, device)?;
        let positions = model.encoder().config().max_position_embeddings;
        if config.max_tokens > positions {
            return Err(TrainError::Usage(format!(
                "--max-tokens {} is more than the {positions} positions of --base",
                config.max_tokens
            )));
        }
        return Ok((model, tokenizer, Some(report)));
    }
    let texts: Vec<String> = data
        .train
        .iter()
        .map(|message| &message.text)
        .chain(data.knowledge.entries.iter().flat_map(|entry| {
            std::iter::once(&entry.question).chain(&entry.similar_questions).chain(std::iter::once(&entry.answer))
        }))
        .map(|text| contract.model_text(text))
        .collect();
    let vocabulary = character_vocabulary(texts.iter().map(String::as_str));
    let tokenizer = TextTokenizer::from_vocabulary(&vocabulary, contract.clone(), config.max_tokens)?;
    let encoder = BertConfig {
        vocab_size: vocabulary.len(),
        hidden_size: config.hidden,
        num_hidden_layers: config.layers,
        num_attention_heads: config.heads,
        intermediate_size: 4 * config.hidden,
        hidden_act: HiddenAct::Gelu,
        hidden_dropout_prob: config.dropout.unwrap_or(0.1),
        max_position_embeddings: config.max_tokens.max(128),
        type_vocab_size: 2,
        // A narrow fresh encoder learns faster from wider weights than BERT's 0.02, which suits a width of 768.
        initializer_range: (1.0 / config.hidden as f64).sqrt() * 0.5,
        ..BertConfig::default()
    };
    let parameters = Parameters::fresh(config.seed, encoder.initializer_range, device);
    let (model, _) = MultiTaskModel::new(parameters, &encoder, labels, device)?;
    if let Some(path) = &config.embeddings {
        let words = &model.variables()["embeddings.word_embeddings.weight"];
        let vectors = TokenVectors::read(path)?;
        let (table, placed) =
            vectors.place(words.as_tensor(), &tokenizer.vocabulary(), encoder.initializer_range, config.seed)?;
        words.set(&table)?;
        output::line(&format!("embeddings: {placed} of {} tokens start from {}", vocabulary.len(), path.display()));
    }
    Ok((model, tokenizer, None))
}

fn describe(
    model: &MultiTaskModel,
    report: &Option<LoadReport>,
    labels: &Labels,
    sizes: [&Vec<Example>; 3],
    retrieval: bool,
    notes: &[String],
) {
    notes.iter().for_each(|note| output::line(note));
    if let Some(report) = report {
        output::line(&format!(
            "base: {} weights loaded; drawn anew: {}; not used: {}",
            report.loaded.len(),
            list(&report.missing),
            list(&report.unexpected)
        ));
    }
    let config = model.encoder().config();
    let weights: usize = model.weights().values().map(Tensor::elem_count).sum();
    output::line(&format!(
        "model: {} layers × {}, {} tokens, {} intents, {:.2} million weights{}",
        config.num_hidden_layers,
        config.hidden_size,
        config.vocab_size,
        labels.intents.len(),
        weights as f64 / 1e6,
        if retrieval { ", with the contrastive loss" } else { "" }
    ));
    output::line(&format!(
        "labelled messages: {} to train, {} for validation, {} to test",
        sizes[0].len(),
        sizes[1].len(),
        sizes[2].len()
    ));
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        names if names.len() <= 6 => names.join(", "),
        names => format!("{}, ... ({} in all)", names[..5].join(", "), names.len()),
    }
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), TrainError> {
    let mut text = serde_json::to_string_pretty(value).expect("plain data is always JSON");
    text.push('\n');
    Ok(yingda_datasets::write_atomically(path, |file| {
        file.write_all(text.as_bytes())
            .map_err(|source| yingda_datasets::DatasetsError::Write { file: path.display().to_string(), source })
    })?)
}
