//! How fast chats are read, checked and made into batches, without a model.

use std::{path::PathBuf, time::Instant};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use yingda_datasets::{CheckOptions, ColumnMap, load};
use yingda_models::{Batch, Seeded, TextTokenizer, character_vocabulary, text::TextContract};

use crate::{TrainError, examples, output};

/// Messages of a batch, as `fit` has by default.
const BATCH: usize = 32;

/// Flags of `bench input`.
#[derive(Args, Clone, Debug)]
pub struct InputFlags {
    /// Chats, in the form that `fit` reads
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    pub data: Vec<PathBuf>,
    /// A base model whose tokenizer is used; without it the characters of the chats are the vocabulary
    #[arg(long, value_name = "FOLDER")]
    pub base: Option<PathBuf>,
    /// Longest message in tokens
    #[arg(long, default_value_t = 96)]
    pub max_tokens: usize,
    /// Turns before a message that are read with it
    #[arg(long, default_value_t = 0)]
    pub context_turns: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// One kind of work on all rows.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// What was done.
    pub work: &'static str,
    /// Rows that it was done to.
    pub rows: usize,
    /// Seconds that it took.
    pub seconds: f64,
}

impl Stage {
    /// Rows a second.
    pub fn speed(&self) -> f64 {
        self.rows as f64 / self.seconds.max(1e-9)
    }
}

/// Times what stands before the model in `check` and in `fit`: reading, checking, tokenizing once, and one epoch's batches.
///
/// # Errors
/// When the chats or the tokenizer cannot be read.
pub fn input(flags: &InputFlags) -> Result<Vec<Stage>, TrainError> {
    let mut stages = Vec::new();
    let mut timed = |work: &'static str, started: Instant, rows: usize| {
        stages.push(Stage { work, rows, seconds: started.elapsed().as_secs_f64() });
        output::line(work);
    };
    let started = Instant::now();
    let chats = load(&flags.data, &ColumnMap::for_chats::<&str>(&[])?)?;
    timed("read", started, chats.len());
    let contract = TextContract::default();
    let started = Instant::now();
    yingda_datasets::check(&chats, &CheckOptions::default(), &|text| contract.model_text(text))?;
    timed("check", started, chats.len());
    let messages = chats.messages()?;
    drop(chats);
    let tokenizer = match &flags.base {
        Some(folder) => TextTokenizer::load(folder, contract, flags.max_tokens)?,
        None => {
            let entries = character_vocabulary(messages.iter().map(|message| message.text.as_str()));
            TextTokenizer::from_vocabulary(&entries, contract, flags.max_tokens)?
        }
    };
    let rows = messages.len();
    let labels = examples::labels(&messages);
    let started = Instant::now();
    let examples = examples::examples(messages, &labels, &tokenizer, flags.context_turns)?;
    timed("tokenize, once a run", started, rows);
    let started = Instant::now();
    let lengths: Vec<usize> = examples.iter().map(|example| example.encoded.ids.len()).collect();
    let mut tokens = 0;
    for batch in examples::batches(&lengths, BATCH, &mut Seeded::new(1, 1)) {
        let mut texts = Batch::default();
        batch.iter().map(|&row| &examples[row].encoded).for_each(|text| texts.push(&text.ids, text.own));
        tokens += texts.tokens();
    }
    timed("batches of one epoch", started, examples.len());
    output::line(&format!("{tokens} tokens in {} labelled messages", examples.len()));
    Ok(stages)
}

/// The stages as a table.
pub fn table(stages: &[Stage]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["work", "rows", "seconds", "rows a second"]);
    for stage in stages {
        let seconds = format!("{:.2}", stage.seconds);
        table.add_row([stage.work.to_owned(), stage.rows.to_string(), seconds, format!("{:.0}", stage.speed())]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
