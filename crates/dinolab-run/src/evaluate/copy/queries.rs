//! Copies that come from files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dinolab_data::{Image, Source};
use dinolab_eval::copy::Originals;

use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::image_lookup::ImageLookup;
use crate::sources;

/// Copies from files.
pub struct Queries {
    images: Images,
    /// Per block the images and their originals, as indices of their sources.
    pub blocks: BTreeMap<String, Vec<(usize, Vec<usize>)>>,
}

enum Images {
    Source(Arc<dyn Source>),
    Listed { folder: PathBuf, names: Vec<String> },
}

impl Queries {
    /// A folder (or list, or tar), in which names tell the originals, or a `.tsv` of pairs.
    pub fn open(
        env: &Environment<'_>,
        path: &Path,
        originals: &dyn Source,
        prefix: Option<usize>,
    ) -> Result<Self> {
        if path.extension().is_some_and(|extension| extension == "tsv") && path.is_file() {
            return Self::listed(path, originals);
        }
        let source = sources::open(env, path)?;
        let names = (0..originals.len()).map(|i| originals.name(i));
        let by_name = Originals::new(names, prefix);
        let mut blocks: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for index in 0..source.len() {
            let name = source.name(index);
            let rows = by_name.of(&name);
            ensure!(
                !rows.is_empty(),
                "no original has the name of {name} (see `match-prefix`, or list pairs in a .tsv)"
            );
            let block = match name.rsplit_once('/') {
                Some((folder, _)) => folder.to_owned(),
                None => "queries".to_owned(),
            };
            blocks
                .entry(block)
                .or_default()
                .push((index, rows.to_vec()));
        }
        Ok(Self {
            images: Images::Source(source),
            blocks,
        })
    }

    fn listed(path: &Path, originals: &dyn Source) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let by_name: BTreeMap<String, usize> = (0..originals.len())
            .map(|i| (originals.name(i), i))
            .collect();
        let mut names: Vec<String> = Vec::new();
        let mut blocks: BTreeMap<String, Vec<(usize, Vec<usize>)>> = BTreeMap::new();
        let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
        // Some editors put a byte order mark in front.
        let text = text.trim_start_matches('\u{feff}');
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let at = || format!("{} line {}", path.display(), number + 1);
            let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
            let (query, original, block) = match fields[..] {
                [query, original] => (query, original, "queries"),
                [query, original, block] => (query, original, block),
                _ => bail!("{}: expected copy, original and optionally a group", at()),
            };
            let Some(&row) = by_name.get(original) else {
                bail!("{}: {original} is not one of the originals", at());
            };
            let members = blocks.entry(block.to_owned()).or_default();
            // Further lines of a copy name further originals.
            let key = (block.to_owned(), query.to_owned());
            match places.get(&key) {
                Some(&place) => members[place].1.push(row),
                None => {
                    places.insert(key, members.len());
                    members.push((names.len(), vec![row]));
                    names.push(query.to_owned());
                }
            }
        }
        ensure!(!names.is_empty(), "{}: lists no copies", path.display());
        Ok(Self {
            images: Images::Listed {
                folder: path.parent().unwrap_or(Path::new("")).to_owned(),
                names,
            },
            blocks,
        })
    }

    /// Copies in all blocks.
    pub fn len(&self) -> usize {
        self.blocks.values().map(Vec::len).sum()
    }

    /// The name of a copy.
    pub fn name(&self, index: usize) -> String {
        match &self.images {
            Images::Source(source) => source.name(index),
            Images::Listed { names, .. } => names[index].clone(),
        }
    }

    /// Reads and decodes a copy.
    pub fn image(&self, index: usize) -> dinolab_features::Result<Image> {
        match &self.images {
            Images::Source(source) => Ok(source.image(index)?),
            Images::Listed { folder, names } => ImageLookup::new(folder, names).image(index),
        }
    }
}
