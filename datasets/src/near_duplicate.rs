//! Texts that say almost the same: MinHash finds the candidates, the Jaccard index decides.

use std::collections::HashMap;

/// Hashes of a text that are compared as one; texts that agree in a whole band are candidates.
const ROWS: usize = 4;
/// Bands of a text. At a Jaccard index of 0.85 a pair is missed once in 100,000 times, at 0.5 it is met two times in three.
const BANDS: usize = 16;
/// With how many texts of its bucket a text is compared, so that a template with many fillings stays cheap.
const COMPARED: usize = 16;
/// The share of equal places in two signatures estimates the Jaccard index, with a deviation of 0.06 at most; a pair whose
/// estimate lies this far below the threshold is not looked at closely.
const SLACK: f64 = 0.25;

/// What counts as almost the same text: the share of common character 3-grams, among all that either has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearDuplicates {
    /// From which Jaccard index on, 0 to 1.
    pub threshold: f64,
    /// Shorter texts, in characters, are never near-duplicates: everybody says 好的.
    pub min_chars: usize,
}

impl Default for NearDuplicates {
    fn default() -> Self {
        NearDuplicates { threshold: 0.85, min_chars: 8 }
    }
}

impl NearDuplicates {
    /// The cluster of each text; texts with the same number say almost the same, or are joined by a chain of such texts.
    /// Too short texts have none. Which texts share a cluster does not depend on their order.
    pub fn clusters(&self, texts: &[&str]) -> Vec<Option<usize>> {
        let long: Vec<Option<&str>> = texts
            .iter()
            .map(|&text| Some(text).filter(|text| text.chars().nth(self.min_chars.max(3) - 1).is_some()))
            .collect();
        let mut unique: Vec<&str> = long.iter().flatten().copied().collect();
        unique.sort_unstable();
        unique.dedup();

        let grams: Vec<Vec<u64>> = unique.iter().map(|text| trigrams(text)).collect();
        let signatures: Vec<[u32; ROWS * BANDS]> = grams.iter().map(|grams| signature(grams)).collect();
        let mut clusters = Clusters::new(unique.len());
        for band in 0..BANDS {
            let mut buckets: HashMap<&[u32], Vec<usize>> = HashMap::new();
            for (text, signature) in signatures.iter().enumerate() {
                let bucket = buckets.entry(&signature[band * ROWS..(band + 1) * ROWS]).or_default();
                for &other in bucket.iter().rev().take(COMPARED) {
                    if clusters.find(text) != clusters.find(other)
                        && agreement(signature, &signatures[other]) + SLACK >= self.threshold
                        && jaccard(&grams[text], &grams[other]) >= self.threshold
                    {
                        clusters.unite(text, other);
                    }
                }
                bucket.push(text);
            }
        }

        let numbers: HashMap<&str, usize> =
            unique.iter().enumerate().map(|(place, text)| (*text, clusters.find(place))).collect();
        long.iter().map(|text| text.and_then(|text| numbers.get(text).copied())).collect()
    }
}

/// The distinct character 3-grams, sorted; a character has 21 bits.
fn trigrams(text: &str) -> Vec<u64> {
    let chars: Vec<u64> = text.chars().map(|c| u64::from(u32::from(c))).collect();
    let mut grams: Vec<u64> = chars.windows(3).map(|three| three[0] << 42 | three[1] << 21 | three[2]).collect();
    grams.sort_unstable();
    grams.dedup();
    grams
}

/// One multiply-shift hash for each place of a signature: an odd factor and a summand.
const HASHES: [(u64, u64); ROWS * BANDS] = {
    let mut hashes = [(0, 0); ROWS * BANDS];
    let mut place = 0;
    while place < hashes.len() {
        hashes[place] = (mix(place as u64) | 1, mix(!(place as u64)));
        place += 1;
    }
    hashes
};

fn signature(grams: &[u64]) -> [u32; ROWS * BANDS] {
    let mut signature = [u32::MAX; ROWS * BANDS];
    for &gram in grams {
        let gram = mix(gram);
        for ((factor, summand), least) in HASHES.iter().zip(signature.iter_mut()) {
            let hash = gram.wrapping_mul(*factor).wrapping_add(*summand) >> 32;
            *least = (*least).min(hash as u32);
        }
    }
    signature
}

/// The share of equal places.
fn agreement(left: &[u32; ROWS * BANDS], right: &[u32; ROWS * BANDS]) -> f64 {
    let equal: u32 = left.iter().zip(right).map(|(a, b)| u32::from(a == b)).sum();
    f64::from(equal) / (ROWS * BANDS) as f64
}

/// The finaliser of SplitMix64: near numbers become far ones.
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// The share of common members of two sorted sets.
fn jaccard(left: &[u64], right: &[u64]) -> f64 {
    let (mut i, mut j, mut common) = (0, 0, 0usize);
    while let (Some(a), Some(b)) = (left.get(i), right.get(j)) {
        common += usize::from(a == b);
        i += usize::from(a <= b);
        j += usize::from(b <= a);
    }
    let all = left.len() + right.len() - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}

/// Disjoint sets of numbers (union-find).
pub(crate) struct Clusters {
    parents: Vec<usize>,
}

impl Clusters {
    pub(crate) fn new(members: usize) -> Self {
        Clusters { parents: (0..members).collect() }
    }

    /// The number of a member's set: its least member.
    pub(crate) fn find(&mut self, mut member: usize) -> usize {
        while self.parents[member] != member {
            self.parents[member] = self.parents[self.parents[member]];
            member = self.parents[member];
        }
        member
    }

    pub(crate) fn unite(&mut self, left: usize, right: usize) {
        let (left, right) = (self.find(left), self.find(right));
        self.parents[left.max(right)] = left.min(right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn almost_the_same_texts_share_a_cluster() {
        let texts = [
            "请问我昨天下午买的那双白色运动鞋什么时候可以发货呢",
            "请问我昨天下午买的那双白色运动鞋什么时候可以发货呢?",
            "请问发票什么时候可以开具并且寄到我的公司地址呢",
            "好的谢谢",
            "好的谢谢",
            "请问我昨天下午买的那双白色运动鞋什么时候可以发货呢",
        ];
        let clusters = NearDuplicates::default().clusters(&texts);
        assert!(clusters[0].is_some() && clusters[0] == clusters[1] && clusters[0] == clusters[5]);
        assert!(clusters[2].is_some() && clusters[2] != clusters[0]);
        assert_eq!((clusters[3], clusters[4]), (None, None));
    }

    #[test]
    fn no_pair_at_the_threshold_is_missed() {
        // Text i shares 40 characters with its partner, whose last character differs: a Jaccard index of 37/39.
        let stem = |i: u32| (0..40).filter_map(|k| char::from_u32(0x4E00 + (i * 977 + k * 131) % 20_000)).collect();
        let texts: Vec<String> = (0..500)
            .flat_map(|i| {
                let stem: String = stem(i);
                [format!("{stem}甲"), format!("{stem}乙")]
            })
            .collect();
        let views: Vec<&str> = texts.iter().map(String::as_str).collect();
        let clusters = NearDuplicates::default().clusters(&views);
        assert!(clusters.chunks(2).all(|pair| pair[0].is_some() && pair[0] == pair[1]));
    }

    #[test]
    fn the_jaccard_index_is_that_of_sets() {
        assert_eq!(jaccard(&[1, 2, 3], &[2, 3, 4]), 0.5);
        assert_eq!(jaccard(&[], &[]), 0.0);
        assert_eq!(jaccard(&trigrams("一二三四"), &trigrams("一二三四")), 1.0);
    }
}
