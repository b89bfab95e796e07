//! Folders that transformers and sentence-transformers load. They are model folders, too: Yingda serves them as they are.

use std::{fs, io, path::Path};

use serde_json::{Value, json};
use yingda_models::{Lexical, MODEL_FILES, ModelError, ModelFolder, Pooling, Precision, replace_folder};

use super::{ExportSummary, card_for, compare, open, text_note};
use crate::TrainError;

/// Writes a folder that `AutoModel` and `AutoTokenizer` of transformers load: the encoder as a plain BERT, the heads beside
/// it. transformers' own classes for classification read BERT's pooler, and ours read the mean of the tokens, so the card
/// says in a few lines of Python how the heads are applied.
///
/// # Errors
/// When the folder is not a model folder, `out` exists already, or it cannot be written; nothing is there then.
pub fn export_hugging_face(model: &Path, out: &Path, precision: Precision) -> Result<ExportSummary, TrainError> {
    write(model, out, precision, false)
}

/// As [`export_hugging_face`], with the modules that make it a `SentenceTransformer`: mean pooling, then length 1.
///
/// # Errors
/// As [`export_hugging_face`].
pub fn export_sentence_transformers(
    model: &Path,
    out: &Path,
    precision: Precision,
) -> Result<ExportSummary, TrainError> {
    write(model, out, precision, true)
}

fn write(model: &Path, out: &Path, precision: Precision, sentences: bool) -> Result<ExportSummary, TrainError> {
    let (before, card) = open(model, out)?;
    let card = if sentences {
        card_for(&card, "sentence-transformers", "sentence-similarity", &sentence_section(&before))
    } else {
        card_for(&card, "transformers", "feature-extraction", &section(&before))
    };
    replace_folder(out, |folder| {
        let inner = folder.join("model");
        before.model.save(&inner, &before.tokenizer, &before.settings, &card, precision)?;
        for file in MODEL_FILES.iter().chain(&["README.md"]) {
            fs::rename(inner.join(file), folder.join(file)).map_err(io_error(folder))?;
        }
        fs::remove_dir(&inner).map_err(io_error(&inner))?;

        let path = folder.join("config.json");
        let text = fs::read(&path).map_err(io_error(&path))?;
        let mut config: Value = serde_json::from_slice(&text).expect("it was just written as JSON");
        // Half-precision weights are for storing: every library computes with 32-bit floats unless it is told otherwise.
        config["dtype"] = "float32".into();
        write_json(&path, &config)?;
        write_json(&folder.join("tokenizer_config.json"), &tokenizer_config(before.tokenizer.max_tokens()))?;
        write_json(&folder.join("special_tokens_map.json"), &special_tokens())?;
        write_file(&folder.join("vocab.txt"), &vocabulary(&before))?;
        if sentences {
            write_sentence_modules(folder, &before)?;
        }
        Ok(())
    })?;
    compare(&before, out)
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ModelError {
    let path = path.to_owned();
    move |source| ModelError::Io { doing: "write", path, source }
}

fn write_file(path: &Path, text: &str) -> Result<(), ModelError> {
    fs::write(path, text).map_err(io_error(path))
}

fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    write_file(path, &format!("{value:#}\n"))
}

fn special_tokens() -> Value {
    json!({
        "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]",
    })
}

/// `PreTrainedTokenizerFast` reads `tokenizer.json` as it is. `BertTokenizer` would build a tokenizer of its own from the
/// vocabulary and forget that words such as `[手机号]` are one token.
fn tokenizer_config(max_tokens: usize) -> Value {
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": false,
    });
    if let (Some(config), Value::Object(tokens)) = (config.as_object_mut(), special_tokens()) {
        config.extend(tokens);
    }
    config
}

/// One token a line; the line is the id.
fn vocabulary(model: &ModelFolder) -> String {
    let entries = model.tokenizer.vocabulary();
    let size = entries.values().max().map_or(0, |&last| last as usize + 1);
    let mut lines: Vec<String> = (0..size).map(|id| format!("[unused{id}]")).collect();
    for (entry, id) in entries {
        lines[id as usize] = entry;
    }
    lines.push(String::new());
    lines.join("\n")
}

fn write_sentence_modules(folder: &Path, model: &ModelFolder) -> Result<(), ModelError> {
    let module = |index: usize, path: &str, kind: &str| {
        let kind = format!("sentence_transformers.models.{kind}");
        json!({ "idx": index, "name": index.to_string(), "path": path, "type": kind })
    };
    let modules =
        [module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")];
    write_json(&folder.join("modules.json"), &json!(modules))?;
    let transformer = json!({ "max_seq_length": model.tokenizer.max_tokens(), "do_lower_case": false });
    write_json(&folder.join("sentence_bert_config.json"), &transformer)?;
    let general = json!({ "prompts": {}, "default_prompt_name": null, "similarity_fn_name": "cosine" });
    write_json(&folder.join("config_sentence_transformers.json"), &general)?;
    let mean = match model.settings.pooling {
        Pooling::Mean => true,
    };
    let pooling = json!({
        "word_embedding_dimension": model.model.encoder().config().hidden_size,
        "pooling_mode_cls_token": false,
        "pooling_mode_mean_tokens": mean,
        "pooling_mode_max_tokens": false,
        "pooling_mode_mean_sqrt_len_tokens": false,
    });
    for (name, content) in [("1_Pooling", pooling), ("2_Normalize", json!({}))] {
        let module = folder.join(name);
        fs::create_dir(&module).map_err(io_error(&module))?;
        write_json(&module.join("config.json"), &content)?;
    }
    Ok(())
}

fn section(model: &ModelFolder) -> String {
    let heads = model.model.lexical().map_or([None, None], Lexical::heads);
    let lexical = ["intent", "sentiment"].into_iter().zip(heads).filter(|(_, head)| head.is_some());
    let added: String = lexical
        .map(|(task, _)| format!("{task}_logits += torch.stack([lexical(\"{task}\", row) for row in ids])\n"))
        .collect();
    let (grams, lexical) = if added.is_empty() { ("", String::new()) } else { (GRAMS, format!("{LEXICAL}{added}")) };
    format!(
        "## Use with transformers\n\n\
         ```python\n\
         import torch\n\
         from safetensors.torch import load_file\n\
         from transformers import AutoModel, AutoTokenizer\n\
         \n\
         tokenizer, encoder = AutoTokenizer.from_pretrained(\".\"), AutoModel.from_pretrained(\".\")\n\
         heads = load_file(\"heads.safetensors\")\n\
         {grams}\
         heads = {{name: tensor.float() for name, tensor in heads.items()}}\n\
         texts = [\"怎么退货\", \"快递三天没动了\"]\n\
         batch = tokenizer(texts, padding=True, truncation=True, return_tensors=\"pt\")\n\
         with torch.no_grad():\n    \
             hidden, mask = encoder(**batch).last_hidden_state, batch[\"attention_mask\"].unsqueeze(-1)\n\
         pooled = (hidden * mask).sum(1) / mask.sum(1)\n\
         embedding = torch.nn.functional.normalize(pooled)\n\
         intent_logits = pooled @ heads[\"intent.weight\"].T + heads[\"intent.bias\"]\n\
         sentiment_logits = pooled @ heads[\"sentiment.weight\"].T + heads[\"sentiment.bias\"]  # {sentiments}\n\
         {lexical}\
         print([encoder.config.id2label[index] for index in intent_logits.argmax(-1).tolist()])\n\
         ```\n\n\
         {NO_POOLER}{} Divide the logits by the temperatures in `yingda.json` before the softmax for calibrated \
         probabilities.\n\n{}\n",
        "The heads are linear layers on the mean of the tokens, which `BertForSequenceClassification` does not have.",
        text_note(model),
        sentiments = model.settings.labels.sentiments.join(", "),
    )
}

/// Takes the keys of the n-grams out of the heads.
const GRAMS: &str = "rows = {key: row for row, key in enumerate(heads.pop(\"lexical.grams\").tolist())}\n";

/// What `yingda_models::Lexical` does.
const LEXICAL: &str = r#"

def lexical(task, ids):
    ends = [(start, end) for start in range(len(ids)) for end in range(start + 1, min(start + 3, len(ids)) + 1)]
    keys = [sum((id + 1) << 21 * place for place, id in enumerate(ids[start:end])) for start, end in ends]
    found = [rows[key] for key in keys if key in rows]
    weight, bias = heads[f"lexical.{task}.weight"], heads[f"lexical.{task}.bias"]
    return weight[found].sum(0) / max(len(found), 1) ** 0.5 + bias


ids = tokenizer(texts, truncation=True)["input_ids"]
"#;

fn sentence_section(model: &ModelFolder) -> String {
    format!(
        "## Use with sentence-transformers\n\n\
         ```python\n\
         from sentence_transformers import SentenceTransformer\n\
         \n\
         model = SentenceTransformer(\".\")\n\
         embedding = model.encode([\"怎么退货\", \"快递三天没动了\"])\n\
         print(model.similarity(embedding, embedding))\n\
         ```\n\n\
         {NO_POOLER}The heads for intent and sentiment are in `heads.safetensors`: linear layers on the mean of the tokens, \
         before it is brought to length 1; what is named `lexical` there is added by Yingda alone.\n\n{}\n",
        text_note(model)
    )
}

/// transformers draws a pooler by chance and says so.
const NO_POOLER: &str =
    "transformers reports `pooler.dense` as newly initialised: this model has no pooler and uses none. ";
