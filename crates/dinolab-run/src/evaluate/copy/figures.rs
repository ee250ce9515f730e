//! The figures of copy detection.

use dinolab_eval::copy::CopyScore;
use dinolab_eval::whitening::WhiteningCentre;
use serde::Serialize;

use super::{Block, CopyRequest};
use crate::table::{Cell, Report, Table};

/// Means over the queries of a block.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopyFigures {
    /// Its name.
    pub block: String,
    /// How many.
    pub queries: usize,
    /// Mean average precision, 0–1.
    pub map: f64,
    /// The fraction of queries whose original comes first.
    pub rank1: f64,
}

/// All figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopyReport {
    /// For each alteration, or block of copies from files.
    pub blocks: Vec<CopyFigures>,
    /// For each kind of alteration that has several strengths.
    pub families: Vec<CopyFigures>,
    /// Over all copies.
    pub all: CopyFigures,
    /// Originals that could be used.
    pub originals: usize,
    /// Distractors that could be used.
    pub distractors: usize,
    /// Images that were left out.
    pub skipped: usize,
    /// Side that images were resized to.
    pub imsize: usize,
    /// Exponent of the generalised mean.
    pub gem: f64,
    /// Rank cut-off; 0 for none.
    pub top: usize,
    /// What whitening measured deviations from, if there was whitening.
    pub whitening: Option<&'static str>,
    /// Seed of places and letters.
    pub seed: u64,
}

impl CopyFigures {
    fn of<'a>(block: &str, scores: impl Iterator<Item = &'a CopyScore>) -> Self {
        let (mut queries, mut map, mut rank1) = (0, 0.0, 0.0);
        for score in scores {
            queries += 1;
            map += score.average_precision;
            rank1 += f64::from(u8::from(score.first == 0));
        }
        let count = f64::from(queries).max(1.0);
        Self {
            block: block.to_owned(),
            queries: queries as usize,
            map: map / count,
            rank1: rank1 / count,
        }
    }
}

/// What a block's name begins with: its kind of alteration.
fn family(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

impl CopyReport {
    /// The figures in the order of a table: each block, after the last one of its kind that of the kind,
    /// at last all.
    fn rows(&self) -> Vec<(String, &CopyFigures)> {
        let mut rows = Vec::new();
        for (i, block) in self.blocks.iter().enumerate() {
            rows.push((block.block.clone(), block));
            let of = family(&block.block);
            let next = self.blocks.get(i + 1);
            if next.is_none_or(|next| family(&next.block) != of)
                && let Some(figures) = self.families.iter().find(|figures| figures.block == of)
            {
                rows.push((format!("{of}, all"), figures));
            }
        }
        rows.push(("all".to_owned(), &self.all));
        rows
    }
}

/// A row per block, the mean of blocks of a kind, and that of all copies.
pub(super) fn report(
    request: &CopyRequest<'_>,
    blocks: &[Block],
    [originals, distractors, skipped]: [usize; 3],
) -> CopyReport {
    let mut families = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        let of = family(&block.name);
        let next = blocks.get(i + 1);
        let members: Vec<&Block> = blocks.iter().filter(|b| family(&b.name) == of).collect();
        if members.len() > 1 && next.is_none_or(|next| family(&next.name) != of) {
            let scores = members.iter().flat_map(|b| &b.scores);
            families.push(CopyFigures::of(of, scores));
        }
    }
    let of = |block: &Block| CopyFigures::of(&block.name, block.scores.iter());
    CopyReport {
        blocks: blocks.iter().map(of).collect(),
        families,
        all: CopyFigures::of("all", blocks.iter().flat_map(|block| &block.scores)),
        originals,
        distractors,
        skipped,
        imsize: request.imsize,
        gem: request.gem,
        top: request.top,
        whitening: request.whitening.map(|_| match request.whitening_centre {
            WhiteningCentre::Mean => "mean",
            WhiteningCentre::Origin => "origin",
        }),
        seed: request.seed,
    }
}

impl Report for CopyReport {
    fn table(&self) -> Table {
        let mut table = Table::new(["copies", "queries", "mAP %", "rank 1 %"]);
        for (name, figures) in self.rows() {
            table.row([
                name.as_str().into(),
                Cell::count(figures.queries),
                Cell::number(100.0 * figures.map, 2),
                Cell::number(100.0 * figures.rank1, 2),
            ]);
        }
        table
    }
}
