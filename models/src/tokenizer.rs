//! From a raw text to token ids: the text contract, then BERT WordPiece, then the length limit.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
};

use candle_core::{Device, Tensor};
use tokenizers::Tokenizer;

use crate::{
    ModelError,
    text::{CONTRACT_TOKENS, TextContract},
};

const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The tokens of one text, special tokens included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, `[CLS]` first and `[SEP]` last.
    pub ids: Vec<u32>,
    /// Whether the text was too long and its middle was left out.
    pub truncated: bool,
}

/// Texts that are run together, padded to the longest.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Token ids `[batch, length]`, `u32`.
    pub input_ids: Tensor,
    /// 1 where a token is and 0 on padding, `[batch, length]`, `f32`.
    pub attention_mask: Tensor,
}

impl Batch {
    /// Pads `rows` with `padding` to the longest of them.
    ///
    /// # Errors
    /// When there is no row, or a tensor cannot be made.
    pub fn new<R: AsRef<[u32]>>(rows: &[R], padding: u32, device: &Device) -> Result<Self, ModelError> {
        let length = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
        let mut ids = vec![padding; rows.len() * length];
        let mut mask = vec![0f32; rows.len() * length];
        for (index, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            ids[index * length..][..row.len()].copy_from_slice(row);
            mask[index * length..][..row.len()].fill(1.0);
        }
        Ok(Self {
            input_ids: Tensor::from_vec(ids, (rows.len(), length), device)?,
            attention_mask: Tensor::from_vec(mask, (rows.len(), length), device)?,
        })
    }
}

/// A WordPiece tokenizer together with the text contract and the length limit that a model was trained with.
#[derive(Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    contract: TextContract,
    max_tokens: usize,
    padding: u32,
}

impl TextTokenizer {
    /// Reads `tokenizer.json`, or else a BERT `vocab.txt`, of `folder`.
    ///
    /// # Errors
    /// When neither is there or one is not usable; the sentence names the file.
    pub fn load(folder: &Path, contract: TextContract, max_tokens: usize) -> Result<Self, ModelError> {
        let json = folder.join("tokenizer.json");
        let vocabulary = folder.join("vocab.txt");
        if json.exists() {
            let bytes = std::fs::read(&json).map_err(ModelError::io("read", &json))?;
            Self::from_json(&bytes, contract, max_tokens)
                .map_err(|error| ModelError::malformed(&json, error.to_string()))
        } else if vocabulary.exists() {
            let text = std::fs::read_to_string(&vocabulary).map_err(ModelError::io("read", &vocabulary))?;
            // Only LF ends an entry: the Chinese BERT vocabulary has entries that hold other line separators.
            let entries: Vec<String> = text
                .strip_suffix('\n')
                .unwrap_or(&text)
                .split('\n')
                .map(|entry| entry.strip_suffix('\r').unwrap_or(entry).to_owned())
                .collect();
            Self::from_vocabulary(&entries, contract, max_tokens)
                .map_err(|error| ModelError::malformed(&vocabulary, error.to_string()))
        } else {
            Err(ModelError::MissingFile {
                folder: folder.to_owned(),
                file: "tokenizer.json",
                hint: "nor a vocab.txt; copy the tokenizer of the model into it",
            })
        }
    }

    /// From the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is not a tokenizer, or lacks `[CLS]`, `[SEP]` or `[PAD]`.
    pub fn from_json(json: &[u8], contract: TextContract, max_tokens: usize) -> Result<Self, ModelError> {
        let mut inner = Tokenizer::from_bytes(json)
            .map_err(|error| ModelError::Tokenizer(format!("not a tokenizer.json: {error}")))?;
        // Length and padding are ours: a limit in the file would cut the end of a text silently.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| ModelError::Tokenizer(error.to_string()))?;
        for token in ["[CLS]", "[SEP]"] {
            if inner.token_to_id(token).is_none() {
                return Err(ModelError::Tokenizer(format!(
                    "the vocabulary has no {token}; a BERT vocabulary is needed"
                )));
            }
        }
        let padding = inner
            .token_to_id("[PAD]")
            .ok_or_else(|| ModelError::Tokenizer("the vocabulary has no [PAD]; a BERT vocabulary is needed".into()))?;
        if max_tokens < 4 {
            return Err(ModelError::Tokenizer(format!("max_tokens is {max_tokens}; it must be at least 4")));
        }
        Ok(Self { inner, contract, max_tokens, padding })
    }

    /// A BERT WordPiece tokenizer (lower-casing, Chinese characters apart) over `entries`; the index is the id.
    ///
    /// # Errors
    /// When a special token is missing or an entry stands twice.
    pub fn from_vocabulary(entries: &[String], contract: TextContract, max_tokens: usize) -> Result<Self, ModelError> {
        let mut ids = serde_json::Map::new();
        for (id, entry) in entries.iter().enumerate() {
            if ids.insert(entry.clone(), id.into()).is_some() {
                return Err(ModelError::Tokenizer(format!("entry {entry:?} stands twice in the vocabulary")));
            }
        }
        let id = |token: &str| {
            ids.get(token).cloned().ok_or_else(|| {
                ModelError::Tokenizer(format!("the vocabulary has no {token}; a BERT vocabulary is needed"))
            })
        };
        let mut added = Vec::new();
        for (tokens, special) in [(&SPECIAL_TOKENS[..], true), (&CONTRACT_TOKENS[..], false)] {
            for token in tokens {
                let id = if special {
                    id(token)?
                } else if let Some(id) = ids.get(*token) {
                    id.clone()
                } else {
                    continue;
                };
                added.push(serde_json::json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": special,
                }));
            }
        }
        added.sort_by_key(|token| token["id"].as_u64());
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                "lowercase": true,
            },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": {
                "type": "BertProcessing", "sep": ["[SEP]", id("[SEP]")?], "cls": ["[CLS]", id("[CLS]")?],
            },
            "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": ids,
            },
        });
        Self::from_json(json.to_string().as_bytes(), contract, max_tokens)
    }

    /// The tokens of a raw text: masked, cleaned, cut to the length limit.
    ///
    /// A text that is too long keeps its beginning and its end, where customers greet and where they ask (head and tail, Sun
    /// et al. 2019, <https://arxiv.org/abs/1905.05583>).
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, raw: &str) -> Result<Encoded, ModelError> {
        self.encode_model_text(&self.contract.model_text(raw))
    }

    /// The tokens of a text that already went through the contract.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_model_text(&self, text: &str) -> Result<Encoded, ModelError> {
        let encoding = self.inner.encode(text, true).map_err(|error| ModelError::Tokenizer(error.to_string()))?;
        let ids = encoding.get_ids();
        if ids.len() <= self.max_tokens {
            return Ok(Encoded { ids: ids.to_vec(), truncated: false });
        }
        let tail = self.max_tokens / 2;
        let mut kept = ids[..self.max_tokens - tail].to_vec();
        kept.extend_from_slice(&ids[ids.len() - tail..]);
        Ok(Encoded { ids: kept, truncated: true })
    }

    /// Entries of the vocabulary.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Every entry with its id, by entry.
    pub fn vocabulary(&self) -> BTreeMap<String, u32> {
        self.inner.get_vocab(true).into_iter().collect()
    }

    /// Id of `[PAD]`.
    pub fn padding(&self) -> u32 {
        self.padding
    }

    /// Id of `[MASK]`, if the vocabulary has it.
    pub fn mask(&self) -> Option<u32> {
        self.inner.token_to_id("[MASK]")
    }

    /// Longest encoding, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The text contract that is applied.
    pub fn contract(&self) -> &TextContract {
        &self.contract
    }

    /// The content of a `tokenizer.json`.
    ///
    /// # Errors
    /// When the tokenizer cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, ModelError> {
        self.inner.to_string(false).map_err(|error| ModelError::Tokenizer(error.to_string()))
    }
}

/// A vocabulary for a fresh Chinese encoder: special and contract tokens, letters, digits and their `##` pieces, the 3,755
/// frequent characters of GB 2312 level 1, and every other character and frequent Latin word of `texts`.
///
/// The order depends on the content of `texts` alone.
pub fn character_vocabulary<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut entries: Vec<String> =
        SPECIAL_TOKENS.iter().chain(CONTRACT_TOKENS.iter()).map(|&token| token.to_owned()).collect();
    for letter in ('a'..='z').chain('0'..='9') {
        entries.push(letter.to_string());
        entries.push(format!("##{letter}"));
    }
    entries.extend((b'!'..=b'~').map(char::from).filter(char::is_ascii_punctuation).map(String::from));
    // GB 2312 rows 16 to 55, 94 characters each; the last row ends after 89.
    for lead in 0xb0..=0xd7u8 {
        for trail in 0xa1..=0xfeu8 {
            let bytes = [lead, trail];
            let (text, _, failed) = encoding_rs::GB18030.decode(&bytes);
            if !failed && text.chars().all(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)) {
                entries.push(text.into_owned());
            }
        }
    }
    let mut characters = BTreeMap::<char, usize>::new();
    let mut words = BTreeMap::<String, usize>::new();
    for text in texts {
        for character in text.chars().filter(|c| !c.is_whitespace()) {
            *characters.entry(character).or_default() += 1;
        }
        for word in text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 1) {
            *words.entry(word.to_ascii_lowercase()).or_default() += 1;
        }
    }
    let mut known: HashSet<String> = entries.iter().cloned().collect();
    let mut push = |entry: String| {
        if known.insert(entry.clone()) {
            entries.push(entry);
        }
    };
    for character in characters.keys() {
        // BERT's tokenizer lower-cases, so an upper-case entry would never be met.
        character.to_lowercase().for_each(|c| push(c.to_string()));
    }
    for (word, _) in words.into_iter().filter(|&(_, count)| count >= 5) {
        push(word);
    }
    entries
}
