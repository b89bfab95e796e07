//! Which tokens masked language modelling hides: whole words (Cui et al. 2019, <https://arxiv.org/abs/1906.08101>).

use yingda_models::{Batch, Hidden, Seeded};

use super::corpus::Piece;

/// Ids that masking needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpecialIds {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) mask: u32,
    /// Size of the vocabulary; a random token is drawn from all of it.
    pub(crate) vocabulary: usize,
}

/// Adds the pieces to a batch and hides `share` of their tokens, by whole words: 80 % become `[MASK]`, 10 % another token and
/// 10 % stay as they are, as in BERT.
pub(crate) fn masked_batch<'a>(
    pieces: impl IntoIterator<Item = &'a Piece>,
    share: f64,
    special: SpecialIds,
    generator: &mut Seeded,
) -> (Batch, Vec<Hidden>) {
    let mut batch = Batch::default();
    let mut hidden = Vec::new();
    for piece in pieces {
        let mut ids: Vec<u32> = std::iter::once(special.first).chain(piece.own()).chain([special.last]).collect();
        let own = ids.len();
        if piece.has_context() {
            ids.extend(piece.context().chain([special.last]));
        }
        let base = batch.tokens();
        let mut words = piece.words();
        generator.shuffle(&mut words);
        // Rounded at random, so that a text of three characters is not always, or never, left whole.
        let mut left = (piece.len() as f64 * share + generator.uniform()).floor() as usize;
        for word in words {
            if left == 0 {
                break;
            }
            if word.len() > left.max(1) && left < piece.len().div_ceil(8) {
                continue;
            }
            left = left.saturating_sub(word.len());
            for place in word.map(|token| piece.place(token)) {
                let id = ids[place];
                hidden.push(Hidden { token: base + place, id });
                let draw = generator.uniform();
                if draw < 0.8 {
                    ids[place] = special.mask;
                } else if draw < 0.9 {
                    ids[place] = generator.below(special.vocabulary) as u32;
                }
            }
        }
        batch.push(&ids, own);
    }
    (batch, hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrain::corpus;
    use yingda_models::TextTokenizer;

    #[test]
    fn hides_whole_words_and_the_share_that_was_asked_for() {
        let line = "我的快递三天没有动了请问什么时候可以送到我家里来呢谢谢客服";
        let vocabulary = yingda_models::character_vocabulary([line]);
        let tokenizer = TextTokenizer::from_vocabulary(&vocabulary, Default::default(), 64).expect("a vocabulary");
        let piece = corpus::pieces(&tokenizer, line).expect("a line").remove(0);
        let special = SpecialIds { first: 2, last: 3, mask: 4, vocabulary: 100 };
        let pieces = vec![piece.clone(); 400];
        let (batch, hidden) = masked_batch(&pieces, 0.15, special, &mut Seeded::new(1, 2));
        let share = hidden.len() as f64 / (piece.len() * 400) as f64;
        assert!((share - 0.15).abs() < 0.02, "{share}");
        let masked = hidden.iter().filter(|hidden| batch.ids()[hidden.token] == 4).count() as f64;
        assert!((masked / hidden.len() as f64 - 0.8).abs() < 0.05);
        let ids: Vec<u32> = piece.own().collect();
        let places: std::collections::HashSet<usize> = hidden.iter().map(|hidden| hidden.token).collect();
        for hidden in &hidden {
            let inside = hidden.token % (piece.len() + 2) - 1;
            assert_eq!(hidden.id, ids[inside], "what it was");
            let word = piece.words().into_iter().find(|word| word.contains(&inside)).expect("every token has a word");
            let text = hidden.token - inside;
            assert!(word.clone().all(|token| places.contains(&(text + token))), "{word:?} is hidden whole");
        }
    }
}
