//! The text and chats of pretraining: cleaned, cut into words, tokenized once, and kept in shards on disk, so that memory does
//! not grow with the corpus of text.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use jieba_rs::Jieba;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use yingda_datasets::{ColumnMap, Role};
use yingda_models::{Seeded, TextTokenizer, context};

use crate::{TrainError, chats, lines::TextLines, output};

/// Lines that are tokenized together.
const LINES: usize = 16_384;
/// One in so many lines is held out to measure on.
const HELD_OUT: u64 = 200;
/// Files that are open at once while a corpus is written.
const MOST_SHARDS: usize = 512;
/// Random stream of the shards.
const SHARD_STREAM: u64 = 1 << 38;
/// Random stream of how much context a turn has.
const CONTEXT_STREAM: u64 = 1 << 40;
/// Set on a token that goes on with the word before it.
const INSIDE: u32 = 1 << 31;

static WORDS: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// What a corpus is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources<'a> {
    /// Files with one text a line.
    pub(crate) text: &'a [PathBuf],
    /// Files of chats.
    pub(crate) chats: &'a [PathBuf],
    /// Most turns before a turn of a chat that are read with it.
    pub(crate) context_turns: usize,
}

/// A tokenized corpus on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Corpus {
    /// Tokens of each shard, special ones left out.
    pub(crate) shards: Vec<usize>,
    /// Lines or messages of each source file, by name.
    pub(crate) sources: Vec<(String, usize)>,
    /// Tokens of the held-out lines.
    pub(crate) held_out: usize,
    /// SHA-256 over everything that was written.
    pub(crate) fingerprint: String,
}

/// A piece of text as token ids, without special tokens; the first token of every word is known. A turn of a chat may have
/// context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    tokens: Vec<u32>,
    /// How many of the tokens are the piece's own; the others are context.
    own: usize,
}

impl Piece {
    fn new(mut tokens: Vec<u32>, context: &[u32]) -> Self {
        let own = tokens.len();
        tokens.extend_from_slice(context);
        // A piece that was cut within a word begins with one all the same.
        for start in [0, own] {
            if let Some(token) = tokens.get_mut(start) {
                *token &= !INSIDE;
            }
        }
        Self { tokens, own }
    }

    /// Ids of its own tokens.
    pub(crate) fn own(&self) -> impl Iterator<Item = u32> {
        self.tokens[..self.own].iter().map(|token| token & !INSIDE)
    }

    /// Ids of the tokens of its context.
    pub(crate) fn context(&self) -> impl Iterator<Item = u32> {
        self.tokens[self.own..].iter().map(|token| token & !INSIDE)
    }

    /// Tokens of its own and of its context.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens with `[CLS]` before it and `[SEP]` behind each part.
    pub(crate) fn encoded_len(&self) -> usize {
        self.len() + 2 + usize::from(self.has_context())
    }

    /// Whether it has context.
    pub(crate) fn has_context(&self) -> bool {
        self.own < self.tokens.len()
    }

    /// Where token `token` stands once `[CLS]` is before the piece and `[SEP]` behind it.
    pub(crate) fn place(&self, token: usize) -> usize {
        token + 1 + usize::from(token >= self.own)
    }

    /// Ranges of tokens that are one word each.
    pub(crate) fn words(&self) -> Vec<std::ops::Range<usize>> {
        let starts: Vec<usize> = (0..self.len()).filter(|&index| self.tokens[index] & INSIDE == 0).collect();
        let ends = starts.iter().skip(1).copied().chain([self.len()]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
    }
}

/// Tokens of a text that went through the contract; each knows whether a word of the segmenter starts with it.
fn tokens(tokenizer: &TextTokenizer, text: &str) -> Result<Vec<u32>, TrainError> {
    let mut starts = HashSet::new();
    let mut at = 0;
    for word in WORDS.cut(text, false) {
        starts.insert(at);
        at += word.len();
    }
    let tokens = tokenizer.tokens_with_starts(text)?;
    Ok(tokens.into_iter().map(|(id, start)| if starts.contains(&start) { id } else { id | INSIDE }).collect())
}

/// The pieces of one line: several when it is longer than a text may be.
pub(crate) fn pieces(tokenizer: &TextTokenizer, line: &str) -> Result<Vec<Piece>, TrainError> {
    let tokens = tokens(tokenizer, &tokenizer.contract().model_text(line))?;
    let chunks = tokens.chunks(tokenizer.max_tokens() - 2).filter(|chunk| chunk.len() >= 2);
    Ok(chunks.map(|chunk| Piece::new(chunk.to_vec(), &[])).collect())
}

/// A turn of a chat with what was said before it, both after the contract, cut as
/// [`encode_with_context`](TextTokenizer::encode_with_context) does, but for a long turn, which keeps its beginning.
fn turn(tokenizer: &TextTokenizer, text: &str, before: &str) -> Result<Piece, TrainError> {
    let mut own = tokens(tokenizer, text)?;
    own.truncate(tokenizer.max_tokens() - 2);
    let room = (tokenizer.max_tokens() - own.len() - 2).min(tokenizer.max_tokens() / 2).saturating_sub(1);
    let before = if room < 2 { Vec::new() } else { tokens(tokenizer, before)? };
    Ok(Piece::new(own, &before[before.len().saturating_sub(room)..]))
}

/// Every turn of the chats in a file, each with one to `context_turns` of those before it, and the session that it is of.
fn turns(
    tokenizer: &TextTokenizer,
    path: &PathBuf,
    context_turns: usize,
    seed: u64,
) -> Result<Vec<(usize, Piece)>, TrainError> {
    let map = ColumnMap::for_chats::<&str>(&[])?;
    let messages = chats::checked("--chats", std::slice::from_ref(path), &map, tokenizer.contract())?.messages()?;
    let mut draw = Seeded::new(seed, CONTEXT_STREAM);
    let mut sessions: HashMap<String, (usize, VecDeque<(bool, String)>)> = HashMap::new();
    let mut cut = Vec::with_capacity(messages.len());
    for message in messages {
        let text = tokenizer.contract().model_text(&message.text);
        let number = sessions.len();
        let (session, before) = sessions.entry(message.session_id).or_insert_with(|| (number, VecDeque::new()));
        let kept = if context_turns == 0 { 0 } else { 1 + draw.below(context_turns) };
        let kept = before.iter().skip(before.len().saturating_sub(kept));
        cut.push((*session, text.clone(), context(kept.map(|(customer, text)| (*customer, text.as_str())))));
        before.push_back((message.role == Role::User, text));
        if before.len() > context_turns {
            before.pop_front();
        }
    }
    cut.into_par_iter().map(|(session, text, before)| Ok((session, turn(tokenizer, &text, &before)?))).collect()
}

impl Corpus {
    /// Tokenizes texts (one a line) and chats into shards of about `shard_tokens` tokens in `folder`. Every line and turn goes to
    /// a shard that is drawn from `seed`, so that each shard is a sample of all files.
    ///
    /// # Errors
    /// When a file cannot be read or written, or there is no text.
    pub(crate) fn build(
        sources: Sources<'_>,
        tokenizer: &TextTokenizer,
        folder: &Path,
        shard_tokens: usize,
        seed: u64,
    ) -> Result<Self, TrainError> {
        std::fs::create_dir_all(folder).map_err(TrainError::io("make", folder))?;
        let files = || sources.text.iter().chain(sources.chats);
        let sizes = files().map(|path| Ok(std::fs::metadata(path).map_err(TrainError::io("read", path))?.len()));
        let bytes = sizes.sum::<Result<u64, TrainError>>()?;
        // A Chinese character is three bytes and about one token.
        let shard_count = (bytes as usize / 3).div_ceil(shard_tokens).clamp(1, MOST_SHARDS);
        let mut writer = Writer::create(folder, shard_count, seed)?;
        let mut counts = Vec::new();
        let mut number = 0u64;
        for path in sources.text {
            let mut lines = TextLines::open(path)?;
            let mut count = 0;
            loop {
                let block = lines.block(LINES)?;
                if block.is_empty() {
                    break;
                }
                let found: Vec<Vec<Piece>> =
                    block.par_iter().map(|line| pieces(tokenizer, line)).collect::<Result<_, TrainError>>()?;
                for line in found {
                    number += 1;
                    writer.push(&line, number.is_multiple_of(HELD_OUT))?;
                }
                count += block.len();
            }
            counts.push((path, count, "lines"));
        }
        for (index, path) in sources.chats.iter().enumerate() {
            // A file that is named several times has other contexts each time.
            let found = turns(tokenizer, path, sources.context_turns, seed.wrapping_add(index as u64))?;
            for (session, piece) in found.iter().filter(|(_, piece)| piece.len() >= 2) {
                // Sessions are held out whole: their turns are one another's context.
                writer.push(std::slice::from_ref(piece), (*session as u64 + 1).is_multiple_of(HELD_OUT))?;
            }
            counts.push((path, found.len(), "messages"));
        }
        let mut corpus = writer.finish()?;
        for (path, count, what) in counts {
            let name =
                path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
            output::line(&format!("{name}: {count} {what}"));
            corpus.sources.push((name, count));
        }
        if corpus.tokens() == 0 {
            return Err(TrainError::Usage("--text: no text was found in the files; they hold one text a line".into()));
        }
        Ok(corpus)
    }

    /// Tokens of all shards.
    pub(crate) fn tokens(&self) -> usize {
        self.shards.iter().sum()
    }

    /// The pieces of one shard.
    pub(crate) fn shard(folder: &Path, index: usize) -> Result<Vec<Piece>, TrainError> {
        read_pieces(&shard_path(folder, index))
    }

    /// The pieces that are not learnt from.
    pub(crate) fn held_out(folder: &Path) -> Result<Vec<Piece>, TrainError> {
        read_pieces(&folder.join("held-out.bin"))
    }
}

fn shard_path(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("shard-{index:04}.bin"))
}

fn write_piece(file: &mut impl std::io::Write, piece: &Piece) -> std::io::Result<()> {
    file.write_all(&(piece.own as u32).to_le_bytes())?;
    file.write_all(&(piece.len() as u32).to_le_bytes())?;
    piece.tokens.iter().try_for_each(|token| file.write_all(&token.to_le_bytes()))
}

fn read_pieces(path: &Path) -> Result<Vec<Piece>, TrainError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(TrainError::io("read", path))?;
    let (words, rest) = bytes.as_chunks::<4>();
    let mut words = words.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let mut pieces = Vec::new();
    while let Some(own) = words.next() {
        let len = words.next();
        let tokens: Vec<u32> = words.by_ref().take(len.unwrap_or_default() as usize).collect();
        if len.is_none_or(|len| tokens.len() != len as usize || own > len) || !rest.is_empty() {
            return Err(TrainError::Usage(format!("{} is damaged; start the run anew", path.display())));
        }
        pieces.push(Piece { tokens, own: own as usize });
    }
    Ok(pieces)
}

/// Writes the files of a corpus.
struct Writer {
    draw: Seeded,
    hasher: Sha256,
    shards: Vec<Shard>,
    held_out: Shard,
}

impl Writer {
    fn create(folder: &Path, shards: usize, seed: u64) -> Result<Self, TrainError> {
        Ok(Self {
            draw: Seeded::new(seed, SHARD_STREAM),
            hasher: Sha256::new(),
            shards: (0..shards).map(|index| Shard::create(shard_path(folder, index))).collect::<Result<_, _>>()?,
            held_out: Shard::create(folder.join("held-out.bin"))?,
        })
    }

    fn push(&mut self, pieces: &[Piece], held_out: bool) -> Result<(), TrainError> {
        let shard = self.draw.below(self.shards.len());
        for piece in pieces {
            if held_out {
                self.held_out.push(piece)?;
            } else {
                self.shards[shard].push(piece)?;
                self.hasher.update((piece.own as u32).to_le_bytes());
                piece.tokens.iter().for_each(|token| self.hasher.update(token.to_le_bytes()));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Corpus, TrainError> {
        Ok(Corpus {
            shards: self.shards.into_iter().map(Shard::finish).collect::<Result<_, _>>()?,
            sources: Vec::new(),
            held_out: self.held_out.finish()?,
            fingerprint: self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }
}

struct Shard {
    path: PathBuf,
    file: BufWriter<std::fs::File>,
    tokens: usize,
}

impl Shard {
    fn create(path: PathBuf) -> Result<Self, TrainError> {
        let file = std::fs::File::create(&path).map_err(TrainError::io("write", &path))?;
        Ok(Self { path, file: BufWriter::new(file), tokens: 0 })
    }

    fn push(&mut self, piece: &Piece) -> Result<(), TrainError> {
        self.tokens += piece.len();
        write_piece(&mut self.file, piece).map_err(TrainError::io("write", &self.path))
    }

    fn finish(mut self) -> Result<usize, TrainError> {
        self.file.flush().map_err(TrainError::io("write", &self.path))?;
        Ok(self.tokens)
    }
}

/// Groups pieces, in a drawn order, into batches of about `tokens` tokens (special ones counted).
pub(crate) fn batches(pieces: &[Piece], tokens: usize, generator: &mut Seeded) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    generator.shuffle(&mut order);
    let (mut batches, mut batch, mut filled) = (Vec::new(), Vec::new(), 0);
    for index in order {
        filled += pieces[index].encoded_len();
        batch.push(index);
        if filled >= tokens {
            batches.push(std::mem::take(&mut batch));
            filled = 0;
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_ranges_of_tokens() {
        let piece = Piece::new(vec![5, 6 | INSIDE, 7], &[8, 9 | INSIDE]);
        assert_eq!(piece.words(), [0..2, 2..3, 3..5]);
        assert_eq!(piece.own().collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!(piece.context().collect::<Vec<_>>(), [8, 9]);
        assert_eq!((0..5).map(|token| piece.place(token)).collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
        assert_eq!(Piece::new(vec![5 | INSIDE, 6 | INSIDE, 7], &[8 | INSIDE]).words(), [0..2, 2..3, 3..4]);
    }

    #[test]
    fn shards_give_back_what_was_written_and_hold_some_out() {
        let apart = tempfile::tempdir().expect("a folder");
        let folder = apart.path();
        let text = folder.join("a.txt");
        let lines: Vec<String> = (0..450).map(|index| format!("我的快递{index}还没有到")).collect();
        std::fs::write(&text, lines.join("\n")).expect("a file");
        let vocabulary = yingda_models::character_vocabulary(lines.iter().map(String::as_str));
        let tokenizer = TextTokenizer::from_vocabulary(&vocabulary, Default::default(), 64).expect("a vocabulary");
        let sources = Sources { text: &[text], chats: &[], context_turns: 0 };
        let corpus = Corpus::build(sources, &tokenizer, folder, 1000, 7).expect("text");
        let read: usize = (0..corpus.shards.len())
            .map(|index| Corpus::shard(folder, index).expect("a shard").iter().map(Piece::len).sum::<usize>())
            .sum();
        assert!(corpus.shards.len() > 2 && read == corpus.tokens(), "{corpus:?}");
        let held: usize = Corpus::held_out(folder).expect("a file").iter().map(Piece::len).sum();
        assert!(held > 0 && held == corpus.held_out);
        let first = &pieces(&tokenizer, &lines[0]).expect("a line")[0];
        let found =
            (0..corpus.shards.len()).any(|index| Corpus::shard(folder, index).expect("a shard").contains(first));
        assert!(found, "the first line is in one of the shards");
        // 快递 is one word to the segmenter.
        assert!(first.words().iter().any(|word| word.len() == 2), "{first:?}");
    }

    #[test]
    fn a_turn_is_cut_as_it_is_for_the_model() {
        let said = ["我的快递还没有到", "您好请您提供一下订单号我帮您看看到哪里了", "好的"];
        let vocabulary = yingda_models::character_vocabulary(said.into_iter().chain(["客户客服"]));
        for limit in [9, 16, 24, 64] {
            let tokenizer =
                TextTokenizer::from_vocabulary(&vocabulary, Default::default(), limit).expect("a vocabulary");
            let before = context([(true, said[0]), (false, said[1])].into_iter());
            let encoded = tokenizer.encode_with_context(said[2], &before).expect("a text");
            let piece = turn(&tokenizer, said[2], &before).expect("a turn");
            let last = tokenizer.id("[SEP]").expect("an entry");
            let mut ids = vec![tokenizer.id("[CLS]").expect("an entry")];
            ids.extend(piece.own().chain([last]));
            assert_eq!((ids.len(), piece.has_context()), (encoded.own, true));
            ids.extend(piece.context().chain([last]));
            assert_eq!(ids, encoded.ids, "{limit}");
        }
    }

    #[test]
    fn every_turn_of_a_chat_is_a_piece_with_what_was_said_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("chats.jsonl");
        let mut lines = String::new();
        for session in 0..3 {
            for (turn, (role, text)) in
                [("user", "快递没到"), ("agent", "订单号多少"), ("user", "好的")].iter().enumerate()
            {
                lines += &format!(
                    "{{\"session_id\":\"s{session}\",\"turn\":{turn},\"role\":\"{role}\",\"text\":\"{text}\"}}\n"
                );
            }
        }
        std::fs::write(&path, &lines).expect("a file");
        let vocabulary = yingda_models::character_vocabulary([lines.as_str(), "客户客服"]);
        let tokenizer = TextTokenizer::from_vocabulary(&vocabulary, Default::default(), 64).expect("a vocabulary");
        let found = turns(&tokenizer, &path, 1, 5).expect("chats");
        assert_eq!(found, turns(&tokenizer, &path, 1, 5).expect("chats"));
        assert_eq!(found.iter().map(|(session, _)| *session).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
        assert_eq!(found.iter().map(|(_, piece)| piece.context().count()).collect::<Vec<_>>()[..3], [0, 6, 7]);
        assert!(turns(&tokenizer, &path, 0, 5).expect("chats").iter().all(|(_, piece)| !piece.has_context()));
    }

    #[test]
    fn batches_hold_every_piece_once() {
        let pieces: Vec<Piece> = (1..60).map(|len| Piece::new(vec![7; len], &[])).collect();
        let made = batches(&pieces, 100, &mut Seeded::new(1, 1));
        assert_eq!(made, batches(&pieces, 100, &mut Seeded::new(1, 1)));
        let mut seen: Vec<usize> = made.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..59).collect::<Vec<_>>());
    }
}
