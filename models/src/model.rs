//! The multi-task model: one encoder, one pooling, two heads, one forward pass; and the folder it lives in.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use candle_core::{D, DType, Device, Tensor, Var};

use crate::{
    Batch, BertConfig, Encoder, Heads, Labels, Lexical, LoadReport, MaskedHead, ModelError, ModelSettings, Parameters,
    Precision, SENTIMENTS, Temperatures, TextTokenizer,
    checkpoint::{read_checkpoint, read_safetensors},
    encoder::{Mode, ServingPrecision},
    folder::{FORMAT, config_json, fingerprint, read_config, read_json, replace_folder},
};

/// What one forward pass gives for a batch.
#[derive(Clone)]
pub struct Forward {
    /// Last hidden states `[batch, length, hidden]`, of a pass by plain tensor operations.
    pub hidden: Option<Tensor>,
    /// Their mean over each text's own tokens, special ones included and context left out `[batch, hidden]`.
    pub pooled: Tensor,
    /// `pooled` with length 1 `[batch, hidden]`.
    pub embedding: Tensor,
    /// Intent logits `[batch, intents]`, before temperature.
    pub intent_logits: Tensor,
    /// Sentiment logits `[batch, 3]`, before temperature.
    pub sentiment_logits: Tensor,
}

/// What the model says of one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Calibrated probability of each intent, in head order.
    pub intents: Vec<f32>,
    /// Calibrated probability of each sentiment, in head order.
    pub sentiments: Vec<f32>,
    /// Pooled embedding of length 1.
    pub embedding: Vec<f32>,
}

/// What one forward pass gives for one text.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Pooled embedding of length 1.
    pub embedding: Vec<f32>,
    /// Intent logits in head order, before temperature.
    pub intent_logits: Vec<f32>,
    /// Sentiment logits in head order, before temperature.
    pub sentiment_logits: Vec<f32>,
}

/// Probabilities of `logits` at a temperature.
pub fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| ((logit - top) / temperature).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Means of hidden states `[tokens, hidden]` over each text's own tokens, `[texts, hidden]`.
pub(crate) fn pool(batch: &Batch, states: &[f32]) -> Vec<f32> {
    let hidden = states.len() / batch.tokens().max(1);
    let mut pooled = vec![0f32; batch.len() * hidden];
    for (index, pooled) in pooled.chunks_mut(hidden.max(1)).enumerate() {
        let own = batch.own(index);
        let share = 1.0 / own.len() as f32;
        for state in states[own.start * hidden..own.end * hidden].chunks(hidden) {
            pooled.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
        }
        pooled.iter_mut().for_each(|sum| *sum *= share);
    }
    pooled
}

/// Encoder and heads, and beside them the lexical part, if there is one.
pub struct MultiTaskModel {
    encoder: Encoder,
    heads: Heads,
    lexical: Option<Lexical>,
    variables: BTreeMap<String, Var>,
    weights: BTreeMap<String, Tensor>,
    device: Device,
}

impl MultiTaskModel {
    /// Puts a model together from `parameters`.
    ///
    /// # Errors
    /// When a weight has the wrong shape, or the configuration contradicts itself.
    pub fn new(
        mut parameters: Parameters,
        config: &BertConfig,
        labels: &Labels,
        device: &Device,
    ) -> Result<(Self, LoadReport), ModelError> {
        // Heads first: whether the encoder has a base does not change how they are drawn.
        let heads = Heads::load(
            &mut parameters,
            labels.intents.len(),
            labels.sentiments.len(),
            config.hidden_size,
            config.classifier_dropout.unwrap_or(config.hidden_dropout_prob),
        )?;
        let trainable = parameters.trainable();
        let mut encoder = Encoder::load(&mut parameters, config)?;
        let weights = parameters.weights();
        let (report, misshapen, variables) = parameters.finish();
        if !misshapen.is_empty() {
            return Err(ModelError::Config(format!(
                "weights do not fit the configuration and labels: {}",
                misshapen.join("; ")
            )));
        }
        if !trainable && device.is_cpu() {
            encoder.pack(ServingPrecision::F32)?;
        }
        Ok((Self { encoder, heads, lexical: None, variables, weights, device: device.clone() }, report))
    }

    /// A trainable model from a Hugging Face BERT folder, its heads drawn. It is trained with `dropout`, or without one with what the
    /// folder says.
    ///
    /// # Errors
    /// When anything but a head is missing, or the folder is not usable.
    pub fn from_base(
        folder: &Path,
        labels: &Labels,
        dropout: Option<f64>,
        seed: u64,
        device: &Device,
    ) -> Result<(Self, LoadReport), ModelError> {
        let mut config = read_config(folder)?;
        if let Some(dropout) = dropout {
            config.hidden_dropout_prob = dropout;
            config.classifier_dropout = None;
        }
        let mut source = read_checkpoint(folder)?;
        source.retain(|name, _| !is_head(name));
        let parameters = Parameters::new(source, true, seed, config.initializer_range, device);
        let (model, report) =
            Self::new(parameters, &config, labels, device).map_err(|error| at_weights(folder, error))?;
        let missing: Vec<_> = report.missing.iter().filter(|name| !is_head(name)).cloned().collect();
        if !missing.is_empty() {
            return Err(ModelError::Weights {
                path: folder.to_owned(),
                message: format!(
                    "{} encoder weights are missing ({}{}); only heads may be. Is it a BERT checkpoint?",
                    missing.len(),
                    missing[..missing.len().min(3)].join(", "),
                    if missing.len() > 3 { ", ..." } else { "" }
                ),
            });
        }
        Ok((model, report))
    }

    /// One forward pass over a batch by plain tensor operations, on any device.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn forward(&self, batch: &Batch, mut mode: Mode<'_>) -> Result<Forward, ModelError> {
        let hidden = self.encoder.forward(batch, &mut mode)?;
        let padding = self.encoder.config().pad_token_id as u32;
        let mask = batch.padded(padding, &self.device)?.pooling_mask.unsqueeze(D::Minus1)?;
        let pooled = hidden.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?;
        self.read(Some(hidden), pooled, mode)
    }

    /// What the heads and the embedding make of pooled texts `[batch, hidden]`.
    pub(crate) fn read(
        &self,
        hidden: Option<Tensor>,
        pooled: Tensor,
        mut mode: Mode<'_>,
    ) -> Result<Forward, ModelError> {
        let norm = (pooled.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?;
        let embedding = pooled.broadcast_div(&norm)?;
        let (intent_logits, sentiment_logits) = self.heads.forward(&pooled, &mut mode)?;
        Ok(Forward { hidden, pooled, embedding, intent_logits, sentiment_logits })
    }

    /// One forward pass for serving, the lexical part included: fused operations on the CPU, plain ones elsewhere.
    ///
    /// # Errors
    /// When there is no text, a text does not fit the model, or a tensor operation fails.
    pub fn run(&self, batch: &Batch) -> Result<Vec<Output>, ModelError> {
        if batch.is_empty() {
            return Err(ModelError::Config("there is no text to run".into()));
        }
        let mut outputs = if self.device.is_cpu() { self.run_fused(batch)? } else { self.run_plain(batch)? };
        if let Some(lexical) = &self.lexical {
            for (index, output) in outputs.iter_mut().enumerate() {
                let own = &batch.ids()[batch.own(index)];
                lexical.add(own, &mut output.intent_logits, &mut output.sentiment_logits);
            }
        }
        Ok(outputs)
    }

    fn run_plain(&self, batch: &Batch) -> Result<Vec<Output>, ModelError> {
        let output = self.forward(batch, Mode::Serve)?;
        let rows = |tensor: &Tensor| tensor.to_vec2::<f32>();
        let parts = rows(&output.embedding)?.into_iter().zip(rows(&output.intent_logits)?);
        Ok(parts
            .zip(rows(&output.sentiment_logits)?)
            .map(|((embedding, intent_logits), sentiment_logits)| Output { embedding, intent_logits, sentiment_logits })
            .collect())
    }

    fn run_fused(&self, batch: &Batch) -> Result<Vec<Output>, ModelError> {
        let pooled = pool(batch, &self.encoder.forward_fused(batch)?);
        let [intents, sentiments] = self.heads.forward_rows(&pooled, batch.len())?;
        let logits = intents.chunks(intents.len() / batch.len()).zip(sentiments.chunks(sentiments.len() / batch.len()));
        Ok(pooled
            .chunks(pooled.len() / batch.len())
            .zip(logits)
            .map(|(pooled, (intents, sentiments))| {
                let norm = (pooled.iter().map(|x| x * x).sum::<f32>() + 1e-12).sqrt();
                Output {
                    embedding: pooled.iter().map(|x| x / norm).collect(),
                    intent_logits: intents.to_vec(),
                    sentiment_logits: sentiments.to_vec(),
                }
            })
            .collect())
    }

    /// Runs a batch for serving: logits divided by the temperatures and made probabilities.
    ///
    /// # Errors
    /// As [`MultiTaskModel::run`].
    pub fn predict(&self, batch: &Batch, temperatures: &Temperatures) -> Result<Vec<Prediction>, ModelError> {
        let predictions = self.run(batch)?.into_iter().map(|output| Prediction {
            intents: softmax(&output.intent_logits, temperatures.intent),
            sentiments: softmax(&output.sentiment_logits, temperatures.sentiment),
            embedding: output.embedding,
        });
        Ok(predictions.collect())
    }

    /// Serves in 8 bits from now on (on the CPU; elsewhere nothing changes).
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn serve_in(&mut self, precision: ServingPrecision) -> Result<(), ModelError> {
        if self.device.is_cpu() && self.variables.is_empty() {
            self.encoder.pack(precision)?;
        }
        Ok(())
    }

    /// Adds the logits of `lexical` from now on, in every pass for serving.
    pub fn set_lexical(&mut self, lexical: Option<Lexical>) {
        self.lexical = lexical;
    }

    /// The lexical part, if the model has one.
    pub fn lexical(&self) -> Option<&Lexical> {
        self.lexical.as_ref()
    }

    /// The encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Trainable variables by name; empty when the model was loaded for serving.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// All weights by name, as they are now.
    pub fn weights(&self) -> &BTreeMap<String, Tensor> {
        &self.weights
    }

    /// Where the model runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Writes a model folder to `destination`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written; `destination` is then as it was.
    pub fn save(
        &self,
        destination: &Path,
        tokenizer: &TextTokenizer,
        settings: &ModelSettings,
        card: &str,
        precision: Precision,
    ) -> Result<(), ModelError> {
        replace_folder(destination, |folder| {
            write(folder, "yingda.json", &pretty(settings))?;
            self.write_parts(folder, tokenizer, &settings.labels, card, precision, None)
        })
    }

    /// Writes a base model to `destination`, whole or not at all: the encoder to fine-tune from, and the head for hidden tokens, to
    /// pretrain on from.
    ///
    /// # Errors
    /// When it cannot be written; `destination` is then as it was.
    pub fn save_base(
        &self,
        destination: &Path,
        tokenizer: &TextTokenizer,
        head: &MaskedHead,
        card: &str,
        precision: Precision,
    ) -> Result<(), ModelError> {
        replace_folder(destination, |folder| {
            self.write_parts(folder, tokenizer, &Labels::default(), card, precision, Some(head))
        })
    }

    fn write_parts(
        &self,
        folder: &Path,
        tokenizer: &TextTokenizer,
        labels: &Labels,
        card: &str,
        precision: Precision,
        base: Option<&MaskedHead>,
    ) -> Result<(), ModelError> {
        write(folder, "config.json", &pretty(&config_json(self.encoder.config(), labels)))?;
        write(folder, "tokenizer.json", &tokenizer.to_json()?)?;
        write(folder, "README.md", card)?;
        let files = [("model.safetensors", false), ("heads.safetensors", true)];
        for (file, heads) in files.into_iter().filter(|(_, heads)| base.is_none() || !heads) {
            let path = folder.join(file);
            let kind = if precision == Precision::F16 { DType::F16 } else { DType::F32 };
            let mut tensors: Vec<(Cow<'_, str>, Tensor)> = Vec::new();
            for (name, tensor) in self.weights.iter().filter(|(name, _)| is_head(name) == heads) {
                tensors.push((name.into(), tensor.to_device(&Device::Cpu)?.to_dtype(kind)?));
            }
            for (name, tensor) in base.iter().flat_map(|head| head.weights()) {
                tensors.push((name.into(), tensor.to_dtype(kind)?));
            }
            if heads && let Some(lexical) = &self.lexical {
                for (name, tensor) in lexical.tensors()? {
                    let keys = tensor.dtype() == DType::I64;
                    tensors.push((name.into(), if keys { tensor } else { tensor.to_dtype(kind)? }));
                }
            }
            // transformers refuses a safetensors file that does not say where it comes from.
            let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            safetensors::serialize_to_file(tensors, Some(about), &path).map_err(|error| ModelError::Io {
                doing: "write",
                path: path.clone(),
                source: std::io::Error::other(error),
            })?;
        }
        Ok(())
    }
}

fn write(folder: &Path, file: &str, content: &str) -> Result<(), ModelError> {
    let path = folder.join(file);
    std::fs::write(&path, content).map_err(ModelError::io("write", &path))
}

fn pretty(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("plain data is always JSON");
    text.push('\n');
    text
}

fn is_head(name: &str) -> bool {
    name.starts_with("intent.") || name.starts_with("sentiment.")
}

fn at_weights(folder: &Path, error: ModelError) -> ModelError {
    match error {
        ModelError::Config(message) => ModelError::Weights { path: folder.to_owned(), message },
        other => other,
    }
}

/// A model folder that is open: everything that serving and evaluation need.
pub struct ModelFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Folder name and fingerprint, such as `yingda-sample@1f0c9a7be2d4`.
    pub model_id: String,
    /// `yingda.json`.
    pub settings: ModelSettings,
    /// Tokenizer with the contract and the limit of this model.
    pub tokenizer: TextTokenizer,
    /// Encoder and heads.
    pub model: MultiTaskModel,
    /// Which weights were loaded; nothing is missing.
    pub report: LoadReport,
}

impl ModelFolder {
    /// Opens a folder that [`MultiTaskModel::save`] wrote; with `trainable`, every weight is a variable.
    ///
    /// # Errors
    /// When a file is missing, damaged, or contradicts another one; the sentence names it.
    pub fn open(path: &Path, device: &Device, trainable: bool) -> Result<Self, ModelError> {
        if !path.is_dir() {
            return Err(ModelError::MissingFile {
                folder: path.to_owned(),
                file: "yingda.json",
                hint: "the folder does not exist; name one that yingda-train wrote",
            });
        }
        let settings: ModelSettings = read_json(
            path,
            "yingda.json",
            "it may be a base model: fine-tune it with `yingda-train fit --base`, then serve the result",
        )?;
        let settings_path = path.join("yingda.json");
        if settings.format != FORMAT {
            return Err(ModelError::malformed(
                &settings_path,
                format!("its form is {}, and this program reads form {FORMAT}", settings.format),
            ));
        }
        if settings.labels.sentiments != SENTIMENTS {
            return Err(ModelError::malformed(
                &settings_path,
                format!("sentiments are {:?} and must be {SENTIMENTS:?}, in this order", settings.labels.sentiments),
            ));
        }
        for (name, temperature) in
            [("intent", settings.temperatures.intent), ("sentiment", settings.temperatures.sentiment)]
        {
            if !(temperature.is_finite() && temperature > 0.0) {
                return Err(ModelError::malformed(
                    &settings_path,
                    format!("temperature {name} is {temperature} and must be above 0"),
                ));
            }
        }
        let config = read_config(path)?;
        if settings.max_tokens > config.max_position_embeddings {
            return Err(ModelError::malformed(
                &settings_path,
                format!(
                    "max_tokens is {} but config.json allows {} positions",
                    settings.max_tokens, config.max_position_embeddings
                ),
            ));
        }
        let tokenizer = TextTokenizer::load(path, settings.text.clone(), settings.max_tokens)?;
        if tokenizer.vocabulary_size() > config.vocab_size {
            return Err(ModelError::malformed(
                &path.join("tokenizer.json"),
                format!(
                    "it has {} entries but config.json says vocab_size {}; they are of different models",
                    tokenizer.vocabulary_size(),
                    config.vocab_size
                ),
            ));
        }
        let heads_path = path.join("heads.safetensors");
        if !heads_path.exists() {
            return Err(ModelError::MissingFile {
                folder: path.to_owned(),
                file: "heads.safetensors",
                hint: "copy the whole folder that yingda-train wrote",
            });
        }
        let mut heads = read_safetensors(&heads_path)?;
        let lexical = Lexical::take(&mut heads, &settings.labels).map_err(|error| at_weights(&heads_path, error))?;
        for (task, labels) in [("intent", &settings.labels.intents), ("sentiment", &settings.labels.sentiments)] {
            if let Some(rows) = heads.get(&format!("{task}.weight")).and_then(|weight| weight.dims().first())
                && *rows != labels.len()
            {
                return Err(ModelError::malformed(
                    &heads_path,
                    format!(
                        "the {task} head has {rows} labels but yingda.json names {}; they are of different models",
                        labels.len()
                    ),
                ));
            }
        }
        let mut source = read_checkpoint(path)?;
        source.extend(heads);
        let parameters = Parameters::new(source, trainable, 0, config.initializer_range, device);
        let (mut model, report) = MultiTaskModel::new(parameters, &config, &settings.labels, device)
            .map_err(|error| at_weights(path, error))?;
        model.set_lexical(lexical);
        if settings.serving != ServingPrecision::F32 {
            model.serve_in(settings.serving)?;
        }
        if !report.missing.is_empty() {
            return Err(ModelError::Weights {
                path: path.to_owned(),
                message: format!("these are missing: {}; copy or train it again", report.missing.join(", ")),
            });
        }
        let name = path
            .canonicalize()
            .ok()
            .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
            .unwrap_or_else(|| "model".into());
        let model_id = format!("{name}@{}", fingerprint(path)?);
        Ok(Self { path: path.to_owned(), model_id, settings, tokenizer, model, report })
    }

    /// Understands raw texts in one batch, in order.
    ///
    /// # Errors
    /// When there is no text, or the tokenizer or a tensor operation fails.
    pub fn predict(&self, texts: &[&str]) -> Result<Vec<Prediction>, ModelError> {
        let rows =
            texts.iter().map(|text| Ok(self.tokenizer.encode(text)?.ids)).collect::<Result<Vec<_>, ModelError>>()?;
        self.model.predict(&Batch::new(&rows), &self.settings.temperatures)
    }
}
