//! The text of pretraining: cleaned, cut into words, tokenized once, and kept in shards on disk, so that memory does not grow
//! with the corpus.

use std::{
    io::{BufRead, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use jieba_rs::Jieba;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use yingda_models::{Seeded, TextTokenizer};

use crate::{TrainError, output};

/// Lines that are tokenized together.
const LINES: usize = 16_384;
/// One in so many lines is held out to measure on.
const HELD_OUT: u64 = 200;
/// Files that are open at once while a corpus is written.
const MOST_SHARDS: usize = 512;
/// Random stream of the shards.
const SHARD_STREAM: u64 = 1 << 38;
/// Set on a token that goes on with the word before it.
const INSIDE: u32 = 1 << 31;

static WORDS: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// A tokenized corpus on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Corpus {
    /// Tokens of each shard, special ones left out.
    pub(crate) shards: Vec<usize>,
    /// Lines of each source file, by name.
    pub(crate) sources: Vec<(String, usize)>,
    /// Tokens of the held-out lines.
    pub(crate) held_out: usize,
    /// SHA-256 over everything that was written.
    pub(crate) fingerprint: String,
}

/// A piece of text as token ids, without special tokens; the first token of every word is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece(Vec<u32>);

impl Piece {
    /// Token ids.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|token| token & !INSIDE)
    }

    /// Tokens.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Ranges of tokens that are one word each.
    pub(crate) fn words(&self) -> Vec<std::ops::Range<usize>> {
        let starts: Vec<usize> = (0..self.0.len()).filter(|&index| index == 0 || self.0[index] & INSIDE == 0).collect();
        let ends = starts.iter().skip(1).copied().chain([self.0.len()]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
    }
}

/// Tokenizes a line; each token knows whether a word of the segmenter starts with it.
pub(crate) fn piece(tokenizer: &TextTokenizer, line: &str) -> Result<Piece, TrainError> {
    let text = tokenizer.contract().model_text(line);
    let mut starts = std::collections::HashSet::new();
    let mut at = 0;
    for word in WORDS.cut(&text, false) {
        starts.insert(at);
        at += word.len();
    }
    let tokens = tokenizer.tokens_with_starts(&text)?;
    Ok(Piece(tokens.into_iter().map(|(id, start)| if starts.contains(&start) { id } else { id | INSIDE }).collect()))
}

impl Corpus {
    /// Tokenizes `files` (one text a line) into shards of about `shard_tokens` tokens in `folder`. Every line goes to a shard that
    /// is drawn from `seed`, so that each shard is a sample of all files.
    ///
    /// # Errors
    /// When a file cannot be read or written, or there is no text.
    pub(crate) fn build(
        files: &[PathBuf],
        tokenizer: &TextTokenizer,
        folder: &Path,
        shard_tokens: usize,
        seed: u64,
    ) -> Result<Self, TrainError> {
        std::fs::create_dir_all(folder).map_err(TrainError::io("make", folder))?;
        let sizes = files.iter().map(|path| Ok(std::fs::metadata(path).map_err(TrainError::io("read", path))?.len()));
        let bytes = sizes.sum::<Result<u64, TrainError>>()?;
        // A Chinese character is three bytes and about one token.
        let shard_count = (bytes as usize / 3).div_ceil(shard_tokens).clamp(1, MOST_SHARDS);
        let mut draw = Seeded::new(seed, SHARD_STREAM);
        let longest = tokenizer.max_tokens() - 2;
        let mut corpus = Self { shards: Vec::new(), sources: Vec::new(), held_out: 0, fingerprint: String::new() };
        let mut hasher = Sha256::new();
        let mut shards =
            (0..shard_count).map(|index| Shard::create(shard_path(folder, index))).collect::<Result<Vec<_>, _>>()?;
        let held_path = folder.join("held-out.bin");
        let mut held = BufWriter::new(std::fs::File::create(&held_path).map_err(TrainError::io("write", &held_path))?);
        let mut number = 0u64;
        for path in files {
            let file = std::fs::File::open(path).map_err(TrainError::io("read", path))?;
            let mut lines = BufReader::new(file).split(b'\n');
            let mut count = 0;
            loop {
                let block: Vec<String> = lines
                    .by_ref()
                    .take(LINES)
                    .map(|line| line.map(|line| String::from_utf8_lossy(&line).into_owned()))
                    .collect::<Result<_, _>>()
                    .map_err(TrainError::io("read", path))?;
                if block.is_empty() {
                    break;
                }
                let pieces: Vec<Piece> =
                    block.par_iter().map(|line| piece(tokenizer, line)).collect::<Result<_, TrainError>>()?;
                for line in pieces {
                    number += 1;
                    let shard = draw.below(shard_count);
                    for chunk in line.0.chunks(longest).filter(|chunk| chunk.len() >= 2) {
                        if number.is_multiple_of(HELD_OUT) {
                            write_piece(&mut held, chunk).map_err(TrainError::io("write", &held_path))?;
                            corpus.held_out += chunk.len();
                        } else {
                            shards[shard].push(chunk)?;
                            chunk.iter().for_each(|token| hasher.update(token.to_le_bytes()));
                        }
                    }
                }
                count += block.len();
            }
            let name =
                path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
            output::line(&format!("{name}: {count} lines"));
            corpus.sources.push((name, count));
        }
        held.flush().map_err(TrainError::io("write", &held_path))?;
        corpus.shards = shards.into_iter().map(Shard::finish).collect::<Result<_, _>>()?;
        if corpus.tokens() == 0 {
            return Err(TrainError::Usage("--text: no text was found in the files; they hold one text a line".into()));
        }
        corpus.fingerprint = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
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

fn write_piece(file: &mut impl std::io::Write, piece: &[u32]) -> std::io::Result<()> {
    file.write_all(&(piece.len() as u32).to_le_bytes())?;
    piece.iter().try_for_each(|token| file.write_all(&token.to_le_bytes()))
}

fn read_pieces(path: &Path) -> Result<Vec<Piece>, TrainError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(TrainError::io("read", path))?;
    let (words, rest) = bytes.as_chunks::<4>();
    let mut words = words.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let mut pieces = Vec::new();
    while let Some(len) = words.next() {
        let piece: Vec<u32> = words.by_ref().take(len as usize).collect();
        if piece.len() != len as usize || !rest.is_empty() {
            return Err(TrainError::Usage(format!("{} is cut short; start the run anew", path.display())));
        }
        pieces.push(Piece(piece));
    }
    Ok(pieces)
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

    fn push(&mut self, piece: &[u32]) -> Result<(), TrainError> {
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
        filled += pieces[index].len() + 2;
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
        let piece = Piece(vec![5, 6 | INSIDE, 7, 8, 9 | INSIDE]);
        assert_eq!(piece.words(), [0..2, 2..3, 3..5]);
        assert_eq!(piece.ids().collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
        // A piece that was cut within a word begins with one all the same.
        assert_eq!(Piece(vec![5 | INSIDE, 6 | INSIDE, 7]).words(), [0..2, 2..3]);
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
        let corpus = Corpus::build(&[text], &tokenizer, folder, 1000, 7).expect("text");
        let read: usize = (0..corpus.shards.len())
            .map(|index| Corpus::shard(folder, index).expect("a shard").iter().map(Piece::len).sum::<usize>())
            .sum();
        assert!(corpus.shards.len() > 2 && read == corpus.tokens(), "{corpus:?}");
        let held: usize = Corpus::held_out(folder).expect("a file").iter().map(Piece::len).sum();
        assert!(held > 0 && held == corpus.held_out);
        let first = piece(&tokenizer, &lines[0]).expect("a line");
        let found =
            (0..corpus.shards.len()).any(|index| Corpus::shard(folder, index).expect("a shard").contains(&first));
        assert!(found, "the first line is in one of the shards");
        // 快递 is one word to the segmenter.
        assert!(first.words().iter().any(|word| word.len() == 2), "{first:?}");
    }

    #[test]
    fn batches_hold_every_piece_once() {
        let pieces: Vec<Piece> = (1..60).map(|len| Piece(vec![7; len])).collect();
        let made = batches(&pieces, 100, &mut Seeded::new(1, 1));
        assert_eq!(made, batches(&pieces, 100, &mut Seeded::new(1, 1)));
        let mut seen: Vec<usize> = made.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..59).collect::<Vec<_>>());
    }
}
