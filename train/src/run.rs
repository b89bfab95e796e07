//! The training loop: batches, losses, steps, validation, checkpoints, calibration.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use yingda_models::{
    Batch, Encoded, Forward, Labels, Learner, ModelSettings, MultiTaskModel, Pooling, Seeded, ServingPrecision,
    Temperatures, TextTokenizer, Thresholds,
};

use crate::{
    TrainError,
    eval::{self, Scored},
    examples::{self, Example},
    fit::FitConfig,
    loss,
    optimizer::{AdamW, learning_rate},
    output,
    retrieval::{self, KnowledgePairs, RetrievalScores},
    state::{self, State},
    tensorboard::{self, EventWriter},
};

/// Random streams of a run; each is one purpose, so that nothing depends on what was drawn before.
mod streams {
    pub(super) const EPOCH: u64 = 1 << 20;
    pub(super) const DROPOUT: u64 = 1 << 40;
    pub(super) const PAIRS: u64 = 1 << 41;
    pub(super) const TOKENS: u64 = 1 << 43;
}

/// One epoch in numbers, for the card and the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EpochLine {
    pub(crate) epoch: usize,
    pub(crate) validation: EpochScores,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct EpochScores {
    pub(crate) intent_macro_f1: Option<f64>,
    pub(crate) sentiment_macro_f1: Option<f64>,
    pub(crate) recall_at_1: Option<f64>,
    pub(crate) score: f64,
    pub(crate) seconds: f64,
    pub(crate) training_loss: f64,
}

/// The loop and what it works on.
pub(crate) struct Run<'a> {
    pub(crate) config: &'a FitConfig,
    pub(crate) out: &'a Path,
    pub(crate) model: &'a MultiTaskModel,
    pub(crate) tokenizer: &'a TextTokenizer,
    pub(crate) labels: &'a Labels,
    pub(crate) train: &'a [Example],
    pub(crate) validation: &'a [Example],
    pub(crate) pairs: Option<&'a KnowledgePairs>,
    pub(crate) optimizer: AdamW,
    pub(crate) state: State,
    pub(crate) epochs: Vec<EpochLine>,
    /// Begun with the first line of the log.
    pub(crate) events: Option<EventWriter>,
}

/// Cuts a file of lines to its first `lines`, and returns them.
pub(crate) fn cut_lines(path: &Path, lines: usize) -> Result<Vec<String>, TrainError> {
    let text = match std::fs::read_to_string(path) {
        // Stopped before the first line.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.map_err(TrainError::io("read", path))?,
    };
    let kept: Vec<String> = text.lines().take(lines).map(str::to_owned).collect();
    let mut text = kept.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    std::fs::write(path, text).map_err(TrainError::io("write", path))?;
    Ok(kept)
}

/// Adds one line of JSON to a file.
pub(crate) fn append_line(path: &Path, line: &impl Serialize) -> Result<(), TrainError> {
    let mut text = serde_json::to_string(line).expect("plain data is always JSON");
    text.push('\n');
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(TrainError::io("write", path))
}

/// The losses of one step, apart.
#[derive(Default)]
struct StepLosses {
    total: f64,
    intent: Option<f64>,
    sentiment: Option<f64>,
    contrastive: Option<f64>,
    tokens: usize,
}

impl Run<'_> {
    pub(crate) fn resume(&mut self) -> Result<(), TrainError> {
        let state: State = state::load_progress(self.out, self.model.variables())?;
        state::load_moments(self.out, &mut self.optimizer, state.step)?;
        let others = !state.rest_fingerprint.is_empty() && state.rest_fingerprint != self.state.rest_fingerprint;
        if others || state.data_fingerprint != self.state.data_fingerprint {
            return Err(TrainError::Usage(
                "--resume: the data is not what the run began with; put the old files back, or start a new run".into(),
            ));
        }
        let kept = cut_lines(&self.metrics_path(), state.metric_lines)?;
        self.epochs = kept.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        tensorboard::cut(&self.out.join("tensorboard"), state.step)?;
        output::line(&format!("resumed after epoch {}, step {}", state.epoch, state.step));
        self.state = state;
        Ok(())
    }

    fn metrics_path(&self) -> PathBuf {
        self.out.join("metrics.jsonl")
    }

    fn log(&mut self, line: &impl Serialize) -> Result<(), TrainError> {
        append_line(&self.metrics_path(), line)?;
        self.state.metric_lines += 1;
        let events = match &mut self.events {
            Some(events) => events,
            none => none.insert(EventWriter::create(&self.out.join("tensorboard"))?),
        };
        events.line(self.state.step, &serde_json::to_value(line).expect("plain data is always JSON"))
    }

    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let lengths: Vec<usize> = self.train.iter().map(|example| example.encoded.ids.len()).collect();
        let mut generator = Seeded::new(self.config.seed, streams::EPOCH + epoch as u64);
        examples::batches(&lengths, self.config.batch_size, &mut generator)
    }

    pub(crate) fn train(&mut self, stop: &AtomicBool) -> Result<(), TrainError> {
        let config = self.config;
        let (intents, sentiments) = examples::label_counts(self.train, self.labels);
        let weights = [
            loss::class_weights(&intents, config.class_weight_power),
            loss::class_weights(&sentiments, config.class_weight_power),
        ];
        let per_epoch = self.train.len().div_ceil(config.batch_size);
        let total = per_epoch * config.epochs;
        let warm_up = (total as f64 * config.warm_up) as usize;
        let peak = config.learning_rate.unwrap_or(if config.base.is_some() { 5e-5 } else { 5e-4 });
        let mut learner = Learner::new(self.model)?;
        let bar = output::bar(total, "fit");
        bar.set_position(self.state.step as u64);

        while self.state.epoch < config.epochs && !self.out_of_patience() {
            let epoch = self.state.epoch;
            let batches = self.batches(epoch);
            let started = Instant::now();
            let (mut tokens, mut said, before) = (0usize, Instant::now(), self.state.steps);
            for (index, batch) in batches.iter().enumerate().skip(self.state.batch) {
                if stop.load(Ordering::Relaxed) {
                    bar.abandon();
                    state::save(self.out, &self.state, self.model.variables(), &self.optimizer)?;
                    return Err(TrainError::Interrupted {
                        epoch: epoch + 1,
                        step: self.state.step,
                        run: self.out.to_owned(),
                    });
                }
                let rate = learning_rate(peak, self.state.step, warm_up, total);
                let step = self.step(&mut learner, batch, &weights, rate)?;
                tokens += step.tokens;
                self.state.losses += step.total;
                self.state.steps += 1;
                let mean = self.state.losses / self.state.steps as f64;
                self.state.step += 1;
                self.state.batch = index + 1;
                let speed = tokens as f64 / started.elapsed().as_secs_f64();
                if self.state.step.is_multiple_of(10) {
                    self.log(&serde_json::json!({
                        "epoch": epoch + 1, "step": self.state.step, "loss": step.total, "intent_loss": step.intent,
                        "sentiment_loss": step.sentiment, "contrastive_loss": step.contrastive, "learning_rate": rate,
                        "tokens_per_second": speed,
                    }))?;
                }
                bar.set_position(self.state.step as u64);
                bar.set_message(format!(
                    "epoch {}/{} · loss {mean:.3} · {speed:.0} tokens/s",
                    epoch + 1,
                    config.epochs,
                ));
                if !output::terminal() && said.elapsed().as_secs() >= 30 {
                    said = Instant::now();
                    let each = started.elapsed().as_secs_f64() / (self.state.steps - before) as f64;
                    let left = each * (total - self.state.step) as f64;
                    output::line(&format!(
                        "epoch {}/{}, step {}/{total}, loss {mean:.3}, {speed:.0} tokens/s, at most {:.0} minutes left",
                        epoch + 1,
                        config.epochs,
                        self.state.step,
                        (left / 60.0).ceil()
                    ));
                }
            }
            let mean = self.state.losses / self.state.steps.max(1) as f64;
            self.finish_epoch(mean, started.elapsed().as_secs_f64(), &bar)?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn out_of_patience(&self) -> bool {
        self.state.best_score.is_some() && self.state.epoch - self.state.best_epoch >= self.config.patience
    }

    fn step(
        &mut self,
        learner: &mut Learner<'_>,
        batch: &[usize],
        weights: &[Vec<f32>; 2],
        rate: f64,
    ) -> Result<StepLosses, TrainError> {
        let config = self.config;
        let rows: Vec<&Example> = batch.iter().map(|&index| &self.train[index]).collect();
        let mut hiding = Seeded::new(config.seed, streams::TOKENS + self.state.step as u64);
        let mut texts = Batch::default();
        rows.iter().for_each(|row| self.hide(&row.encoded, &mut hiding, &mut texts));
        let mut losses = StepLosses { tokens: texts.tokens(), ..StepLosses::default() };
        learner.clear();
        let seeds = Seeded::new(config.seed, streams::DROPOUT + self.state.step as u64).seeds();
        let pass = learner.forward(texts, seeds[0])?;
        let labels = [rows.iter().map(|row| row.intent).collect(), rows.iter().map(|row| row.sentiment).collect()];
        let mut total = self.task_loss(&pass.output, &labels, weights, &mut losses)?;
        let mut passes = vec![pass];
        if let Some(pairs) = self.pairs
            && config.contrastive_weight > 0.0
        {
            let mut generator = Seeded::new(config.seed, streams::PAIRS + self.state.step as u64);
            let drawn = pairs.draw(config.contrastive_pairs, &mut generator);
            if drawn.len() >= 2 {
                let count = drawn.len();
                let (left, right): (Vec<&Encoded>, Vec<&Encoded>) = drawn.into_iter().unzip();
                let mut texts = Batch::default();
                left.into_iter().chain(right).for_each(|text| self.hide(text, &mut generator, &mut texts));
                losses.tokens += texts.tokens();
                let pass = learner.forward(texts, seeds[1])?;
                let embedding = &pass.output.embedding;
                let part = loss::info_nce(&embedding.narrow(0, 0, count)?, &embedding.narrow(0, count, count)?, 0.05)?;
                losses.contrastive = Some(f64::from(part.to_scalar::<f32>()?));
                total = (total + (part * config.contrastive_weight)?)?;
                passes.push(pass);
            }
        }
        losses.total = f64::from(total.to_scalar::<f32>()?);
        let diverged = || TrainError::Diverged { step: self.state.step, run: self.out.to_owned() };
        if !losses.total.is_finite() {
            return Err(diverged());
        }
        learner.backward(&total, passes)?;
        let norm = self.optimizer.step(self.model.variables(), learner.gradients(), rate)?;
        if !norm.is_finite() {
            return Err(TrainError::Diverged { step: self.state.step, run: self.out.to_owned() });
        }
        Ok(losses)
    }

    /// The weighted loss of both heads.
    fn task_loss(
        &self,
        output: &Forward,
        labels: &[Vec<Option<u32>>; 2],
        weights: &[Vec<f32>; 2],
        losses: &mut StepLosses,
    ) -> Result<Tensor, TrainError> {
        let config = self.config;
        let mut total = loss::zero(self.model.device())?;
        for (logits, labels, weights, weight, said) in [
            (&output.intent_logits, &labels[0], &weights[0], config.intent_weight, &mut losses.intent),
            (&output.sentiment_logits, &labels[1], &weights[1], config.sentiment_weight, &mut losses.sentiment),
        ] {
            if let Some(part) = loss::cross_entropy(logits, labels, weights)? {
                *said = Some(f64::from(part.to_scalar::<f32>()?));
                total = (total + (part * weight)?)?;
            }
        }
        Ok(total)
    }

    /// Adds the tokens to `batch`, some of them hidden; the first and the last of the text, which are special, stay.
    fn hide(&self, text: &Encoded, generator: &mut Seeded, batch: &mut Batch) {
        let mut ids = text.ids.clone();
        if let Some(mask) = self.tokenizer.mask()
            && self.config.token_dropout > 0.0
            && text.own > 2
        {
            let last = text.own - 1;
            let kept = generator.dropout_mask(last - 1, self.config.token_dropout);
            for (id, kept) in ids[1..last].iter_mut().zip(kept) {
                if kept == 0.0 {
                    *id = mask;
                }
            }
        }
        batch.push(&ids, text.own);
    }

    fn finish_epoch(
        &mut self,
        training_loss: f64,
        seconds: f64,
        bar: &indicatif::ProgressBar,
    ) -> Result<(), TrainError> {
        // What is judged and kept is the average; training goes on from where it was.
        let trained = (self.config.average_epochs > 1)
            .then(|| {
                let trained = state::tensors(self.model.variables())?;
                let variables = self.model.variables();
                state::average(self.out, variables, &trained, self.state.epoch, self.config.average_epochs)?;
                Ok::<_, TrainError>(trained)
            })
            .transpose()?;
        let scores = self.scored(self.validation)?.scores(self.labels);
        let retrieval = self.pairs.map(|pairs| retrieval::held_out(self.model, pairs)).transpose()?;
        let score = whole_score(&scores, retrieval.as_ref());
        let better = self.state.best_score.is_none_or(|best| score > best);
        let line = EpochLine {
            epoch: self.state.epoch + 1,
            validation: EpochScores {
                intent_macro_f1: scores.intent.as_ref().map(|task| task.macro_f1),
                sentiment_macro_f1: scores.sentiment.as_ref().map(|task| task.macro_f1),
                recall_at_1: retrieval.as_ref().map(|scores| scores.recall_at_1),
                score,
                seconds,
                training_loss,
            },
        };
        bar.suspend(|| {
            let figure = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
            output::line(&format!(
                "epoch {}: training loss {training_loss:.4}; validation intent macro-F1 {}, sentiment macro-F1 {}{}{} ({seconds:.0} s)",
                line.epoch,
                figure(line.validation.intent_macro_f1),
                figure(line.validation.sentiment_macro_f1),
                line.validation.recall_at_1.map_or(String::new(), |recall| format!(", retrieval recall@1 {recall:.4}")),
                if better { ", best so far" } else { "" },
            ));
        });
        self.log(&line)?;
        self.epochs.push(line);
        self.state.epoch += 1;
        (self.state.batch, self.state.losses, self.state.steps) = (0, 0.0, 0);
        if better {
            self.state.best_score = Some(score);
            self.state.best_epoch = self.state.epoch;
            let path = self.out.join("best.safetensors");
            let fresh = self.out.join(".best.safetensors");
            state::write_tensors(&fresh, &state::tensors(self.model.variables())?)?;
            std::fs::rename(&fresh, &path).map_err(TrainError::io("write", &path))?;
        }
        for (name, tensor) in trained.iter().flatten() {
            self.model.variables()[name].set(&tensor.to_device(self.model.device())?)?;
        }
        state::save(self.out, &self.state, self.model.variables(), &self.optimizer)
    }

    fn scored(&self, examples: &[Example]) -> Result<Scored, TrainError> {
        let settings = settings(self.config, self.labels, self.tokenizer, &self.state.data_fingerprint);
        eval::score_examples(self.model, &settings, examples)
    }
}

/// What is served is the whole model: its heads, and where there is knowledge its embedding too. The mean of the macro-F1 of the
/// heads and the recall@1 of held-out wordings.
pub(crate) fn whole_score(scores: &eval::Scores, retrieval: Option<&RetrievalScores>) -> f64 {
    let heads = [&scores.intent, &scores.sentiment].into_iter().flatten().map(|task| task.macro_f1);
    let parts: Vec<f64> = heads.chain(retrieval.map(|scores| scores.recall_at_1)).collect();
    parts.iter().sum::<f64>() / parts.len().max(1) as f64
}

/// What a model's folder says of it before temperatures and thresholds are chosen.
pub(crate) fn settings(
    config: &FitConfig,
    labels: &Labels,
    tokenizer: &TextTokenizer,
    data_fingerprint: &str,
) -> ModelSettings {
    ModelSettings {
        format: 1,
        labels: labels.clone(),
        pooling: Pooling::Mean,
        max_tokens: config.max_tokens,
        context_turns: config.context_turns,
        serving: ServingPrecision::F32,
        text: tokenizer.contract().clone(),
        temperatures: Temperatures::default(),
        thresholds: Thresholds::default(),
        guarantee: None,
        data_fingerprint: data_fingerprint.to_owned(),
        folded: None,
        created_by: format!("yingda-train {}", env!("CARGO_PKG_VERSION")),
    }
}
