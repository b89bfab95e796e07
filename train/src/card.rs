//! The model card that every run writes: what the model was trained on, what it is worth, what it is not for.

use std::fmt::Write as _;

use yingda_models::{BertConfig, Labels, Lexical, ModelSettings};

use crate::{
    eval::Scores, examples::Example, fit::FitConfig, metrics::TaskScores, retrieval::RetrievalScores, run::EpochLine,
};

/// What a card is made from.
pub(crate) struct About<'a> {
    pub(crate) config: &'a FitConfig,
    pub(crate) labels: &'a Labels,
    pub(crate) settings: &'a ModelSettings,
    pub(crate) encoder: &'a BertConfig,
    pub(crate) lexical: Option<&'a Lexical>,
    /// Labelled messages for training, validation and test.
    pub(crate) sizes: [usize; 3],
    pub(crate) train_counts: (Vec<usize>, Vec<usize>),
    pub(crate) train: &'a [Example],
    pub(crate) epochs: &'a [EpochLine],
    pub(crate) best_epoch: usize,
    pub(crate) test: &'a Scores,
    pub(crate) retrieval: Option<&'a RetrievalScores>,
}

/// The card as Markdown.
pub(crate) fn card(about: &About<'_>) -> String {
    let mut text = String::new();
    let mut say = |line: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(line);
        text.push('\n');
    };
    let config = about.config;
    let files = |paths: &[std::path::PathBuf]| {
        let names: Vec<String> = paths
            .iter()
            .map(|path| {
                path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
            })
            .collect();
        names.join(", ")
    };
    say(format_args!("---\nlanguage: zh\nlibrary_name: yingda\npipeline_tag: text-classification\n---\n"));
    say(format_args!("# Chinese customer-service model: intent, sentiment, embedding\n"));
    say(format_args!(
        "Made by `{}`. One forward pass gives {} intents, {} sentiments and an embedding of length {} ({} layers, {} tokens in \
         the vocabulary, texts of up to {} tokens). Started from {}.\n",
        about.settings.created_by,
        about.labels.intents.len(),
        about.labels.sentiments.len(),
        about.encoder.hidden_size,
        about.encoder.num_hidden_layers,
        about.encoder.vocab_size,
        about.settings.max_tokens,
        match (&config.base, &config.embeddings) {
            (Some(base), _) => format!("the base `{}`", files(&[base.into()])),
            (None, Some(path)) =>
                format!("a fresh encoder with character vectors from `{}`", files(std::slice::from_ref(path))),
            (None, None) => "a fresh encoder with random weights".into(),
        }
    ));
    if let Some(lexical) = about.lexical {
        let tasks = ["intent", "sentiment"].into_iter().zip(lexical.heads());
        let tasks: Vec<&str> = tasks.filter_map(|(task, head)| head.map(|_| task)).collect();
        say(format_args!(
            "A lexical part adds what {} n-grams of tokens say for the {}, as strongly as made the validation labels most \
             likely.\n",
            lexical.keys().len(),
            tasks.join(" and the ")
        ));
    }
    say(format_args!("## Data\n"));
    say(format_args!("- Training files: {}; knowledge: {}", files(&config.data), or_none(&files(&config.knowledge))));
    say(format_args!(
        "- Test files: {}",
        if config.test.is_empty() { "split from the data".into() } else { files(&config.test) }
    ));
    say(format_args!(
        "- Labelled messages: {} for training, {} for validation, {} for the test",
        about.sizes[0], about.sizes[1], about.sizes[2]
    ));
    say(format_args!("- Fingerprint of the training messages: `{}`\n", about.settings.data_fingerprint));
    say(format_args!("| class | training messages | an example |\n|---|---|---|"));
    let example = |wanted: &dyn Fn(&Example) -> bool| {
        about
            .train
            .iter()
            .find(|example| wanted(example) && (6..40).contains(&example.model_text.chars().count()))
            .map_or(String::new(), |example| example.model_text.replace('|', "／"))
    };
    for (index, label) in about.labels.intents.iter().enumerate() {
        let text = example(&|example| example.intent == Some(index as u32));
        say(format_args!("| {label} | {} | {text} |", about.train_counts.0[index]));
    }
    for (index, label) in about.labels.sentiments.iter().enumerate() {
        let text = example(&|example| example.sentiment == Some(index as u32));
        say(format_args!("| {label} | {} | {text} |", about.train_counts.1[index]));
    }
    say(format_args!("\n## Scores on the test split, which was used once\n"));
    for (name, task) in [("Intent", &about.test.intent), ("Sentiment", &about.test.sentiment)] {
        match task {
            Some(task) => say(format_args!("{}\n", task_table(name, task))),
            None => say(format_args!("{name}: no message of the test split has this label.\n")),
        }
    }
    if let Some(retrieval) = about.retrieval {
        say(format_args!(
            "Retrieval: {} wordings that were held out of training, {} entries: recall@1 {:.4}, recall@5 {:.4}, MRR@10 {:.4}.\n",
            retrieval.queries, retrieval.entries, retrieval.recall_at_1, retrieval.recall_at_5, retrieval.mrr_at_10
        ));
    }
    say(format_args!("## Calibration and thresholds, from validation data\n"));
    let (temperatures, thresholds) = (about.settings.temperatures, about.settings.thresholds);
    say(format_args!("- Temperatures: intent {:.3}, sentiment {:.3}", temperatures.intent, temperatures.sentiment));
    say(format_args!(
        "- An intent is trusted from probability {:.3} (aim: {:.0} % right) with a distance of {:.2} to the second; a message \
         counts as negative from {:.2}\n",
        thresholds.intent_confidence,
        config.precision * 100.0,
        thresholds.intent_gap,
        thresholds.negative
    ));
    say(format_args!(
        "## Epochs\n\n| epoch | training loss | intent macro-F1 | sentiment macro-F1 | recall@1 |\n|---|---|---|---|---|"
    ));
    for line in about.epochs {
        let figure = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let bold = if line.epoch == about.best_epoch { "**" } else { "" };
        say(format_args!(
            "| {bold}{}{bold} | {:.4} | {bold}{}{bold} | {bold}{}{bold} | {} |",
            line.epoch,
            line.validation.training_loss,
            figure(line.validation.intent_macro_f1),
            figure(line.validation.sentiment_macro_f1),
            figure(line.validation.recall_at_1)
        ));
    }
    say(format_args!("\n## What it must not be used for\n"));
    say(format_args!(
        "It knows the questions of one shop's customers. It is no judge of people: a negative message is a reason to help, not a \
         score of a customer. It must not decide on refunds, credit, health or law, and a message that it does not understand \
         belongs to a person.\n"
    ));
    let settings = serde_json::to_string_pretty(&without_paths(config)).expect("plain data is always JSON");
    say(format_args!("## Settings\n\n```json\n{settings}\n```"));
    text
}

/// The settings, with files named but not where they lay: a card travels further than a disk.
fn without_paths(config: &FitConfig) -> FitConfig {
    let name = |path: &std::path::PathBuf| path.file_name().map_or_else(|| path.clone(), std::path::PathBuf::from);
    FitConfig {
        data: config.data.iter().map(name).collect(),
        test: config.test.iter().map(name).collect(),
        knowledge: config.knowledge.iter().map(name).collect(),
        embeddings: config.embeddings.as_ref().map(name),
        base: config.base.as_ref().map(|base| name(&base.into()).display().to_string()),
        ..config.clone()
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn task_table(name: &str, task: &TaskScores) -> String {
    let mut text =
        format!("{name}: {}.\n\n| class | precision | recall | F1 | rows |\n|---|---|---|---|---|", task.line());
    for class in &task.classes {
        let _ = write!(
            text,
            "\n| {} | {:.3} | {:.3} | {:.3} | {} |",
            class.label, class.precision, class.recall, class.f1, class.support
        );
    }
    text
}
