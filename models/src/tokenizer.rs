//! From a raw text to token ids: the text contract, then BERT WordPiece, then the length limit.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
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
    /// Token ids: `[CLS]`, the text, `[SEP]`; then its context, if it has one, and `[SEP]`.
    pub ids: Vec<u32>,
    /// How many of the ids are the text's own; the others are context.
    pub own: usize,
    /// Whether the text was too long and its middle was left out.
    pub truncated: bool,
}

/// Texts that are run together, one after the other without padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    ids: Vec<u32>,
    segments: Vec<u32>,
    texts: Vec<Range<usize>>,
}

/// A batch as tensors, padded to its longest text.
pub(crate) struct Padded {
    /// Token ids `[batch, length]`, `u32`.
    pub(crate) input_ids: Tensor,
    /// Segments `[batch, length]`, `u32`.
    pub(crate) segments: Tensor,
    /// 1 where a token is and 0 on padding, `[batch, length]`, `f32`.
    pub(crate) attention_mask: Tensor,
    /// 1 on the tokens of segment 0, `[batch, length]`, `f32`.
    pub(crate) pooling_mask: Tensor,
}

impl Batch {
    /// Token ids of each text, special tokens included, all of segment 0.
    pub fn new<R: AsRef<[u32]>>(rows: &[R]) -> Self {
        let mut batch = Self::default();
        for row in rows {
            batch.push(row.as_ref(), row.as_ref().len());
        }
        batch
    }

    /// Adds a text: its first `own` tokens are the text itself (segment 0), the others are context (segment 1).
    pub fn push(&mut self, ids: &[u32], own: usize) {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.segments.extend((0..ids.len()).map(|index| u32::from(index >= own)));
        self.texts.push(start..self.ids.len());
    }

    /// Texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Tokens of all texts together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Token ids of all texts, one after the other.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    pub(crate) fn segments(&self) -> &[u32] {
        &self.segments
    }

    /// Where each text lies in [`Batch::ids`].
    pub fn texts(&self) -> &[Range<usize>] {
        &self.texts
    }

    /// The tokens of text `index` that are its own, not its context.
    pub(crate) fn own(&self, index: usize) -> Range<usize> {
        let text = self.texts[index].clone();
        let own = self.segments[text.clone()].iter().take_while(|&&segment| segment == 0).count();
        text.start..text.start + own
    }

    /// As tensors, with `padding` behind the shorter texts.
    pub(crate) fn padded(&self, padding: u32, device: &Device) -> Result<Padded, ModelError> {
        let length = self.texts.iter().map(Range::len).max().unwrap_or(0);
        let shape = (self.texts.len(), length);
        let fill = |value: &dyn Fn(usize) -> f32, otherwise: f32| {
            let mut rows = vec![otherwise; shape.0 * shape.1];
            for (row, text) in rows.chunks_mut(length.max(1)).zip(&self.texts) {
                for (cell, token) in row.iter_mut().zip(text.clone()) {
                    *cell = value(token);
                }
            }
            Tensor::from_vec(rows, shape, device)
        };
        let whole = |values: &[u32], otherwise: u32| {
            let mut rows = vec![otherwise; shape.0 * shape.1];
            for (row, text) in rows.chunks_mut(length.max(1)).zip(&self.texts) {
                row[..text.len()].copy_from_slice(&values[text.clone()]);
            }
            Tensor::from_vec(rows, shape, device)
        };
        Ok(Padded {
            input_ids: whole(&self.ids, padding)?,
            segments: whole(&self.segments, 0)?,
            attention_mask: fill(&|_| 1.0, 0.0)?,
            pooling_mask: fill(&|token| if self.segments[token] == 0 { 1.0 } else { 0.0 }, 0.0)?,
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
            Self::word_pieces(&entries, serde_json::json!({ "type": "BertPreTokenizer" }), None, contract, max_tokens)
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

    /// A WordPiece tokenizer over `entries`, as [`VocabularyCounter`] makes them; the index is the id. As BERT's it lower-cases and
    /// takes Chinese characters apart, and also emoji, kana and all else that is not ASCII: BERT's own leaves these in one piece with
    /// their neighbours, which no vocabulary has. Accents stay.
    ///
    /// # Errors
    /// When a special token is missing or an entry stands twice.
    pub fn from_vocabulary(entries: &[String], contract: TextContract, max_tokens: usize) -> Result<Self, ModelError> {
        let apart = serde_json::json!({
            "type": "Sequence",
            "pretokenizers": [
                { "type": "BertPreTokenizer" },
                {
                    "type": "Split", "pattern": { "Regex": "[^\\x00-\\x7F]" }, "behavior": "Isolated",
                    "invert": false,
                },
            ],
        });
        Self::word_pieces(entries, apart, Some(false), contract, max_tokens)
    }

    fn word_pieces(
        entries: &[String],
        pre_tokenizer: serde_json::Value,
        strip_accents: Option<bool>,
        contract: TextContract,
        max_tokens: usize,
    ) -> Result<Self, ModelError> {
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
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": strip_accents,
                "lowercase": true,
            },
            "pre_tokenizer": pre_tokenizer,
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
        let (ids, truncated) = self.tokens(text, self.max_tokens)?;
        Ok(Encoded { own: ids.len(), ids, truncated })
    }

    /// The tokens of a text with what was said before it, both after the contract: the text first, then its context, which
    /// gets what the text leaves of the length limit and at most half of it. A context that is too long keeps its end.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode_with_context(&self, text: &str, context: &str) -> Result<Encoded, ModelError> {
        let mut encoded = self.encode_model_text(text)?;
        let room = (self.max_tokens - encoded.ids.len()).min(self.max_tokens / 2);
        if context.is_empty() || room < 3 {
            return Ok(encoded);
        }
        let encoding = self.inner.encode(context, true).map_err(|error| ModelError::Tokenizer(error.to_string()))?;
        // Without [CLS]; the last token is [SEP].
        let ids = &encoding.get_ids()[1..];
        encoded.ids.extend_from_slice(&ids[ids.len().saturating_sub(room)..]);
        Ok(encoded)
    }

    /// Tokens with `[CLS]` and `[SEP]`, cut in the middle to `limit`.
    fn tokens(&self, text: &str, limit: usize) -> Result<(Vec<u32>, bool), ModelError> {
        let encoding = self.inner.encode(text, true).map_err(|error| ModelError::Tokenizer(error.to_string()))?;
        let ids = encoding.get_ids();
        if ids.len() <= limit {
            return Ok((ids.to_vec(), false));
        }
        let tail = limit / 2;
        let mut kept = ids[..limit - tail].to_vec();
        kept.extend_from_slice(&ids[ids.len() - tail..]);
        Ok((kept, true))
    }

    /// The tokens of a text that went through the contract, without special ones and at any length, each with the byte where
    /// it starts.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn tokens_with_starts(&self, text: &str) -> Result<Vec<(u32, usize)>, ModelError> {
        let encoding = self.inner.encode(text, false).map_err(|error| ModelError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().iter().zip(encoding.get_offsets()).map(|(&id, &(start, _))| (id, start)).collect())
    }

    /// Id of a vocabulary entry.
    ///
    /// # Errors
    /// When the vocabulary has no such entry.
    pub fn id(&self, entry: &str) -> Result<u32, ModelError> {
        let id = self.inner.token_to_id(entry);
        id.ok_or_else(|| ModelError::Tokenizer(format!("the vocabulary has no {entry}; a BERT vocabulary is needed")))
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

/// Most characters that a customer's turn has in a context, so that one long turn leaves room for those before it.
const CUSTOMER_CHARACTERS: usize = 40;
/// The same of an agent's turn: what customers want is in their own words.
const AGENT_CHARACTERS: usize = 20;

/// What was said before a message as one text, oldest first: `(whether the customer said it, its text after the contract)`. A long
/// turn keeps its beginning and its end.
pub fn context<'a>(turns: impl Iterator<Item = (bool, &'a str)>) -> String {
    let mut text = String::new();
    for (customer, turn) in turns.filter(|(_, turn)| !turn.is_empty()) {
        let (speaker, most) = if customer { (" 客户 ", CUSTOMER_CHARACTERS) } else { (" 客服 ", AGENT_CHARACTERS) };
        text.push_str(speaker);
        let count = turn.chars().count();
        if count <= most {
            text.push_str(turn);
        } else {
            let end = most / 3;
            text.extend(turn.chars().take(most - end).chain("...".chars()).chain(turn.chars().skip(count - end)));
        }
    }
    text
}

/// A vocabulary for a fresh Chinese encoder: every character of `texts`, and Latin words that occur five times or more. See
/// [`VocabularyCounter`].
pub fn character_vocabulary<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut counter = VocabularyCounter::default();
    texts.into_iter().for_each(|text| counter.add(text));
    counter.build(1, 5)
}

/// Emoji that customers and agents send; a corpus of written text has few of them.
const EMOJI: &str = concat!(
    "😀😁😂🤣😃😄😅😆😉😊😋😎😍😘🥰😚🙂🤗🤩🤔🤨😐😑😶🙄😏😣😥😮😯😪😫😴😌😛😜😝🤤😒😓😔😕🙃🤑😲☹🙁😖😞😟😤😢😭",
    "😨😩🤯😬😰😱🥵🥺😳🤪😵😡😠🤬😷🤢🤮🤧😇🤡🤫🤭🧐💩👍👎👌✌🤝👏🙏💪👋🤦🤷👀🌹🌷💐🎁🎉🎂❤💔💕💖💗💋🔥💯✨⭐🌟☀🌙",
    "📦🚚💰💸🧧📞📱✅❌⭕❗❓🐢🐌🐶🐱🐮🍺☕",
);

/// Counts characters and Latin words of a corpus, to make a vocabulary of them.
#[derive(Clone, Debug, Default)]
pub struct VocabularyCounter {
    characters: BTreeMap<char, usize>,
    words: BTreeMap<String, usize>,
}

impl VocabularyCounter {
    /// Counts one text, after the contract.
    pub fn add(&mut self, text: &str) {
        for character in text.chars().filter(|c| !c.is_whitespace()) {
            *self.characters.entry(character).or_default() += 1;
        }
        for word in text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| word.len() > 1) {
            *self.words.entry(word.to_ascii_lowercase()).or_default() += 1;
        }
    }

    /// The vocabulary: special and contract tokens, letters, digits and their `##` pieces, the emoji of chats, the 3,755 frequent
    /// characters of GB 2312 level 1, then what occurs at least `least` times (Latin words four times as often).
    ///
    /// The order depends on the counted texts alone, not on the order in which they came.
    pub fn vocabulary(&self, least: usize) -> Vec<String> {
        self.build(least, 4 * least)
    }

    fn build(&self, least_character: usize, least_word: usize) -> Vec<String> {
        let mut entries: Vec<String> =
            SPECIAL_TOKENS.iter().chain(CONTRACT_TOKENS.iter()).map(|&token| token.to_owned()).collect();
        for letter in ('a'..='z').chain('0'..='9') {
            entries.push(letter.to_string());
            entries.push(format!("##{letter}"));
        }
        entries.extend((b'!'..=b'~').map(char::from).filter(char::is_ascii_punctuation).map(String::from));
        entries.extend(EMOJI.chars().map(String::from));
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
        let mut known: HashSet<String> = entries.iter().cloned().collect();
        let mut push = |entry: String| {
            if known.insert(entry.clone()) {
                entries.push(entry);
            }
        };
        for (character, _) in self.characters.iter().filter(|&(_, &count)| count >= least_character) {
            // BERT's tokenizer lower-cases, so an upper-case entry would never be met.
            character.to_lowercase().for_each(|c| push(c.to_string()));
        }
        for (word, _) in self.words.iter().filter(|&(_, &count)| count >= least_word) {
            push(word.clone());
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_long_turn_leaves_room_for_those_before_it_in_a_context() {
        let said = [
            (true, "我的快递还没有到"),
            (false, ""),
            (false, "您好，非常抱歉给您带来了不好的购物体验，请您提供一下订单号"),
        ];
        let context = context(said.into_iter());
        assert_eq!(context, " 客户 我的快递还没有到 客服 您好，非常抱歉给您带来了不好...供一下订单号");
    }
}
