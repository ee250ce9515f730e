//! `dinolab neighbours`.

mod show;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dinolab_data::source::SourceOptions;
use dinolab_data::{Image, Pixels, decode};
use dinolab_eval::Embedder;
use dinolab_eval::duplicates::near_duplicates;
use dinolab_eval::knn::{Neighbour, l2_normalise, nearest_neighbours};
use serde_json::{Value, json};

use self::show::{MOST_MEMBERS, MOST_ROWS};
use crate::indexed::{self, Indexed};
use crate::inputs::PreprocessArgs;
use crate::model::{Model, ModelArgs};
use crate::output::{self, Cell, Table};
use crate::progress::Progress;
use crate::results::check_out;
use crate::sources;

/// Finds the images nearest to an image, and near duplicates
///
/// Example: dinolab neighbours --weights runs/photos photos photos/cat.jpg --out near.html
///
/// Images are embedded once: their features are kept in the run's folder (or beside the weight
/// file, or at --index), and only what is new or changed is embedded again. Without a query the
/// index is brought up to date and nothing else.
///
/// Groups of images that are nearly the same:
/// dinolab neighbours --weights runs/photos photos --duplicates --out groups.html
#[derive(clap::Args)]
pub struct Args {
    /// Images to search: a folder, list, tar or VOC tree
    images: PathBuf,
    /// Image files, or names of images among those searched
    queries: Vec<String>,
    /// Neighbours of each query
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// Show the result as pictures: .png or .html
    #[arg(long, value_name = "SHEET")]
    out: Option<PathBuf>,
    /// File that keeps the features [default: in the run's folder, or beside the weights]
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Find groups of near duplicates instead
    #[arg(long, conflicts_with = "queries")]
    duplicates: bool,
    /// Cosine similarity from which two images are near duplicates
    #[arg(
        long,
        default_value_t = 0.95,
        requires = "duplicates",
        allow_negative_numbers = true
    )]
    threshold: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let kind = args.out.as_deref().map(show::kind_of).transpose()?;
    if let Some(out) = &args.out {
        check_out(out)?;
    }
    ensure_usage!(args.k > 0, "--k: must be at least 1");
    let model = args.model.load_any()?;
    let most = SourceOptions::default().max_pixels;
    let source = sources::open_as(&args.images, most, model.pixels())?;
    let preprocess = args.preprocess.of(&model);
    let path = args
        .index
        .clone()
        .unwrap_or_else(|| indexed::default_path(&args.model, &args.images));
    let indexed = indexed::open(
        source,
        &model,
        &preprocess,
        &args.model.precision().to_string(),
        path,
        args.preprocess.batch_size(),
    )?;
    errln!(
        "{} images, {} of them embedded now; {}",
        indexed.rows.len(),
        indexed.embedded,
        match &indexed.path {
            Some(path) => format!("index in {}", path.display()),
            None => "no index".into(),
        }
    );
    let found = match args.duplicates {
        true => groups(args, &indexed)?,
        false => nearest(args, &indexed, model, preprocess)?,
    };
    if let (Some(out), Some(kind)) = (&args.out, kind)
        && !found.shown.is_empty()
    {
        show::write(out, kind, &indexed, &found.shown, args)?;
    }
    let mut result = json!({
        "images": indexed.rows.len(),
        "embedded": indexed.embedded,
        "skipped": indexed.skipped,
        "index": indexed.path.as_ref().map(|path| path.display().to_string()),
    });
    if let (Some(result), Value::Object(more)) = (result.as_object_mut(), found.json) {
        result.extend(more);
    }
    // Without a question there is no answer but that of the lines above.
    if !args.json && args.queries.is_empty() && !args.duplicates {
        return Ok(());
    }
    output::print(args.json, &result, &found.table)
}

/// An answer in all its forms.
struct Found {
    json: Value,
    table: Table,
    shown: Vec<Shown>,
}

/// A row of a sheet: pictures by their row, with similarities.
struct Shown {
    title: String,
    /// The query, where it is no member of the set.
    query: Option<(String, Image)>,
    members: Vec<Neighbour>,
}

/// A query: a row of the index, or a picture from elsewhere.
enum Query {
    Row(usize),
    Picture(Image),
}

fn nearest(
    args: &Args,
    indexed: &Indexed,
    model: Model,
    preprocess: dinolab_eval::network::Preprocess,
) -> Result<Found> {
    let queries = args
        .queries
        .iter()
        .map(|query| find(indexed, query, model.pixels()))
        .collect::<Result<Vec<_>>>()?;
    let embedder = Embedder::new(model.vit, preprocess)?;
    let dim = indexed.dim;
    let mut asked = Vec::with_capacity(queries.len() * dim);
    for (name, query) in args.queries.iter().zip(&queries) {
        match query {
            Query::Row(row) => asked.extend_from_slice(&indexed.features[row * dim..][..dim]),
            Query::Picture(image) => {
                let mut feature = embedder
                    .embed(image)
                    .with_context(|| format!("query {name}"))?;
                l2_normalise(&mut feature, dim)?;
                asked.extend(feature);
            }
        }
    }
    // One more than asked for, since a member of the set finds itself.
    let all = nearest_neighbours(&indexed.features, &asked, dim, args.k + 1)?;
    let mut table = Table::new(["query", "rank", "similarity", "image"]);
    let (mut rows, mut shown) = (Vec::new(), Vec::new());
    for ((name, query), mut near) in args.queries.iter().zip(queries).zip(all) {
        let own = match &query {
            Query::Row(row) => Some(*row),
            Query::Picture(_) => None,
        };
        near.retain(|neighbour| Some(neighbour.index) != own);
        near.truncate(args.k);
        for (rank, neighbour) in near.iter().enumerate() {
            table.row([
                name.as_str().into(),
                Cell::count(rank + 1),
                Cell::number(f64::from(neighbour.similarity), 4),
                name_of(indexed, neighbour.index).as_str().into(),
            ]);
        }
        let neighbours: Vec<Value> = near.iter().map(|n| described(indexed, n)).collect();
        rows.push(json!({ "query": name, "neighbours": neighbours }));
        let mut members = near;
        let query = match query {
            Query::Row(row) => {
                let own = Neighbour {
                    index: row,
                    similarity: 1.0,
                };
                members.insert(0, own);
                None
            }
            Query::Picture(image) => Some((name.clone(), image)),
        };
        shown.push(Shown {
            title: name.clone(),
            query,
            members,
        });
    }
    Ok(Found {
        json: json!({ "k": args.k, "queries": rows }),
        table,
        shown,
    })
}

fn groups(args: &Args, indexed: &Indexed) -> Result<Found> {
    let mut progress = Progress::new("compared", indexed.rows.len() as u64, 0);
    let groups = near_duplicates(
        &indexed.features,
        indexed.dim,
        args.threshold,
        &mut |done| {
            progress.set(done as u64, "");
        },
    )
    .context("--threshold")?;
    progress.finish();
    let mut table = Table::new(["group", "similarity", "image"]);
    let (mut rows, mut shown) = (Vec::new(), Vec::new());
    for (number, group) in groups.iter().enumerate() {
        let members: Vec<Neighbour> = group
            .members
            .iter()
            .zip(&group.similarity)
            .map(|(&index, &similarity)| Neighbour { index, similarity })
            .collect();
        for member in &members {
            table.row([
                Cell::count(number + 1),
                Cell::number(f64::from(member.similarity), 4),
                name_of(indexed, member.index).as_str().into(),
            ]);
        }
        rows.push(json!(
            members
                .iter()
                .map(|n| described(indexed, n))
                .collect::<Vec<_>>()
        ));
        if number < MOST_ROWS {
            let more = members.len().saturating_sub(MOST_MEMBERS);
            let more = match more {
                0 => String::new(),
                more => format!(" ({more} not shown)"),
            };
            shown.push(Shown {
                title: format!("group {}: {} images{more}", number + 1, members.len()),
                query: None,
                members: members.into_iter().take(MOST_MEMBERS).collect(),
            });
        }
    }
    let inside: usize = groups.iter().map(|group| group.members.len()).sum();
    errln!(
        "{} groups of {inside} images at a similarity of {} or above",
        groups.len(),
        args.threshold
    );
    if args.out.is_some() && groups.len() > MOST_ROWS {
        errln!("the sheet shows the first {MOST_ROWS} groups");
    }
    Ok(Found {
        json: json!({ "threshold": args.threshold, "groups": rows }),
        table,
        shown,
    })
}

/// A query of the command line: a file – which may be one of the set – or a name in the set.
fn find(indexed: &Indexed, query: &str, pixels: Pixels) -> Result<Query> {
    let path = Path::new(query);
    let source = &indexed.source;
    let row_of = |test: &dyn Fn(usize) -> bool| {
        let row = indexed.rows.iter().position(|&index| test(index));
        row.map(Query::Row)
    };
    if path.is_file() {
        let whole = path.canonicalize().unwrap_or_else(|_| path.into());
        let same = |index: usize| {
            source.file(index).is_some_and(|file| {
                file.file_name() == whole.file_name()
                    && file.canonicalize().is_ok_and(|file| file == whole)
            })
        };
        if let Some(row) = row_of(&same) {
            return Ok(row);
        }
        let bytes = dinolab_data::file::read(path)?;
        let limit = SourceOptions::default().max_pixels;
        let image = decode::decode_to(pixels, query, &bytes, limit)?;
        return Ok(Query::Picture(image));
    }
    row_of(&|index| source.name(index) == query).with_context(|| {
        format!("{query}: no such file, and no usable image of that name in the set")
    })
}

fn name_of(indexed: &Indexed, row: usize) -> String {
    indexed.source.name(indexed.rows[row])
}

/// The image's own file; none where it is part of an archive.
fn file_of(indexed: &Indexed, row: usize) -> Option<PathBuf> {
    let file = indexed.source.file(indexed.rows[row])?;
    let archive = file
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("tar"));
    (!archive).then_some(file)
}

fn described(indexed: &Indexed, neighbour: &Neighbour) -> Value {
    json!({
        "image": name_of(indexed, neighbour.index),
        "path": file_of(indexed, neighbour.index).map(|path| path.display().to_string()),
        "similarity": neighbour.similarity,
    })
}
