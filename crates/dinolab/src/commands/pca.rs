//! `dinolab pca`.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use dinolab_data::Image;
use dinolab_eval::Embedder;
use dinolab_eval::network::whole_patches;
use dinolab_eval::patch_colours::{PatchColours, PatchSource, PatchVisitor, patch_colours};
use dinolab_view::GifWriter;
use dinolab_view::{Filter, Rgb, contact_sheet, patch_colour_map, write_png};

use crate::media::{self, Clip, Media, MediaArgs, Size, Stills};
use crate::model::ModelArgs;
use crate::pictures::{PAPER, rgb};
use crate::progress::Progress;
use crate::results::ResultFolder;

/// Colours patches by what they are: the first three principal components of their features
///
/// Example: dinolab pca --weights runs/photos photos --out colours --joint
///
/// Patches that the network takes for alike get like colours. Writes NAME-pca.png per image (NAME
/// as of attend); of a video, numbered frames or an animation (--out FILE.gif).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    media: MediaArgs,
    /// Bring the short side to SIDE, or images to HEIGHTxWIDTH; 0 keeps their size [default: the
    /// run's, or 480]
    #[arg(long)]
    size: Option<Size>,
    /// The same components for all images, so that colours can be compared (always so in videos)
    #[arg(long)]
    joint: bool,
    /// Part the foreground by the first component, colour it by its own, and leave the rest black
    #[arg(long)]
    foreground: bool,
    /// Put the image beside its colours
    #[arg(long)]
    beside: bool,
    /// Patches as squares instead of smooth colours
    #[arg(long)]
    squares: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Pixels between an image and its colours.
const GAP: usize = 4;

/// Runs the verb.
pub fn run(args: &Args) -> Result<()> {
    let model = args.model.load_any()?;
    let media = args.media.open(model.pixels())?;
    let animation = args.media.animation(&media)?;
    let side = model.attend_size.map_or(Size::Side(480), Size::from);
    let network = Network {
        size: args.size.unwrap_or(side),
        embedder: Embedder::new(model.vit, model.preprocess)?,
    };
    let out = &args.media.out;
    let (what, done, skipped) = match &media {
        Media::Stills(stills) => {
            let (done, skipped) = images(args, stills, &network)?;
            ("images", done, skipped)
        }
        Media::Video(clip) => ("frames", video(args, clip, &network, animation)?, 0),
    };
    media::tell(args.json, "colours", (what, done, skipped), out);
    Ok(())
}

/// Features of patches, `[h · w, D]`, and the grid `(h, w)`.
type Patches = (Vec<f32>, (usize, usize));

struct Network {
    embedder: Embedder,
    size: Size,
}

impl Network {
    /// The image as the network sees it.
    fn prepared(&self, image: &Image) -> dinolab_eval::Result<Image> {
        let size = self.size.keeping_aspect(image);
        whole_patches(image, size, self.embedder.vit().config().patch_size)
    }

    /// Those of an image of `stills`.
    fn of(&self, stills: &Stills, index: usize) -> dinolab_eval::Result<Patches> {
        let features = self.features(&stills.image(index)?);
        features.map_err(|error| match error {
            dinolab_eval::Error::NotFinite { .. } => dinolab_eval::Error::NotFinite {
                image: stills.label(index),
            },
            error => error,
        })
    }

    fn features(&self, image: &Image) -> dinolab_eval::Result<Patches> {
        let tokens = self.embedder.tokens(&self.prepared(image)?, None)?;
        Ok((tokens.patches, tokens.grid))
    }
}

/// How many images were coloured, and how many could not be used.
fn images(args: &Args, stills: &Stills, network: &Network) -> Result<(usize, usize)> {
    let mut out = ResultFolder::open(&args.media.out)?;
    let dim = network.embedder.dim();
    let names = stills.result_names();
    let mut write = |index: usize, colours: &PatchColours| -> Result<()> {
        let image = network.prepared(&stills.image(index)?)?;
        let picture = picture(args, &image, colours)?;
        out.write(format!("{}-pca.png", names[index]), |path| {
            write_png(path, &picture)
        })
    };
    let mut usable = Vec::new();
    if args.joint {
        let mut pass = Joint {
            stills,
            network,
            usable: None,
            progress: Progress::new("image", (stills.len() * passes(args)) as u64, 0),
            done: 0,
        };
        let all = patch_colours(&mut pass, dim, args.foreground);
        pass.progress.finish();
        usable = pass.usable.unwrap_or_default();
        ensure!(!usable.is_empty(), "no image could be used");
        for (&index, colours) in usable.iter().zip(&all?) {
            write(index, colours)?;
        }
    } else {
        let mut progress = Progress::new("image", stills.len() as u64, 0);
        for index in 0..stills.len() {
            match network.of(stills, index) {
                Ok(features) => {
                    let mut one = [features];
                    let colours = patch_colours(&mut one[..], dim, args.foreground)?;
                    write(index, &colours[0])?;
                    usable.push(index);
                }
                Err(error) if !error.is_of_an_image() => return Err(error.into()),
                Err(error) => progress.line(&media::reason(&error, &stills.label(index))),
            }
            progress.set(index as u64 + 1, "");
        }
        progress.finish();
    }
    if usable.is_empty() {
        bail!("no image could be used");
    }
    Ok((usable.len(), stills.len() - usable.len()))
}

/// How often [`patch_colours`] looks at each picture.
fn passes(args: &Args) -> usize {
    if args.foreground { 4 } else { 2 }
}

/// All images with common components. Features are computed anew in each pass, so that memory
/// does not grow with the number of images.
struct Joint<'a> {
    stills: &'a Stills,
    network: &'a Network,
    /// The images that could be read in the first pass.
    usable: Option<Vec<usize>>,
    progress: Progress,
    done: u64,
}

impl PatchSource for Joint<'_> {
    fn visit(&mut self, each: &mut PatchVisitor<'_>) -> dinolab_eval::Result<()> {
        let first = self.usable.is_none();
        let indices = match &self.usable {
            None => (0..self.stills.len()).collect(),
            Some(usable) => usable.clone(),
        };
        let usable = self.usable.get_or_insert_default();
        for index in indices {
            match self.network.of(self.stills, index) {
                Ok((rows, grid)) => {
                    each(&rows, grid)?;
                    if first {
                        usable.push(index);
                    }
                }
                Err(error) if first && error.is_of_an_image() => {
                    let line = media::reason(&error, &self.stills.label(index));
                    self.progress.line(&line)
                }
                Err(error) => return Err(error),
            }
            self.done += 1;
            self.progress.set(self.done, "");
        }
        Ok(())
    }
}

/// All frames of a video, with common components.
struct Moving<'a> {
    clip: &'a Clip,
    network: &'a Network,
    progress: Progress,
    done: u64,
}

impl PatchSource for Moving<'_> {
    fn visit(&mut self, each: &mut PatchVisitor<'_>) -> dinolab_eval::Result<()> {
        for frame in self.clip.frames()? {
            let (rows, grid) = self.network.features(&frame?.image)?;
            each(&rows, grid)?;
            self.done += 1;
            self.progress.set(self.done, "");
        }
        Ok(())
    }
}

/// How many frames were coloured.
fn video(args: &Args, clip: &Clip, network: &Network, animation: bool) -> Result<usize> {
    let out: &Path = &args.media.out;
    let mut moving = Moving {
        clip,
        network,
        progress: clip.progress(passes(args)),
        done: 0,
    };
    let all = patch_colours(&mut moving, network.embedder.dim(), args.foreground)
        .map_err(media::advised)
        .context("the colours of the frames")?;
    moving.progress.finish();
    let (mut gif, mut folder) = match animation {
        true => (Some(GifWriter::create(out)?), None),
        false => (None, Some(ResultFolder::open(out)?)),
    };
    for (number, (frame, colours)) in clip.frames()?.zip(&all).enumerate() {
        let frame = frame?;
        let picture = picture(args, &network.prepared(&frame.image)?, colours)?;
        if let Some(gif) = &mut gif {
            gif.add(&picture, frame.seconds)?;
        }
        if let Some(folder) = &mut folder {
            folder.write(format!("{number:05}.png"), |path| write_png(path, &picture))?;
        }
    }
    if let Some(gif) = gif {
        gif.finish()?;
    }
    Ok(all.len())
}

/// The colours at the size of the image.
fn picture(args: &Args, image: &Image, colours: &PatchColours) -> Result<Rgb> {
    let size = (image.height, image.width);
    let filter = match args.squares {
        true => Filter::Nearest,
        false => Filter::Bilinear,
    };
    let coloured = patch_colour_map(&colours.colours, colours.grid, size, filter)?;
    match args.beside {
        true => Ok(contact_sheet(&[rgb(image)?, coloured], 2, GAP, PAPER)?),
        false => Ok(coloured),
    }
}
