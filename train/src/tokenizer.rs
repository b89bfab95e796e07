//! `tokenizer`: a vocabulary made of texts, and how well it covers them.

use std::path::{Path, PathBuf};

use clap::Args;
use rayon::prelude::*;
use serde::Serialize;
use yingda_datasets::ColumnMap;
use yingda_models::{TextTokenizer, VocabularyCounter, text::TextContract};

use crate::{TrainError, chats, fit::check_new_folder, lines::TextLines, pretrain::texts_of};

/// Lines that go through the text contract together.
const LINES: usize = 16_384;
/// The token of what no entry covers.
const UNKNOWN: &str = "[UNK]";

/// Flags of `tokenizer`.
#[derive(Args, Clone, Debug)]
pub struct TokenizerFlags {
    /// Text files, one text a line
    #[arg(long, num_args = 1.., required = true, value_name = "FILE")]
    pub text: Vec<PathBuf>,
    /// Question pairs whose texts count too: TSV with the columns left, right, label
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub pairs: Vec<PathBuf>,
    /// Chats whose texts count too, in the form that `fit` reads
    #[arg(long, num_args = 1.., value_name = "FILE")]
    pub chats: Vec<PathBuf>,
    /// Least number of times that a character must occur; a Latin word four times as often
    #[arg(long, default_value_t = 8)]
    pub least_count: usize,
    /// Folder for tokenizer.json
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// A vocabulary, and how it covers the texts it was made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenizerSummary {
    /// The file that was written.
    pub tokenizer: PathBuf,
    /// Entries of the vocabulary.
    pub entries: usize,
    /// Lines of the text files.
    pub lines: usize,
    /// Their tokens.
    pub tokens: usize,
    /// Those among them that no entry covers.
    pub unknown: usize,
    /// What is most often not covered, with how often, the commonest first.
    pub commonest_unknown: Vec<(String, usize)>,
}

impl TokenizerSummary {
    /// The summary for a terminal.
    pub fn report(&self) -> String {
        let share = 100.0 * self.unknown as f64 / self.tokens.max(1) as f64;
        let list: Vec<String> =
            self.commonest_unknown.iter().map(|(text, count)| format!("{text} ({count})")).collect();
        let commonest = if list.is_empty() { String::new() } else { format!(", most often {}", list.join(", ")) };
        format!(
            "{} entries; {} lines give {} tokens, {share:.3} % of them unknown{commonest}\nwritten to {}",
            self.entries,
            self.lines,
            self.tokens,
            self.tokenizer.display()
        )
    }
}

/// Makes a vocabulary of the texts and writes `tokenizer.json` into the folder `out`.
///
/// # Errors
/// When a file cannot be read, or `out` is not empty or cannot be written.
pub fn tokenizer(flags: &TokenizerFlags) -> Result<TokenizerSummary, TrainError> {
    check_new_folder(&flags.out)?;
    let contract = TextContract::default();
    let vocabulary = vocabulary(&flags.text, &flags.pairs, &flags.chats, flags.least_count, &contract)?;
    let made = TextTokenizer::from_vocabulary(&vocabulary, contract.clone(), 512)?;
    let unknown_id = made.id(UNKNOWN)?;
    let path = flags.out.join("tokenizer.json");
    let mut summary = TokenizerSummary {
        tokenizer: path.clone(),
        entries: vocabulary.len(),
        lines: 0,
        tokens: 0,
        unknown: 0,
        commonest_unknown: Vec::new(),
    };
    let mut unknown = std::collections::BTreeMap::<String, usize>::new();
    for file in &flags.text {
        each_block(file, &contract, |texts| {
            summary.lines += texts.len();
            let tokens: Vec<_> =
                texts.par_iter().map(|text| made.tokens_with_starts(text)).collect::<Result<_, _>>()?;
            for (text, tokens) in texts.iter().zip(tokens) {
                summary.tokens += tokens.len();
                for (place, &(_, start)) in tokens.iter().enumerate().filter(|(_, token)| token.0 == unknown_id) {
                    summary.unknown += 1;
                    let end = tokens.get(place + 1).map_or(text.len(), |next| next.1);
                    let covered = text.get(start..end).unwrap_or_default().trim();
                    *unknown.entry(covered.to_owned()).or_default() += 1;
                }
            }
            Ok(())
        })?;
    }
    let mut commonest: Vec<(String, usize)> = unknown.into_iter().collect();
    commonest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    commonest.truncate(10);
    summary.commonest_unknown = commonest;
    std::fs::create_dir_all(&flags.out).map_err(TrainError::io("make", &flags.out))?;
    let json = made.to_json()?;
    yingda_datasets::write_atomically(&path, |file| {
        std::io::Write::write_all(file, json.as_bytes())
            .map_err(|source| yingda_datasets::DatasetsError::Write { file: path.display().to_string(), source })
    })?;
    Ok(summary)
}

/// A vocabulary of the lines of `texts`, the questions of `pairs` and the messages of `chats`.
///
/// # Errors
/// When a file cannot be read.
pub fn vocabulary(
    texts: &[PathBuf],
    pairs: &[PathBuf],
    chats: &[PathBuf],
    least_count: usize,
    contract: &TextContract,
) -> Result<Vec<String>, TrainError> {
    let mut counter = VocabularyCounter::default();
    for path in texts {
        each_block(path, contract, |texts| {
            texts.iter().for_each(|text| counter.add(text));
            Ok(())
        })?;
    }
    for path in pairs {
        for text in texts_of(path)? {
            counter.add(&contract.model_text(&text));
        }
    }
    for path in chats {
        let map = ColumnMap::for_chats::<&str>(&[])?;
        for message in chats::checked("--chats", std::slice::from_ref(path), &map, contract)?.messages()? {
            counter.add(&contract.model_text(&message.text));
        }
    }
    Ok(counter.vocabulary(least_count))
}

/// Calls `work` with the lines of a file, after the contract, some thousand at a time.
fn each_block(
    path: &Path,
    contract: &TextContract,
    mut work: impl FnMut(&[String]) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    let mut lines = TextLines::open(path)?;
    loop {
        let block = lines.block(LINES)?;
        if block.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = block.par_iter().map(|line| contract.model_text(line)).collect();
        work(&texts)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emoji_kana_and_latin_survive_and_what_is_rare_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = folder.path().join("texts.txt");
        let rows = ["退钱😡😤🙏谢谢", "iphone15怎么还没到😂😂", "すみません、まだですか", "iphone15", "龘"];
        std::fs::write(&text, rows.repeat(8).join("\n") + "\nqxz齉\n").expect("a file");
        let flags = TokenizerFlags {
            text: vec![text],
            pairs: Vec::new(),
            chats: Vec::new(),
            least_count: 4,
            out: folder.path().join("out"),
            json: false,
        };
        let summary = tokenizer(&flags).expect("whole texts");
        assert_eq!((summary.lines, summary.unknown), (41, 1), "{summary:?}");
        assert_eq!(summary.commonest_unknown, [("齉".to_owned(), 1)]);
        assert!(summary.report().contains("齉 (1)"), "{}", summary.report());
        let made = TextTokenizer::load(&flags.out, TextContract::default(), 64).expect("a tokenizer");
        let names: std::collections::HashMap<u32, String> =
            made.vocabulary().into_iter().map(|(entry, id)| (id, entry)).collect();
        let pieces = |text: &str| -> Vec<String> {
            made.encode(text).expect("tokens").ids.iter().map(|id| names[id].clone()).collect()
        };
        assert_eq!(pieces("退钱😡😤🙏"), ["[CLS]", "退", "钱", "😡", "😤", "🙏", "[SEP]"]);
        assert_eq!(pieces("iPhone15吗"), ["[CLS]", "iphone", "##1", "##5", "吗", "[SEP]"]);
        assert_eq!(pieces("すみま"), ["[CLS]", "す", "み", "ま", "[SEP]"]);
        assert!(tokenizer(&flags).is_err_and(|error| error.to_string().contains("not empty")));
    }
}
