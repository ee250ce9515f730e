//! `dinolab attend`.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use dinolab_data::augment::ChannelNormaliser;
use dinolab_eval::attention::{mass_mask, resize_mask};
use dinolab_eval::network::{AttentionMaps, attend, whole_patches};
use dinolab_eval::npy::write_npy_f32;
use dinolab_view::GifWriter;
use dinolab_view::{ColourMap, Rgb, contact_sheet, draw_mask, heat_map, overlay, write_png};

use crate::media::{self, Clip, Media, MediaArgs, Size, Stills};
use crate::model::{Model, ModelArgs};
use crate::pictures::{PAPER, enlarged, rgb};
use crate::results::ResultFolder;

/// Shows where the class token looks, in images and videos
///
/// Example: dinolab attend --weights runs/photos cat.jpg --out attention --threshold 0.6
///
/// Writes, per image and head, a heat map, an overlay and (with --threshold) the smallest set
/// of patches that holds that share of the attention; the mean over heads likewise; and the
/// numbers, as NAME-attention.npy [heads, rows, columns]. NAME is the image's path without its
/// extension, with it (cat.jpg) where several images have the same.
///
/// Of a video (GIF, Motion JPEG, others through ffmpeg, or a folder's images with --video) the
/// mean over heads is laid over each frame, as a folder of numbered frames or as an animation:
/// dinolab attend --weights runs/photos clip.mp4 --out clip-attention.gif
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    media: MediaArgs,
    /// Bring images to SIDE (of videos the short side) or HEIGHTxWIDTH first; 0 keeps their size
    /// [default: the run's, or 480]
    #[arg(long)]
    size: Option<Size>,
    /// Share of the attention that masks hold, 0–1; no masks without it
    #[arg(long)]
    threshold: Option<f64>,
    /// all heads and their mean, the mean alone, or the head of a number [default: all; of videos
    /// mean]
    #[arg(long, value_name = "all|mean|N")]
    maps: Option<Maps>,
    /// Kinds of pictures [default: all; of videos the mask, or else the overlay]
    #[arg(long, value_delimiter = ',', value_enum)]
    show: Vec<Kind>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

const MASK_COLOUR: [u8; 3] = [255, 64, 32];
/// Pixels between the tiles of an animation.
const GAP: usize = 4;

/// Which maps are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Maps {
    All,
    Mean,
    Head(usize),
}

impl FromStr for Maps {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            ("mean", _) => Ok(Self::Mean),
            (_, Ok(head)) => Ok(Self::Head(head)),
            _ => Err("all, mean, or the number of a head, from 0".into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Kind {
    /// The map in colours
    Heat,
    /// The map laid over the image
    Overlay,
    /// The patches that hold the --threshold's share
    Mask,
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Heat => "",
            Self::Overlay => "-overlay",
            Self::Mask => "-mask",
        }
    }
}

/// What is drawn of an image.
struct Drawing {
    maps: Maps,
    kinds: Vec<Kind>,
    threshold: Option<f64>,
}

/// A network and what its images go through.
struct Looker {
    model: Model,
    normaliser: ChannelNormaliser,
    size: Size,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    if let Some(threshold) = args.threshold.filter(|t| !(*t > 0.0 && *t <= 1.0)) {
        bail_usage!("--threshold {threshold}: must be above 0 and at most 1");
    }
    ensure_usage!(
        args.threshold.is_some() || !args.show.contains(&Kind::Mask),
        "--show mask: takes a --threshold, the share of the attention that is kept"
    );
    let model = args.model.load_any()?;
    let media = args.media.open(model.pixels())?;
    let animation = args.media.animation(&media)?;
    let is_video = matches!(media, Media::Video(_));
    let drawing = Drawing {
        maps: args.maps.unwrap_or(match is_video {
            true => Maps::Mean,
            false => Maps::All,
        }),
        kinds: match (args.show.as_slice(), is_video, args.threshold) {
            ([], true, None) => vec![Kind::Overlay],
            ([], true, Some(_)) => vec![Kind::Mask],
            ([], false, None) => vec![Kind::Heat, Kind::Overlay],
            ([], false, Some(_)) => vec![Kind::Heat, Kind::Overlay, Kind::Mask],
            (given, ..) => given.to_vec(),
        },
        threshold: args.threshold,
    };
    let heads = model.vit.config().heads;
    if let Maps::Head(head) = drawing.maps {
        ensure_usage!(
            head < heads,
            "--maps {head}: the network has {heads} heads, 0 to {}",
            heads - 1
        );
    }
    let looker = Looker {
        normaliser: model.preprocess.normaliser()?,
        size: args
            .size
            .unwrap_or(model.attend_size.map_or(Size::Side(480), Size::from)),
        model,
    };
    let out = &args.media.out;
    let (done, skipped) = match &media {
        Media::Stills(stills) => images(stills, &looker, &drawing, out)?,
        Media::Video(clip) if animation => (animate(clip, &looker, &drawing, out)?, 0),
        Media::Video(clip) => (frames(clip, &looker, &drawing, out)?, 0),
    };
    let what = if is_video { "frames" } else { "images" };
    media::tell(args.json, "attention", (what, done, skipped), out);
    Ok(())
}

impl Looker {
    /// The attention of an image of `stills`.
    fn maps(&self, stills: &Stills, index: usize) -> dinolab_eval::Result<AttentionMaps> {
        let patch = self.model.vit.config().patch_size;
        let image = whole_patches(&stills.image(index)?, self.size.square(), patch)?;
        attend(&self.model.vit, &image, &self.normaliser)
    }
}

/// Pictures of each image; how many there were and how many could not be used.
fn images(
    stills: &Stills,
    looker: &Looker,
    drawing: &Drawing,
    out: &Path,
) -> Result<(usize, usize)> {
    let mut out = ResultFolder::open(out)?;
    let mut skipped = 0;
    for (index, name) in stills.result_names().into_iter().enumerate() {
        let maps = match looker.maps(stills, index) {
            Ok(maps) => maps,
            Err(error) if error.is_of_an_image() => {
                errln!("{}", media::reason(&error, &stills.label(index)));
                skipped += 1;
                continue;
            }
            Err(error) => return Err(error).with_context(|| stills.label(index)),
        };
        for (part, picture) in drawing.pictures(&maps)? {
            out.write(format!("{name}-{part}.png"), |path| {
                write_png(path, &picture)
            })?;
        }
        let shape = [maps.heads, maps.grid.0, maps.grid.1];
        out.write(format!("{name}-attention.npy"), |path| {
            write_npy_f32(path, &shape, &maps.maps)
        })?;
    }
    if skipped == stills.len() {
        bail!("no image could be used");
    }
    Ok((stills.len() - skipped, skipped))
}

/// Pictures of each frame, numbered, a folder for each kind; how many there were.
fn frames(clip: &Clip, looker: &Looker, drawing: &Drawing, out: &Path) -> Result<usize> {
    let mut out = ResultFolder::open(out)?;
    each_frame(clip, looker, drawing, &mut |number, _, pictures| {
        for (part, picture) in pictures {
            out.write(format!("{part}/{number:05}.png"), |path| {
                write_png(path, &picture)
            })?;
        }
        Ok(())
    })
}

/// One animation, of several pictures side by side where there are several; how many frames.
fn animate(clip: &Clip, looker: &Looker, drawing: &Drawing, out: &Path) -> Result<usize> {
    let mut gif = GifWriter::create(out)?;
    let count = each_frame(clip, looker, drawing, &mut |_, seconds, pictures| {
        let mut tiles: Vec<Rgb> = pictures.into_iter().map(|(_, picture)| picture).collect();
        let picture = match tiles.len() {
            1 => tiles.remove(0),
            // In rows of at most four.
            n => contact_sheet(&tiles, n.div_ceil(n.div_ceil(4)), GAP, PAPER)?,
        };
        Ok(gif.add(&picture, seconds)?)
    })?;
    gif.finish()?;
    Ok(count)
}

type Named = Vec<(String, Rgb)>;

/// Calls `each` with the number of a frame, its seconds and its pictures; how many there were.
fn each_frame(
    clip: &Clip,
    looker: &Looker,
    drawing: &Drawing,
    each: &mut dyn FnMut(usize, f64, Named) -> Result<()>,
) -> Result<usize> {
    let mut progress = clip.progress(1);
    let mut count = 0;
    for frame in clip.frames()? {
        let frame = frame?;
        let size = looker.size.keeping_aspect(&frame.image);
        let patch = looker.model.vit.config().patch_size;
        let image = whole_patches(&frame.image, size, patch).map_err(media::advised)?;
        let maps = attend(&looker.model.vit, &image, &looker.normaliser)?;
        each(count, frame.seconds, drawing.pictures(&maps)?)?;
        count += 1;
        progress.set(count as u64, "");
    }
    progress.finish();
    ensure!(count > 0, "the video has no frames");
    Ok(count)
}

impl Drawing {
    /// The pictures of an image, each with its part of the file name.
    fn pictures(&self, maps: &AttentionMaps) -> Result<Named> {
        let size = (maps.image.height, maps.image.width);
        let picture = rgb(&maps.image)?;
        let mean = maps.mean();
        let patches = maps.grid.0 * maps.grid.1;
        let mut out = Named::new();
        let heads = maps.maps.chunks_exact(patches).enumerate();
        let named = heads
            .filter(|(head, _)| matches!(self.maps, Maps::All) || self.maps == Maps::Head(*head))
            .map(|(head, map)| (format!("head{head}"), map));
        let mean = (!matches!(self.maps, Maps::Head(_))).then_some(("mean".to_owned(), &*mean));
        for (which, map) in named.chain(mean) {
            let large = enlarged(map, maps, size)?;
            for &kind in &self.kinds {
                let drawn = match (kind, self.threshold) {
                    (Kind::Heat, _) => heat_map(&large, size, ColourMap::default())?,
                    (Kind::Overlay, _) => overlay(&picture, &large, ColourMap::default(), 0.6)?,
                    (Kind::Mask, Some(threshold)) => {
                        let mask = resize_mask(&mass_mask(map, threshold)?, maps.grid, size)?;
                        draw_mask(&picture, &mask, MASK_COLOUR, 0.45, 1)?
                    }
                    (Kind::Mask, None) => continue,
                };
                out.push((format!("{which}{}", kind.suffix()), drawn));
            }
        }
        Ok(out)
    }
}
