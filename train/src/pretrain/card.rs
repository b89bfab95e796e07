//! The card of a base model: what it was made of, and how well it does on what was held out.

use std::path::PathBuf;

use yingda_models::BertConfig;

use super::{PretrainConfig, PretrainSummary, corpus::Corpus};

const TITLE: &str = "# A Chinese base encoder\n";

/// The card as Markdown. `before` is that of the base which the run went on from: it stands at the end, so that the card names
/// all that the model ever learnt from.
pub(crate) fn card(
    config: &PretrainConfig,
    corpus: &Corpus,
    encoder: &BertConfig,
    summary: &PretrainSummary,
    before: Option<&str>,
) -> String {
    use std::fmt::Write as _;
    let name = |path: &PathBuf| path.file_name().map_or_else(|| path.clone(), PathBuf::from);
    let mut text =
        format!("---\nlanguage: zh\nlibrary_name: yingda\npipeline_tag: feature-extraction\n---\n\n{TITLE}\n");
    let by = match (config.epochs > 0.0, config.pair_epochs > 0.0 && !config.pairs.is_empty()) {
        (true, true) => {
            "Masked language modelling with whole words, then contrastive training on question pairs".to_owned()
        }
        (true, false) => "Masked language modelling with whole words".to_owned(),
        (false, true) => {
            let tokens = config.pair_text_tokens;
            let beside = format!(", and beside each step masked language modelling of {tokens} tokens");
            format!("Contrastive training on question pairs{}", if tokens > 0 { beside.as_str() } else { "" })
        }
        (false, false) => "Nothing was learnt in this run".to_owned(),
    };
    let _ = writeln!(
        text,
        "Made by `yingda-train {} pretrain`: {} layers × {}, {} tokens in the vocabulary, texts of up to {} tokens. {by}; {} steps.\n",
        env!("CARGO_PKG_VERSION"),
        encoder.num_hidden_layers,
        encoder.hidden_size,
        encoder.vocab_size,
        encoder.max_position_embeddings,
        summary.steps
    );
    if let Some(base) = &config.base {
        let vocabulary = if config.tokenizer.is_some() { ", with the entries of another vocabulary" } else { "" };
        let _ = writeln!(text, "It went on from `{}`{vocabulary}.\n", name(base).display());
    }
    let loss = |loss: f64| format!("cross-entropy of hidden tokens {loss:.3} (perplexity {:.1})", loss.exp());
    let area = |area: f64| format!("area under the ROC curve of the cosine {area:.4}");
    let measured: Vec<String> = summary.masked_loss.map(loss).into_iter().chain(summary.pair_area.map(area)).collect();
    if !measured.is_empty() {
        let _ = writeln!(text, "On text and pairs that were held out: {}.\n", measured.join(", "));
    }
    text.push_str("## Sources\n\n| file | lines or messages |\n|---|---|\n");
    let times = |count: usize| if count > 1 { format!(", {count} times") } else { String::new() };
    for source in corpus.sources.chunk_by(|one, other| one == other) {
        let (name, lines) = &source[0];
        let _ = writeln!(text, "| {name}{} | {lines} |", times(source.len()));
    }
    for pairs in config.pairs.chunk_by(|one, other| one == other) {
        let _ = writeln!(text, "| {} (question pairs){} | |", name(&pairs[0]).display(), times(pairs.len()));
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
    if let Some((_, before)) = before.and_then(|card| card.split_once(TITLE)) {
        text.push_str("\n## Before that\n");
        for line in before.lines() {
            let deeper = if line.starts_with("##") { "#" } else { "" };
            let _ = writeln!(text, "{deeper}{line}");
        }
    }
    text
}
