//! The figures of copy detection.

use anyhow::Result;
use dinolab_eval::copy::CopyScore;
use serde_json::{Value, json};

use super::{Args, Block};
use crate::output::{self, Cell, Table};

/// Means over queries of several blocks.
struct Figures {
    queries: usize,
    map: f64,
    rank1: f64,
}

impl Figures {
    fn of<'a>(scores: impl Iterator<Item = &'a CopyScore>) -> Self {
        let (mut queries, mut map, mut rank1) = (0, 0.0, 0.0);
        for score in scores {
            queries += 1;
            map += score.average_precision;
            rank1 += f64::from(u8::from(score.first == 0));
        }
        let count = f64::from(queries).max(1.0);
        Self {
            queries: queries as usize,
            map: map / count,
            rank1: rank1 / count,
        }
    }

    fn json(&self, name: &str) -> Value {
        json!({ "block": name, "queries": self.queries, "map": self.map, "rank1": self.rank1 })
    }

    fn cells(&self, name: &str) -> [Cell; 4] {
        [
            name.into(),
            Cell::count(self.queries),
            Cell::number(100.0 * self.map, 2),
            Cell::number(100.0 * self.rank1, 2),
        ]
    }
}

/// Prints a row per block, the mean of blocks of a kind, and that of all copies.
pub fn report(
    args: &Args,
    blocks: &[Block],
    [originals, distractors, skipped]: [usize; 3],
) -> Result<()> {
    let mut table = Table::new(["copies", "queries", "mAP %", "rank 1 %"]);
    let mut rows = Vec::new();
    let mut families = Vec::new();
    let family = |name: &str| name.split('/').next().unwrap_or(name).to_owned();
    for (i, block) in blocks.iter().enumerate() {
        let figures = Figures::of(block.scores.iter());
        table.row(figures.cells(&block.name));
        rows.push(figures.json(&block.name));
        let of = family(&block.name);
        let last = blocks
            .get(i + 1)
            .is_none_or(|next| family(&next.name) != of);
        let members: Vec<&Block> = blocks.iter().filter(|b| family(&b.name) == of).collect();
        if last && members.len() > 1 {
            let figures = Figures::of(members.iter().flat_map(|b| &b.scores));
            table.row(figures.cells(&format!("{of}, all")));
            families.push(figures.json(&of));
        }
    }
    let all = Figures::of(blocks.iter().flat_map(|block| &block.scores));
    table.row(all.cells("all"));
    let result = json!({
        "blocks": rows,
        "families": families,
        "all": all.json("all"),
        "originals": originals,
        "distractors": distractors,
        "skipped": skipped,
        "imsize": args.imsize,
        "gem": args.gem,
        "top": args.top,
        "whitening": args.whitening.as_ref().map(|_| &args.whitening_about),
        "seed": args.seed,
    });
    output::print(args.json, &result, &table)
}
