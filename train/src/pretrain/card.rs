//! The card of a base model: what it was made of, and how well it does on what was held out.

use std::path::PathBuf;

use yingda_models::BertConfig;

use super::{PretrainConfig, corpus::Corpus};

/// The card as Markdown.
pub(crate) fn card(
    config: &PretrainConfig,
    corpus: &Corpus,
    encoder: &BertConfig,
    steps: usize,
    masked_loss: Option<f64>,
    pair_area: Option<f64>,
) -> String {
    use std::fmt::Write as _;
    let name = |path: &PathBuf| path.file_name().map_or_else(|| path.clone(), PathBuf::from);
    let mut text = String::from(
        "---\nlanguage: zh\nlibrary_name: yingda\npipeline_tag: feature-extraction\n---\n\n# A Chinese base encoder\n\n",
    );
    let _ = writeln!(
        text,
        "Made by `yingda-train {} pretrain`: {} layers × {}, {} tokens in the vocabulary, texts of up to {} tokens. Masked language \
         modelling with whole words, then contrastive training on question pairs; {steps} steps.\n",
        env!("CARGO_PKG_VERSION"),
        encoder.num_hidden_layers,
        encoder.hidden_size,
        encoder.vocab_size,
        encoder.max_position_embeddings
    );
    if let Some(base) = &config.base {
        let vocabulary = if config.tokenizer.is_some() { ", with the entries of another vocabulary" } else { "" };
        let _ = writeln!(text, "It went on from `{}`{vocabulary}.\n", name(base).display());
    }
    let loss = |loss: f64| format!("cross-entropy of hidden tokens {loss:.3} (perplexity {:.1})", loss.exp());
    let area = |area: f64| format!("area under the ROC curve of the cosine {area:.4}");
    let measured: Vec<String> = masked_loss.map(loss).into_iter().chain(pair_area.map(area)).collect();
    if !measured.is_empty() {
        let _ = writeln!(text, "On text and pairs that were held out: {}.\n", measured.join(", "));
    }
    text.push_str("## Sources\n\n| file | lines or messages |\n|---|---|\n");
    for source in corpus.sources.chunk_by(|one, other| one == other) {
        let (name, lines) = &source[0];
        let times = if source.len() > 1 { format!(", {} times", source.len()) } else { String::new() };
        let _ = writeln!(text, "| {name}{times} | {lines} |");
    }
    for path in &config.pairs {
        let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let _ = writeln!(text, "| {name} (question pairs) | |");
    }
    let _ = writeln!(
        text,
        "\n{} tokens of text, fingerprint `{}`. Texts went through the text contract first: personal data masked, form cleaned. The mean of \
         the last hidden states, with length 1, is the embedding.\n",
        corpus.tokens(),
        &corpus.fingerprint[..12]
    );
    let plain = PretrainConfig {
        text: config.text.iter().map(name).collect(),
        chats: config.chats.iter().map(name).collect(),
        pairs: config.pairs.iter().map(name).collect(),
        tokenizer: config.tokenizer.as_ref().map(name),
        base: config.base.as_ref().map(name),
        embeddings: config.embeddings.as_ref().map(name),
        ..config.clone()
    };
    let settings = serde_json::to_string_pretty(&plain).expect("plain data is always JSON");
    let _ = writeln!(text, "## Settings\n\n```json\n{settings}\n```");
    text
}
