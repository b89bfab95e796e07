//! `pretrain`: a base model of our own, by masked language modelling on any text and by contrastive training on question
//! pairs.

mod card;
mod corpus;
mod masking;
mod pairs;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use candle_core::{DType, Device, Tensor};
use clap::Args;
use serde::{Deserialize, Serialize};
use yingda_models::{
    Batch, BertConfig, HiddenAct, Labels, Learner, MaskedHead, MultiTaskModel, Parameters, Precision, SENTIMENTS,
    Seeded, TextTokenizer, WORD_BIAS, read_checkpoint, text::TextContract,
};

pub use pairs::area_under_curve;
pub(crate) use pairs::texts_of;

use self::{
    corpus::{Corpus, Piece, Sources},
    masking::{SpecialIds, masked_batch},
    pairs::{Pairs, Step},
};
use crate::{
    TrainError,
    embeddings::TokenVectors,
    eval,
    fit::write_json,
    optimizer::{AdamW, AdamWSettings, learning_rate},
    output, state,
    tokenizer::vocabulary,
};

/// Random streams; each is one purpose.
mod streams {
    pub(super) const SHARDS: u64 = 1 << 32;
    pub(super) const BATCHES: u64 = 1 << 33;
    pub(super) const MASKS: u64 = 1 << 34;
    pub(super) const PAIRS: u64 = 1 << 35;
    pub(super) const DROPOUT: u64 = 1 << 36;
    pub(super) const HELD_OUT: u64 = 1 << 37;
    pub(super) const ENTRIES: u64 = 1 << 39;
}

/// Everything that decides what a pretraining run gives. Kept in the run's `config.json`.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Text files to learn from, one text a line
    #[arg(long, num_args = 1.., required_unless_present = "resume", value_name = "FILE")]
    pub text: Vec<PathBuf>,
    /// Chats to learn from, in the form that `fit` reads: every turn with some of those before it
    #[arg(long, num_args = 1.., value_name = "FILE")]
    #[serde(default)]
    pub chats: Vec<PathBuf>,
    /// Most turns before a turn of --chats that are read with it
    #[arg(long, default_value_t = 4)]
    #[serde(default)]
    pub context_turns: usize,
    /// Question pairs: TSV with the columns left, right, label (1 the same, 0 not)
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub pairs: Vec<PathBuf>,
    /// Folder with a tokenizer.json or vocab.txt; without it, and without --base, a vocabulary is made of the texts
    #[arg(long, value_name = "FOLDER")]
    pub tokenizer: Option<PathBuf>,
    /// A base model to go on from; with --tokenizer it keeps what it knows of the entries that both have
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["embeddings", "hidden", "layers", "heads"])]
    pub base: Option<PathBuf>,
    /// Character vectors to start from: a word2vec text file, or a folder with .npz and vocab.json
    #[arg(long, value_name = "PATH")]
    pub embeddings: Option<PathBuf>,
    /// Seed of everything random
    #[arg(long, default_value_t = 20_260_101)]
    pub seed: u64,
    /// Passes over the text
    #[arg(long, default_value_t = 3.0)]
    pub epochs: f64,
    /// Passes over the pairs, after the text
    #[arg(long, default_value_t = 2.0)]
    pub pair_epochs: f64,
    /// Tokens of a step over the text
    #[arg(long, default_value_t = 4096)]
    pub step_tokens: usize,
    /// Pairs that mean the same of a step over the pairs; those that do not come with them, each once an epoch
    #[arg(long, default_value_t = 64)]
    pub step_pairs: usize,
    /// Tokens of text that are learnt along with every step over the pairs, so that it is not forgotten
    #[arg(long, default_value_t = 512)]
    pub pair_text_tokens: usize,
    /// Highest learning rate over the text
    #[arg(long, default_value_t = 1e-3)]
    pub learning_rate: f64,
    /// Highest learning rate over the pairs
    #[arg(long, default_value_t = 2e-4)]
    pub pair_learning_rate: f64,
    /// Share of the steps in which the learning rate rises
    #[arg(long, default_value_t = 0.04)]
    pub warm_up: f64,
    /// Pull of the weights towards 0
    #[arg(long, default_value_t = 0.01)]
    pub weight_decay: f64,
    /// Largest norm of the gradients of a step
    #[arg(long, default_value_t = 1.0)]
    pub max_norm: f64,
    /// Dropout in the encoder [default: 0.05 for a fresh encoder, with --base what it was trained with]
    #[arg(long)]
    pub dropout: Option<f64>,
    /// Share of tokens that are hidden
    #[arg(long, default_value_t = 0.15)]
    pub mask_share: f64,
    /// Divisor of cosines in the contrastive loss
    #[arg(long, default_value_t = 0.05)]
    pub temperature: f64,
    /// Longest text in tokens; a longer line becomes several
    #[arg(long, default_value_t = 128)]
    pub max_tokens: usize,
    /// Positions of the model
    #[arg(long, default_value_t = 256)]
    pub positions: usize,
    /// Width
    #[arg(long, default_value_t = 256)]
    pub hidden: usize,
    /// Layers
    #[arg(long, default_value_t = 4)]
    pub layers: usize,
    /// Attention heads
    #[arg(long, default_value_t = 4)]
    pub heads: usize,
    /// Least number of times that a character or word must occur to be in a vocabulary that is made
    #[arg(long, default_value_t = 8)]
    pub least_count: usize,
    /// Steps between two checkpoints
    #[arg(long, default_value_t = 500)]
    pub checkpoint_every: usize,
}

/// What a run gave.
#[derive(Clone, Debug, Serialize)]
pub struct PretrainSummary {
    /// Folder of the base model.
    pub model: PathBuf,
    /// Steps over text and pairs.
    pub steps: usize,
    /// Mean cross-entropy of hidden tokens of held-out text, in nats; `None` when there is too little text to hold any out.
    pub masked_loss: Option<f64>,
    /// Area under the ROC curve of the cosine over held-out pairs.
    pub pair_area: Option<f64>,
}

/// Where a run stands. Random streams are made from the seed and the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Progress {
    step: usize,
    fingerprint: String,
    metric_lines: usize,
}

/// Runs `pretrain` to its end, or until `stop` becomes true, into the folder `out`.
///
/// # Errors
/// A sentence for each way in which data, flags, disk or numbers can be wrong.
pub fn pretrain(
    given: &PretrainConfig,
    out: &Path,
    resume: bool,
    stop: &AtomicBool,
) -> Result<PretrainSummary, TrainError> {
    let config: PretrainConfig = if resume { crate::fit::read_config(out)? } else { given.clone() };
    validate(&config)?;
    if !resume {
        crate::fit::check_new_folder(out)?;
    }
    let contract = TextContract::default();
    let corpus_folder = out.join("corpus");
    let tokenizer_folder = out.join("tokenizer");
    let corpus_path = out.join("corpus.json");
    let tokenizer = if resume && tokenizer_folder.exists() {
        TextTokenizer::load(&tokenizer_folder, contract, config.max_tokens)?
    } else {
        match config.tokenizer.as_ref().or(config.base.as_ref()) {
            Some(folder) => TextTokenizer::load(folder, contract, config.max_tokens)?,
            None => {
                let vocabulary = vocabulary(&config.text, &config.pairs, &config.chats, config.least_count, &contract)?;
                TextTokenizer::from_vocabulary(&vocabulary, contract, config.max_tokens)?
            }
        }
    };
    let Some(mask) = tokenizer.mask() else {
        return Err(TrainError::Usage("the vocabulary has no [MASK]; name another --tokenizer".into()));
    };
    let pairs = Pairs::read(&config.pairs, &tokenizer, 50)?;
    let corpus = if resume && corpus_path.exists() {
        read_json(&corpus_path)?
    } else {
        std::fs::create_dir_all(&tokenizer_folder).map_err(TrainError::io("make", &tokenizer_folder))?;
        let path = tokenizer_folder.join("tokenizer.json");
        std::fs::write(&path, tokenizer.to_json()?).map_err(TrainError::io("write", &path))?;
        write_json(&out.join("config.json"), &config)?;
        let sources = Sources { text: &config.text, chats: &config.chats, context_turns: config.context_turns };
        let corpus = Corpus::build(sources, &tokenizer, &corpus_folder, 2_000_000, config.seed)?;
        write_json(&corpus_path, &corpus)?;
        corpus
    };
    let (model, head, variables) = make_model(&config, &tokenizer)?;
    let encoder = model.encoder().config().clone();
    output::line(&format!(
        "{} tokens of text in {} shards, {} pairs that mean the same among {} questions; {} layers × {}, {} entries in the \
         vocabulary, {:.2} million weights",
        corpus.tokens(),
        corpus.shards.len(),
        pairs.same.len(),
        pairs.texts.len(),
        encoder.num_hidden_layers,
        encoder.hidden_size,
        encoder.vocab_size,
        variables.values().map(|variable| variable.as_tensor().elem_count()).sum::<usize>() as f64 / 1e6
    ));
    let mut run = Run {
        special: SpecialIds {
            first: tokenizer.id("[CLS]")?,
            last: tokenizer.id("[SEP]")?,
            mask,
            vocabulary: tokenizer.vocabulary_size(),
        },
        config: &config,
        out,
        corpus: &corpus,
        pairs: &pairs,
        model: &model,
        head: &head,
        optimizer: AdamW::new(AdamWSettings {
            beta2: 0.98,
            epsilon: 1e-6,
            weight_decay: config.weight_decay,
            max_norm: config.max_norm,
            ..AdamWSettings::default()
        }),
        variables,
        progress: Progress { fingerprint: corpus.fingerprint.clone(), ..Progress::default() },
        held_out: Corpus::held_out(&corpus_folder)?,
        shard: None,
        batch_counts: HashMap::new(),
        pair_steps: None,
    };
    if resume && state::folder(out).exists() {
        run.resume()?;
    } else {
        // From the first moment on there is something to resume from.
        run.save()?;
    }
    run.train(stop)?;
    let (masked_loss, pair_area) = run.measure()?;
    let summary = PretrainSummary { model: out.join("model"), steps: run.progress.step, masked_loss, pair_area };
    let before = config.base.as_ref().and_then(|base| std::fs::read_to_string(base.join("README.md")).ok());
    let card = card::card(&config, &corpus, &encoder, &summary, before.as_deref());
    model.save_base(&summary.model, &tokenizer, &head, &card, Precision::F16)?;
    Ok(summary)
}

/// The loss on held-out text, for people.
pub fn held_out_line(masked_loss: Option<f64>) -> String {
    match masked_loss {
        Some(loss) => format!("held-out loss {loss:.4} (perplexity {:.1})", loss.exp()),
        None => "too little text to hold any out".to_owned(),
    }
}

fn validate(config: &PretrainConfig) -> Result<(), TrainError> {
    let share = |name: &str, value: f64| {
        if (0.0..1.0).contains(&value) {
            Ok(())
        } else {
            Err(TrainError::Usage(format!("--{name} is {value}; it must be at least 0 and below 1")))
        }
    };
    share("warm-up", config.warm_up)?;
    share("dropout", config.dropout.unwrap_or_default())?;
    share("mask-share", config.mask_share)?;
    if !(config.epochs.is_finite()
        && config.epochs >= 0.0
        && config.pair_epochs.is_finite()
        && config.pair_epochs >= 0.0)
    {
        return Err(TrainError::Usage("--epochs and --pair-epochs must be 0 or more".into()));
    }
    if config.step_tokens < config.max_tokens || config.step_pairs < 2 {
        return Err(TrainError::Usage(
            "--step-tokens must be at least --max-tokens, and --step-pairs at least 2".into(),
        ));
    }
    crate::fit::check_shape(config.hidden, config.layers, config.heads)?;
    if config.positions < config.max_tokens {
        return Err(TrainError::Usage(format!(
            "--max-tokens {} is more than --positions {}",
            config.max_tokens, config.positions
        )));
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, TrainError> {
    let bytes = std::fs::read(path).map_err(TrainError::io("read", path))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| TrainError::Usage(format!("{} is damaged ({error}); start the run anew", path.display())))
}

type Variables = std::collections::BTreeMap<String, candle_core::Var>;

fn make_model(
    config: &PretrainConfig,
    tokenizer: &TextTokenizer,
) -> Result<(MultiTaskModel, MaskedHead, Variables), TrainError> {
    let device = Device::Cpu;
    // The heads for intents and sentiments are drawn when a base is fine-tuned; these are never saved.
    let labels = Labels { intents: vec!["none".into()], sentiments: SENTIMENTS.map(str::to_owned).to_vec() };
    let mut head = HashMap::new();
    let model = match &config.base {
        Some(folder) => {
            let base = MultiTaskModel::from_base(folder, &labels, config.dropout, config.seed, &device)?.0;
            head = MaskedHead::among(read_checkpoint(folder)?);
            if head.is_empty() {
                output::line(&format!("{} has no head for hidden tokens; one is drawn", folder.display()));
            }
            match &config.tokenizer {
                None => base,
                Some(_) => {
                    let known = Known::new(folder, tokenizer)?;
                    if let Some(bias) = head.get_mut(WORD_BIAS) {
                        let rows: Vec<f32> = bias.to_dtype(DType::F32)?.to_vec1()?;
                        *bias = known.table(&rows, 1, |_| {})?.squeeze(1)?;
                    }
                    with_vocabulary(&base, &known, &labels, config.seed)?
                }
            }
        }
        None => {
            let encoder = BertConfig {
                vocab_size: tokenizer.vocabulary_size(),
                hidden_size: config.hidden,
                num_hidden_layers: config.layers,
                num_attention_heads: config.heads,
                intermediate_size: 4 * config.hidden,
                hidden_act: HiddenAct::Gelu,
                hidden_dropout_prob: config.dropout.unwrap_or(0.05),
                max_position_embeddings: config.positions,
                type_vocab_size: 2,
                initializer_range: (1.0 / config.hidden as f64).sqrt() * 0.5,
                ..BertConfig::default()
            };
            let parameters = Parameters::fresh(config.seed, encoder.initializer_range, &device);
            MultiTaskModel::new(parameters, &encoder, &labels, &device)?.0
        }
    };
    let encoder = model.encoder().config().clone();
    if let Some(path) = &config.embeddings {
        let words = &model.variables()[yingda_models::WORDS];
        let (table, placed) = TokenVectors::read(path)?.place(
            words.as_tensor(),
            &tokenizer.vocabulary(),
            encoder.initializer_range,
            config.seed,
        )?;
        words.set(&table)?;
        output::line(&format!("embeddings: {placed} of {} tokens start from {}", encoder.vocab_size, path.display()));
    }
    let seed = config.seed.wrapping_add(1);
    let mut parameters = Parameters::new(head, true, seed, encoder.initializer_range, &device);
    let head = MaskedHead::load(&mut parameters, encoder.vocab_size, encoder.hidden_size, encoder.layer_norm_eps)?;
    let mut variables = model.variables().clone();
    variables.retain(|name, _| !name.starts_with("intent.") && !name.starts_with("sentiment."));
    variables.extend(parameters.variables());
    Ok((model, head, variables))
}

/// For each entry of a vocabulary its id in that of a base, if it is known there.
struct Known(Vec<Option<usize>>);

impl Known {
    fn new(folder: &Path, tokenizer: &TextTokenizer) -> Result<Self, TrainError> {
        let old = TextTokenizer::load(folder, TextContract::default(), 4)?.vocabulary();
        let mut known = vec![None; tokenizer.vocabulary_size()];
        for (entry, id) in tokenizer.vocabulary() {
            known[id as usize] = old.get(&entry).map(|&id| id as usize);
        }
        let kept = known.iter().flatten().count();
        output::line(&format!("vocabulary: {kept} of {} entries are known to {}", known.len(), folder.display()));
        Ok(Self(known))
    }

    /// The rows of a table `[entries, width]`, in the order of the new vocabulary; `draw` fills those of new entries, which are 0.
    fn table(&self, rows: &[f32], width: usize, mut draw: impl FnMut(&mut [f32])) -> Result<Tensor, TrainError> {
        let mut table = vec![0f32; self.0.len() * width];
        for (row, known) in table.chunks_mut(width).zip(&self.0) {
            match known.and_then(|id| rows.get(id * width..(id + 1) * width)) {
                Some(known) => row.copy_from_slice(known),
                None => draw(row),
            }
        }
        Ok(Tensor::from_vec(table, (self.0.len(), width), &Device::Cpu)?)
    }
}

/// `base` with the entries of another vocabulary: known ones keep their row of the word table, new ones are drawn.
fn with_vocabulary(
    base: &MultiTaskModel,
    known: &Known,
    labels: &Labels,
    seed: u64,
) -> Result<MultiTaskModel, TrainError> {
    let encoder = BertConfig { vocab_size: known.0.len(), ..base.encoder().config().clone() };
    let mut weights: HashMap<String, Tensor> =
        base.variables().iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect();
    let rows: Vec<f32> = weights[yingda_models::WORDS].flatten_all()?.to_vec1()?;
    let mut generator = Seeded::new(seed, streams::ENTRIES);
    let draw = |row: &mut [f32]| row.fill_with(|| generator.normal(encoder.initializer_range));
    weights.insert(yingda_models::WORDS.into(), known.table(&rows, encoder.hidden_size, draw)?);
    let parameters = Parameters::new(weights, true, seed, encoder.initializer_range, &Device::Cpu);
    Ok(MultiTaskModel::new(parameters, &encoder, labels, &Device::Cpu)?.0)
}

struct Run<'a> {
    config: &'a PretrainConfig,
    out: &'a Path,
    corpus: &'a Corpus,
    pairs: &'a Pairs,
    model: &'a MultiTaskModel,
    head: &'a MaskedHead,
    variables: Variables,
    optimizer: AdamW,
    progress: Progress,
    special: SpecialIds,
    held_out: Vec<Piece>,
    /// The shard of one epoch that is in memory, with its batches.
    shard: Option<Shard>,
    /// Batches of the shards that were read, by epoch and index.
    batch_counts: HashMap<(usize, usize), usize>,
    /// The steps over the pairs of one epoch.
    pair_steps: Option<(usize, Vec<Step>)>,
}

struct Shard {
    /// Epoch and index.
    place: (usize, usize),
    pieces: Vec<Piece>,
    batches: Vec<Vec<usize>>,
}

impl Run<'_> {
    fn resume(&mut self) -> Result<(), TrainError> {
        let progress: Progress = state::load_progress(self.out, &self.variables)?;
        if progress.fingerprint != self.progress.fingerprint {
            return Err(TrainError::Usage("--resume: the corpus is not what the run began with".into()));
        }
        state::load_moments(self.out, &mut self.optimizer, progress.step)?;
        crate::run::cut_lines(&self.out.join("metrics.jsonl"), progress.metric_lines)?;
        output::line(&format!("resumed after step {}", progress.step));
        self.progress = progress;
        Ok(())
    }

    /// Steps over the text and steps over the pairs.
    fn plan(&self) -> (usize, usize) {
        let text = self.corpus.tokens() as f64 * self.config.epochs / self.config.step_tokens as f64;
        let pairs = self.pairs.same.len() as f64 * self.config.pair_epochs / self.config.step_pairs as f64;
        (text.ceil() as usize, if self.pairs.same.len() < 2 { 0 } else { pairs.ceil() as usize })
    }

    /// The pieces of text step `step`, counted over all epochs.
    fn text_batch(&mut self, step: usize) -> Result<Vec<Piece>, TrainError> {
        let mut left = step;
        for epoch in 0.. {
            let mut order: Vec<usize> = (0..self.corpus.shards.len()).collect();
            Seeded::new(self.config.seed, streams::SHARDS + epoch as u64).shuffle(&mut order);
            for index in order {
                let place = (epoch, index);
                let count = match self.batch_counts.get(&place) {
                    Some(&count) => count,
                    None => self.shard(place)?.batches.len(),
                };
                if left < count {
                    let shard = self.shard(place)?;
                    return Ok(shard.batches[left].iter().map(|&piece| shard.pieces[piece].clone()).collect());
                }
                left -= count;
            }
        }
        unreachable!("every epoch has steps")
    }

    /// A shard with its batches for one epoch; the last one stays in memory.
    fn shard(&mut self, place: (usize, usize)) -> Result<&Shard, TrainError> {
        if self.shard.as_ref().is_none_or(|shard| shard.place != place) {
            let (epoch, index) = place;
            let pieces = Corpus::shard(&self.out.join("corpus"), index)?;
            let stream = streams::BATCHES + (epoch * self.corpus.shards.len() + index) as u64;
            let mut generator = Seeded::new(self.config.seed, stream);
            let batches = corpus::batches(&pieces, self.config.step_tokens, &mut generator);
            self.batch_counts.insert(place, batches.len());
            self.shard = Some(Shard { place, pieces, batches });
        }
        Ok(self.shard.as_ref().expect("it was just read"))
    }

    fn train(&mut self, stop: &AtomicBool) -> Result<(), TrainError> {
        let (text_steps, pair_steps) = self.plan();
        let total = text_steps + pair_steps;
        let model = self.model;
        let mut learner = Learner::new(model)?;
        let bar = output::bar(total, "pretrain");
        bar.set_position(self.progress.step as u64);
        let (mut said, mut tokens, mut since) = (Instant::now(), 0usize, Instant::now());
        let mut mean = None::<f64>;
        while self.progress.step < total {
            let step = self.progress.step;
            if stop.load(Ordering::Relaxed) {
                bar.abandon();
                self.save()?;
                return Err(TrainError::PretrainingInterrupted { step, run: self.out.to_owned() });
            }
            learner.clear();
            let (loss, rate, count) = if step < text_steps {
                let warm_up = (text_steps as f64 * self.config.warm_up) as usize;
                let rate = learning_rate(self.config.learning_rate, step, warm_up, text_steps);
                let (loss, count) = self.text_step(&mut learner, step, 1.0, None)?;
                (loss, rate, count)
            } else {
                let warm_up = (pair_steps as f64 * self.config.warm_up) as usize;
                let rate = learning_rate(self.config.pair_learning_rate, step - text_steps, warm_up, pair_steps);
                let (loss, count) = self.pair_step(&mut learner, step - text_steps)?;
                let mut count = count;
                if self.config.pair_text_tokens > 0 {
                    count += self.text_step(&mut learner, step, 0.2, Some(self.config.pair_text_tokens))?.1;
                }
                (loss, rate, count)
            };
            if !loss.is_finite() {
                return Err(TrainError::Diverged { step, run: self.out.to_owned() });
            }
            let norm = self.optimizer.step(&self.variables, learner.gradients(), rate)?;
            if !norm.is_finite() {
                return Err(TrainError::Diverged { step, run: self.out.to_owned() });
            }
            self.progress.step += 1;
            tokens += count;
            // Losses of the two parts are not alike, so the mean starts anew between them.
            mean = Some(match mean {
                Some(mean) if step != text_steps => mean * 0.98 + loss * 0.02,
                _ => loss,
            });
            let speed = tokens as f64 / since.elapsed().as_secs_f64();
            let shown = mean.unwrap_or(loss);
            if self.progress.step.is_multiple_of(20) {
                let part = if step < text_steps { "text" } else { "pairs" };
                self.log(&serde_json::json!({
                    "step": self.progress.step, "part": part, "loss": loss, "learning_rate": rate, "gradient_norm": norm,
                    "tokens_per_second": speed,
                }))?;
            }
            bar.set_position(self.progress.step as u64);
            bar.set_message(format!("loss {shown:.3} · {speed:.0} tokens/s"));
            if !output::terminal() && said.elapsed().as_secs() >= 30 {
                output::line(&format!("step {}/{total}, loss {shown:.3}, {speed:.0} tokens/s", self.progress.step));
                (said, tokens, since) = (Instant::now(), 0, Instant::now());
            }
            if self.progress.step.is_multiple_of(self.config.checkpoint_every) || self.progress.step == total {
                let (masked_loss, pair_area) = self.measure()?;
                bar.suspend(|| {
                    let area = pair_area.map_or(String::new(), |area| format!(", pairs AUC {area:.4}"));
                    output::line(&format!("step {}: {}{area}", self.progress.step, held_out_line(masked_loss)));
                });
                self.log(&serde_json::json!({
                    "step": self.progress.step, "held_out_loss": masked_loss, "held_out_pair_area": pair_area,
                }))?;
                self.save()?;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn text_step(
        &mut self,
        learner: &mut Learner<'_>,
        step: usize,
        weight: f32,
        at_most: Option<usize>,
    ) -> Result<(f64, usize), TrainError> {
        let mut pieces = self.text_batch(step)?;
        if let Some(tokens) = at_most {
            let mut filled = 0;
            pieces.retain(|piece| {
                filled += piece.encoded_len();
                filled <= tokens
            });
        }
        let mut generator = Seeded::new(self.config.seed, streams::MASKS + step as u64);
        let (batch, hidden) = masked_batch(&pieces, self.config.mask_share, self.special, &mut generator);
        let seeds = Seeded::new(self.config.seed, streams::DROPOUT + step as u64).seeds();
        let loss = self.head.step(learner, &batch, &hidden, seeds[0], weight, true)?;
        Ok((loss.loss, batch.tokens()))
    }

    fn pair_step(&mut self, learner: &mut Learner<'_>, step: usize) -> Result<(f64, usize), TrainError> {
        let per_epoch = self.pairs.same.len().div_ceil(self.config.step_pairs);
        let (epoch, index) = (step / per_epoch, step % per_epoch);
        if self.pair_steps.as_ref().is_none_or(|steps| steps.0 != epoch) {
            let mut generator = Seeded::new(self.config.seed, streams::PAIRS + epoch as u64);
            self.pair_steps = Some((epoch, self.pairs.steps(self.config.step_pairs, &mut generator)));
        }
        let (_, steps) = self.pair_steps.as_ref().expect("it was just made");
        let (order, _) = steps[index].texts();
        let mut batch = Batch::default();
        for &text in &order {
            let text = &self.pairs.texts[text];
            batch.push(&text.ids, text.own);
        }
        let tokens = batch.tokens();
        let seeds = Seeded::new(self.config.seed, streams::DROPOUT + (1 << 30) + step as u64).seeds();
        let pass = learner.forward(batch, seeds[0])?;
        let loss = self.pairs.loss(&steps[index], &pass.output.embedding, self.config.temperature)?;
        let value = f64::from(loss.to_scalar::<f32>()?);
        learner.backward(&loss, vec![pass])?;
        Ok((value, tokens))
    }

    /// Loss on held-out text, and the area under the curve of held-out pairs.
    fn measure(&mut self) -> Result<(Option<f64>, Option<f64>), TrainError> {
        let mut generator = Seeded::new(self.config.seed, streams::HELD_OUT);
        let mut learner = Learner::new(self.model)?;
        let (mut sum, mut count) = (0.0, 0);
        for pieces in self.held_out.chunks(64).take(24) {
            let (batch, hidden) = masked_batch(pieces, self.config.mask_share, self.special, &mut generator);
            let loss = self.head.step(&mut learner, &batch, &hidden, 0, 0.0, false)?;
            sum += loss.loss * loss.hidden as f64;
            count += loss.hidden;
        }
        let masked = (count > 0).then(|| sum / count as f64);
        let held_out = &self.pairs.held_out;
        if !held_out.iter().any(|pair| pair.2) || held_out.iter().all(|pair| pair.2) {
            return Ok((masked, None));
        }
        let mut wanted: Vec<usize> = held_out.iter().flat_map(|pair| [pair.0, pair.1]).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let texts: Vec<_> = wanted.iter().map(|&text| &self.pairs.texts[text]).collect();
        let embeddings = eval::embed(self.model, &texts)?;
        let of = |text: usize| &embeddings[wanted.partition_point(|&known| known < text)];
        let scored: Vec<(f32, bool)> = held_out
            .iter()
            .map(|&(left, right, same)| (of(left).iter().zip(of(right)).map(|(a, b)| a * b).sum(), same))
            .collect();
        Ok((masked, Some(area_under_curve(&scored))))
    }

    fn log(&mut self, line: &serde_json::Value) -> Result<(), TrainError> {
        crate::run::append_line(&self.out.join("metrics.jsonl"), line)?;
        self.progress.metric_lines += 1;
        Ok(())
    }

    fn save(&self) -> Result<(), TrainError> {
        state::save(self.out, &self.progress, &self.variables, &self.optimizer)
    }
}
