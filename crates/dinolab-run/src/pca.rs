//! The first three principal components of patch features, as colours.

mod patch_colours;

use std::path::Path;

use dinolab_data::Image;
use dinolab_features::whole_patches;
use dinolab_features::{Embedder, Tokens};
use dinolab_nn::Backbone;
use dinolab_view::GifWriter;
use dinolab_view::{Filter, PAPER, Rgb, contact_sheet, patch_colour_map, write_png};

use self::patch_colours::{PatchColours, PatchSource, PatchVisitor, patch_colours};
use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::event::Progress;
use crate::model::{Model, ModelOptions};
use crate::result_folder::ResultFolder;
use crate::visual_input::{
    ImageSet, ResizeTo, VideoClip, VisualInput, VisualOptions, VisualResult, not_shown, of_frame,
};

/// What is coloured, and how.
#[derive(Clone, Debug)]
pub struct PcaRequest<'a> {
    /// Images or a video.
    pub input: VisualOptions<'a>,
    /// The folder, or the animation, that is written.
    pub out: &'a Path,
    /// What images are resized to; by default the run's, or 480.
    pub size: Option<ResizeTo>,
    /// Whether all images have the same components, so that colours can be compared.
    pub joint: bool,
    /// Whether the foreground is told apart by the first component, coloured by its own, and the rest left
    /// black.
    pub foreground: bool,
    /// Whether the image is put next to its colours.
    pub side_by_side: bool,
    /// Whether colours are interpolated between patches.
    pub interpolate: bool,
    /// The weights `W`.
    pub weights: &'a Path,
    /// How their network is made.
    pub model: ModelOptions,
}

/// Pixels between an image and its colours.
const GAP: usize = 4;

/// The colours of the patches of one image by its own components, `[h · w, 3]` in 0–1.
///
/// # Errors
/// Tokens that are not finite.
pub fn colours_of(tokens: &Tokens) -> Result<Vec<f32>> {
    let mut one = [(tokens.patches.clone(), tokens.grid)];
    let found = patch_colours(&mut one[..], tokens.dim, false)?;
    Ok(found.into_iter().flat_map(|one| one.colours).collect())
}

/// Colours images or a video.
///
/// # Errors
/// Images, videos or weights that cannot be used, files that cannot be written.
pub fn colour(env: &Environment<'_>, request: &PcaRequest<'_>) -> Result<VisualResult> {
    let model = Model::load(env, request.weights, &request.model)?;
    let input = request.input.open(env, model.pixels())?;
    let animation = input.is_animation(request.out)?;
    let side = model
        .attention_size
        .map_or(ResizeTo::Side(480), ResizeTo::from);
    let network = Network {
        size: request.size.unwrap_or(side),
        embedder: Embedder::new(model.backbone, model.preprocess)?,
    };
    Ok(match &input {
        VisualInput::Stills(stills) => {
            let (done, skipped) = images(env, request, stills, &network)?;
            VisualResult::images(done, skipped)
        }
        VisualInput::Video(clip) => {
            VisualResult::frames(video(env, request, clip, &network, animation)?)
        }
    })
}

/// Features of patches, `[h · w, D]`, and the grid `(h, w)`.
type Patches = (Vec<f32>, (usize, usize));

struct Network {
    embedder: Embedder,
    size: ResizeTo,
}

impl Network {
    /// The image as the network sees it.
    fn prepared(&self, image: &Image) -> dinolab_features::Result<Image> {
        let size = self.size.keeping_aspect(image);
        whole_patches(image, size, self.embedder.backbone().stride())
    }

    /// Those of an image of `stills`.
    fn of(&self, stills: &ImageSet, index: usize) -> dinolab_features::Result<Patches> {
        let features = self.features(&stills.image(index)?);
        features.map_err(|error| match error {
            dinolab_features::Error::NotFinite { .. } => dinolab_features::Error::NotFinite {
                image: stills.label(index),
            },
            error => error,
        })
    }

    fn features(&self, image: &Image) -> dinolab_features::Result<Patches> {
        let tokens = self.embedder.tokens(&self.prepared(image)?, None)?;
        Ok((tokens.patches, tokens.grid))
    }
}

/// How many images were coloured, and how many could not be used.
fn images(
    env: &Environment<'_>,
    request: &PcaRequest<'_>,
    stills: &ImageSet,
    network: &Network,
) -> Result<(usize, usize)> {
    let mut out = ResultFolder::open(request.out)?;
    let dim = network.embedder.backbone().width();
    let names = stills.result_names();
    let mut write = |index: usize, colours: &PatchColours| -> Result<()> {
        let image = network.prepared(&stills.image(index)?)?;
        let picture = picture(request, &image, colours)?;
        out.write(format!("{}-pca.png", names[index]), |path| {
            write_png(path, &picture)
        })
    };
    let mut usable = Vec::new();
    if request.joint {
        let mut pass = Joint {
            stills,
            network,
            usable: None,
            env,
            progress: env.progress("image", stills.len() * passes(request)),
            done: 0,
        };
        let all = patch_colours(&mut pass, dim, request.foreground);
        usable = std::mem::take(&mut pass.usable).unwrap_or_default();
        drop(pass);
        ensure!(!usable.is_empty(), "no image could be used");
        for (&index, colours) in usable.iter().zip(&all?) {
            write(index, colours)?;
        }
    } else {
        let progress = env.progress("image", stills.len());
        for index in 0..stills.len() {
            match network.of(stills, index) {
                Ok(features) => {
                    let mut one = [features];
                    let colours = patch_colours(&mut one[..], dim, request.foreground)?;
                    write(index, &colours[0])?;
                    usable.push(index);
                }
                Err(error) if !error.is_of_an_image() => return Err(error.into()),
                Err(error) => not_shown(env, stills, index, &error),
            }
            progress.set(index + 1, "");
        }
        progress.finish();
    }
    if usable.is_empty() {
        bail!("no image could be used");
    }
    Ok((usable.len(), stills.len() - usable.len()))
}

/// How often [`patch_colours`] looks at each picture.
fn passes(request: &PcaRequest<'_>) -> usize {
    if request.foreground { 4 } else { 2 }
}

/// All images with common components. Features are computed anew in each pass, so that memory
/// does not grow with the number of images.
struct Joint<'a> {
    env: &'a Environment<'a>,
    stills: &'a ImageSet,
    network: &'a Network,
    /// The images that could be read in the first pass.
    usable: Option<Vec<usize>>,
    progress: Progress<'a>,
    done: usize,
}

impl PatchSource for Joint<'_> {
    fn visit(&mut self, each: &mut PatchVisitor<'_>) -> Result<()> {
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
                    not_shown(self.env, self.stills, index, &error)
                }
                Err(error) => return Err(error.into()),
            }
            self.done += 1;
            self.progress.set(self.done, "");
        }
        Ok(())
    }
}

/// All frames of a video, with common components.
struct Moving<'a> {
    clip: &'a VideoClip,
    network: &'a Network,
    progress: Progress<'a>,
    done: usize,
}

impl PatchSource for Moving<'_> {
    fn visit(&mut self, each: &mut PatchVisitor<'_>) -> Result<()> {
        for frame in self.clip.frames()? {
            let found = self.network.features(&frame?.image);
            let (rows, grid) = found.map_err(of_frame)?;
            each(&rows, grid)?;
            self.done += 1;
            self.progress.set(self.done, "");
        }
        Ok(())
    }
}

/// How many frames were coloured.
fn video(
    env: &Environment<'_>,
    request: &PcaRequest<'_>,
    clip: &VideoClip,
    network: &Network,
    animation: bool,
) -> Result<usize> {
    let out = request.out;
    let mut moving = Moving {
        clip,
        network,
        progress: clip.progress(env, passes(request)),
        done: 0,
    };
    let all = patch_colours(
        &mut moving,
        network.embedder.backbone().width(),
        request.foreground,
    )
    .context("the colours of the frames")?;
    drop(moving);
    let (mut gif, mut folder) = match animation {
        true => (Some(GifWriter::create(out)?), None),
        false => (None, Some(ResultFolder::open(out)?)),
    };
    for (number, (frame, colours)) in clip.frames()?.zip(&all).enumerate() {
        let frame = frame?;
        let picture = picture(request, &network.prepared(&frame.image)?, colours)?;
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
fn picture(request: &PcaRequest<'_>, image: &Image, colours: &PatchColours) -> Result<Rgb> {
    let size = image.size();
    let filter = match !request.interpolate {
        true => Filter::Nearest,
        false => Filter::Bilinear,
    };
    let coloured = patch_colour_map(&colours.colours, colours.grid, size, filter)?;
    match request.side_by_side {
        true => Ok(contact_sheet(
            &[Rgb::from_image(image)?, coloured],
            2,
            GAP,
            PAPER,
        )?),
        false => Ok(coloured),
    }
}
