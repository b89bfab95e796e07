//! Pretrained character vectors as the start of a fresh encoder's token embeddings.

use std::{collections::BTreeMap, io::BufRead, path::Path};

use candle_core::{DType, Tensor};
use yingda_models::Seeded;

use crate::TrainError;

/// Vectors by token, all of one length.
pub struct TokenVectors {
    vectors: BTreeMap<String, Vec<f32>>,
    dimension: usize,
}

impl TokenVectors {
    /// Reads a word2vec text file (`token number number ...` a line, an optional header line), or a folder with one uncompressed `.npz` that
    /// has an array `embeddings [tokens, dimension]` and a `vocab.json` that maps tokens to rows.
    ///
    /// # Errors
    /// A sentence that names the file and the line.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let vectors = if path.is_dir() { Self::read_npz(path)? } else { Self::read_text(path)? };
        let dimension = vectors.values().next().map_or(0, Vec::len);
        if dimension == 0 {
            return Err(TrainError::Usage(format!("--embeddings {}: no vector was found in it", path.display())));
        }
        Ok(Self { vectors, dimension })
    }

    fn read_text(path: &Path) -> Result<BTreeMap<String, Vec<f32>>, TrainError> {
        let file = std::fs::File::open(path).map_err(TrainError::io("read", path))?;
        let mut vectors = BTreeMap::new();
        let mut dimension = None;
        for (number, line) in std::io::BufReader::new(file).lines().enumerate() {
            let line = line.map_err(TrainError::io("read", path))?;
            let mut cells = line.trim_end().split(' ');
            let token = cells.next().unwrap_or_default().to_owned();
            let wrong = |what: String| {
                TrainError::Usage(format!(
                    "--embeddings {}: line {} {what}; each line must be a token and its numbers, parted by blanks",
                    path.display(),
                    number + 1
                ))
            };
            let values = cells
                .map(str::parse)
                .collect::<Result<Vec<f32>, _>>()
                .map_err(|error| wrong(format!("has a cell that is no number ({error})")))?;
            if number == 0 && values.len() == 1 {
                continue;
            }
            if *dimension.get_or_insert(values.len()) != values.len() {
                return Err(wrong(format!(
                    "has {} numbers and the first had {}",
                    values.len(),
                    dimension.unwrap_or(0)
                )));
            }
            vectors.insert(token, values);
        }
        Ok(vectors)
    }

    fn read_npz(folder: &Path) -> Result<BTreeMap<String, Vec<f32>>, TrainError> {
        let wrong = |what: String| TrainError::Usage(format!("--embeddings {}: {what}", folder.display()));
        let npz = std::fs::read_dir(folder)
            .map_err(TrainError::io("read", folder))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "npz"))
            .ok_or_else(|| wrong("there is no .npz file in it".into()))?;
        let rows_path = folder.join("vocab.json");
        let rows: BTreeMap<String, usize> =
            serde_json::from_slice(&std::fs::read(&rows_path).map_err(TrainError::io("read", &rows_path))?)
                .map_err(|error| wrong(format!("vocab.json must map tokens to row numbers ({error})")))?;
        let table = Tensor::read_npz_by_name(&npz, &["embeddings"])
            .map_err(|error| {
                wrong(format!(
                    "the array embeddings of {} cannot be read ({error}); save it uncompressed, with numpy.savez, or as text",
                    npz.display()
                ))
            })?
            .pop()
            .ok_or_else(|| wrong(format!("{} has no array named embeddings", npz.display())))?
            .to_dtype(DType::F32)?
            .to_vec2::<f32>()?;
        rows.into_iter()
            .map(|(token, row)| {
                let vector = table.get(row).cloned();
                vector
                    .map(|vector| (token, vector))
                    .ok_or_else(|| wrong(format!("vocab.json names row {row} and the array has {}", table.len())))
            })
            .collect()
    }

    /// Writes the vectors of known tokens over the rows of `table [vocabulary, hidden]`, scaled to the table's own spread.
    ///
    /// When lengths differ, a seeded random projection brings them to `hidden` and keeps angles nearly as they were (Johnson
    /// and Lindenstrauss 1984). Returns the new table and how many rows were written.
    ///
    /// # Errors
    /// When a tensor cannot be read or made.
    pub fn place(
        &self,
        table: &Tensor,
        vocabulary: &BTreeMap<String, u32>,
        initializer_range: f64,
        seed: u64,
    ) -> Result<(Tensor, usize), TrainError> {
        let (_, hidden) = table.dims2()?;
        let mut rows = table.to_vec2::<f32>()?;
        let projection = (hidden != self.dimension)
            .then(|| Seeded::new(seed, 3).normals(hidden * self.dimension, (1.0 / self.dimension as f64).sqrt()));
        let mut placed = Vec::new();
        for (token, &id) in vocabulary {
            if let Some(vector) = self.vectors.get(token) {
                rows[id as usize] = match &projection {
                    None => vector.clone(),
                    Some(projection) => projection
                        .chunks(self.dimension)
                        .map(|weights| weights.iter().zip(vector).map(|(a, b)| a * b).sum())
                        .collect(),
                };
                placed.push(id as usize);
            }
        }
        let numbers = placed.iter().flat_map(|&row| &rows[row]);
        let count = (placed.len() * hidden).max(1) as f64;
        let spread = (numbers.map(|&number| f64::from(number).powi(2)).sum::<f64>() / count).sqrt().max(1e-12);
        let scale = (initializer_range / spread) as f32;
        for &row in &placed {
            rows[row].iter_mut().for_each(|number| *number *= scale);
        }
        let flat: Vec<f32> = rows.concat();
        Ok((Tensor::from_vec(flat, table.shape(), table.device())?, placed.len()))
    }
}
