//! Pictures of the class token's attention, or of where a network's activations are.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use dinolab_data::Image;
use dinolab_data::augment::ChannelNormaliser;
use dinolab_eval::attention::{mass_mask, resize_mask};
use dinolab_features::{AttentionMaps, MapKind, whole_patches};
use dinolab_nn::Backbone;
use dinolab_nn::backbone::attention_maps;
use dinolab_view::GifWriter;
use dinolab_view::{
    ColourMap, PAPER, Rgb, contact_sheet, draw_mask, enlarge_map, heat_map, overlay, write_png,
};

use crate::environment::Environment;
use crate::error::{Context, Error, Result};
use crate::model::{Model, ModelOptions};
use crate::npy::write_npy_f32;
use crate::result_folder::ResultFolder;
use crate::visual_input::{
    ImageSet, ResizeTo, VideoClip, VisualInput, VisualOptions, VisualResult, not_shown, of_frame,
};

/// What is drawn, and how.
#[derive(Clone, Debug)]
pub struct AttendRequest<'a> {
    /// Images or a video.
    pub input: VisualOptions<'a>,
    /// The folder, or the animation, that is written.
    pub out: &'a Path,
    /// What images are resized to; by default the run's, or 480.
    pub size: Option<ResizeTo>,
    /// The fraction of the attention that masks hold, 0–1; no masks without it.
    pub threshold: Option<f64>,
    /// By default all, of videos the mean; of a network without attention its activation.
    pub maps: Option<Maps>,
    /// By default all, of videos the mask, or else the overlay.
    pub show: &'a [PictureKind],
    /// The weights `W`.
    pub weights: &'a Path,
    /// How their network is made.
    pub model: ModelOptions,
}

const MASK_COLOUR: [u8; 3] = [255, 64, 32];
/// Pixels between the tiles of an animation.
const GAP: usize = 4;

/// Which maps are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maps {
    /// Those of all heads, and their mean.
    All,
    /// The mean over the heads.
    Mean,
    /// That of one head, from 0.
    Head(usize),
    /// In place of attention, the share of each position in the image's feature, which any network has.
    Activation,
}

impl Maps {
    fn kind(self) -> MapKind {
        match self {
            Self::Activation => MapKind::Activation,
            Self::All | Self::Mean | Self::Head(_) => MapKind::Attention,
        }
    }
}

impl fmt::Display for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Mean => f.write_str("mean"),
            Self::Head(head) => head.fmt(f),
            Self::Activation => f.write_str("activation"),
        }
    }
}

impl FromStr for Maps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            ("mean", _) => Ok(Self::Mean),
            ("activation", _) => Ok(Self::Activation),
            (_, Ok(head)) => Ok(Self::Head(head)),
            _ => Err("all, mean, activation, or the number of a head, from 0".into()),
        }
    }
}

/// A kind of picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum PictureKind {
    /// The map as a heat map
    Heat,
    /// The map overlaid on the image
    Overlay,
    /// The patches that cover --threshold of the attention
    Mask,
}

impl PictureKind {
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
    kinds: Vec<PictureKind>,
    threshold: Option<f64>,
}

/// Draws images or a video; returns what the maps show as well.
///
/// # Errors
/// Images, videos or weights that cannot be used, files that cannot be written.
pub fn draw(env: &Environment<'_>, request: &AttendRequest<'_>) -> Result<(MapKind, VisualResult)> {
    if let Some(threshold) = request.threshold {
        let good = threshold > 0.0 && threshold <= 1.0;
        ensure_setting!(
            good,
            "threshold",
            threshold,
            "must be above 0 and at most 1"
        );
    }
    ensure_setting!(
        request.threshold.is_some() || !request.show.contains(&PictureKind::Mask),
        "show",
        "mask",
        "takes a `threshold`, the share of the attention that is kept"
    );
    let model = Model::load(env, request.weights, &request.model)?;
    let input = request.input.open(env, model.pixels())?;
    let animation = input.is_animation(request.out)?;
    let is_video = matches!(input, VisualInput::Video(_));
    let drawing = Drawing {
        maps: request
            .maps
            .unwrap_or(match (MapKind::of(&model.backbone), is_video) {
                (MapKind::Activation, _) => Maps::Activation,
                (MapKind::Attention, true) => Maps::Mean,
                (MapKind::Attention, false) => Maps::All,
            }),
        kinds: match (request.show, is_video, request.threshold) {
            ([], true, None) => vec![PictureKind::Overlay],
            ([], true, Some(_)) => vec![PictureKind::Mask],
            ([], false, None) => vec![PictureKind::Heat, PictureKind::Overlay],
            ([], false, Some(_)) => {
                vec![PictureKind::Heat, PictureKind::Overlay, PictureKind::Mask]
            }
            (given, ..) => given.to_vec(),
        },
        threshold: request.threshold,
    };
    if let (Err(error), false) = (
        attention_maps(&model.backbone),
        drawing.maps == Maps::Activation,
    ) {
        let instead = "activation shows the share of each position in the image's feature";
        let reason = format!("{error}; {instead}");
        return Err(Error::setting("maps", drawing.maps, reason));
    }
    if let Maps::Head(head) = drawing.maps {
        let heads = model.backbone.vit()?.config().heads;
        ensure_setting!(
            head < heads,
            "maps",
            head,
            "the network has {heads} heads, 0 to {}",
            heads - 1
        );
    }
    let network = AttentionModel {
        normaliser: model.preprocess.normaliser()?,
        size: request.size.unwrap_or(
            model
                .attention_size
                .map_or(ResizeTo::Side(480), ResizeTo::from),
        ),
        model,
    };
    let out = request.out;
    let result = match &input {
        VisualInput::Stills(stills) => {
            let (done, skipped) = images(env, stills, &network, &drawing, out)?;
            VisualResult::images(done, skipped)
        }
        VisualInput::Video(clip) => VisualResult::frames(match animation {
            true => animate(env, clip, &network, &drawing, out)?,
            false => frames(env, clip, &network, &drawing, out)?,
        }),
    };
    Ok((drawing.maps.kind(), result))
}

/// A network and what its images go through.
struct AttentionModel {
    model: Model,
    normaliser: ChannelNormaliser,
    size: ResizeTo,
}

impl AttentionModel {
    /// Those of an image of whole patches.
    fn maps_of(&self, image: &Image, maps: Maps) -> dinolab_features::Result<AttentionMaps> {
        (maps.kind()).maps(&self.model.backbone, image, &self.normaliser)
    }

    /// Those of an image of `stills`.
    fn maps(
        &self,
        stills: &ImageSet,
        index: usize,
        maps: Maps,
    ) -> dinolab_features::Result<AttentionMaps> {
        let patch = self.model.backbone.stride();
        let image = whole_patches(&stills.image(index)?, self.size.square(), patch)?;
        self.maps_of(&image, maps)
    }
}

/// Pictures of each image; how many there were and how many could not be used.
fn images(
    env: &Environment<'_>,
    stills: &ImageSet,
    network: &AttentionModel,
    drawing: &Drawing,
    out: &Path,
) -> Result<(usize, usize)> {
    let mut out = ResultFolder::open(out)?;
    let mut skipped = 0;
    for (index, name) in stills.result_names().into_iter().enumerate() {
        let maps = match network.maps(stills, index, drawing.maps) {
            Ok(maps) => maps,
            Err(error) if error.is_of_an_image() => {
                not_shown(env, stills, index, &error);
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
        let values = drawing.maps.kind().name();
        out.write(format!("{name}-{values}.npy"), |path| {
            write_npy_f32(path, &shape, &maps.maps)
        })?;
    }
    if skipped == stills.len() {
        bail!("no image could be used");
    }
    Ok((stills.len() - skipped, skipped))
}

/// Pictures of each frame, numbered, a folder for each kind; how many there were.
fn frames(
    env: &Environment<'_>,
    clip: &VideoClip,
    network: &AttentionModel,
    drawing: &Drawing,
    out: &Path,
) -> Result<usize> {
    let mut out = ResultFolder::open(out)?;
    each_frame(env, clip, network, drawing, &mut |number, _, pictures| {
        for (part, picture) in pictures {
            out.write(format!("{part}/{number:05}.png"), |path| {
                write_png(path, &picture)
            })?;
        }
        Ok(())
    })
}

/// One animation, of several pictures side by side where there are several; how many frames.
fn animate(
    env: &Environment<'_>,
    clip: &VideoClip,
    network: &AttentionModel,
    drawing: &Drawing,
    out: &Path,
) -> Result<usize> {
    let mut gif = GifWriter::create(out)?;
    let count = each_frame(env, clip, network, drawing, &mut |_, seconds, pictures| {
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
    env: &Environment<'_>,
    clip: &VideoClip,
    network: &AttentionModel,
    drawing: &Drawing,
    each: &mut dyn FnMut(usize, f64, Named) -> Result<()>,
) -> Result<usize> {
    let progress = clip.progress(env, 1);
    let mut count = 0;
    for frame in clip.frames()? {
        let frame = frame?;
        let size = network.size.keeping_aspect(&frame.image);
        let patch = network.model.backbone.stride();
        let image = whole_patches(&frame.image, size, patch).map_err(of_frame)?;
        let maps = network.maps_of(&image, drawing.maps)?;
        each(count, frame.seconds, drawing.pictures(&maps)?)?;
        count += 1;
        progress.set(count, "");
    }
    progress.finish();
    ensure!(count > 0, "the video has no frames");
    Ok(count)
}

impl Drawing {
    /// The pictures of an image, each with its part of the file name.
    fn pictures(&self, maps: &AttentionMaps) -> Result<Named> {
        let size = maps.image.size();
        let picture = Rgb::from_image(&maps.image)?;
        let mean = maps.mean();
        let patches = maps.grid.0 * maps.grid.1;
        let mut out = Named::new();
        let heads = maps.maps.chunks_exact(patches).enumerate();
        let named = heads
            .filter(|(head, _)| matches!(self.maps, Maps::All) || self.maps == Maps::Head(*head))
            .map(|(head, map)| (format!("head{head}"), map));
        let whole = match self.maps {
            Maps::Head(_) => None,
            Maps::Activation => Some("activation"),
            Maps::All | Maps::Mean => Some("mean"),
        };
        let mean = whole.map(|name| (name.to_owned(), &*mean));
        for (which, map) in named.chain(mean) {
            let large = enlarge_map(map, maps.grid, size)?;
            for &kind in &self.kinds {
                let drawn = match (kind, self.threshold) {
                    (PictureKind::Heat, _) => heat_map(&large, size, ColourMap::default())?,
                    (PictureKind::Overlay, _) => {
                        overlay(&picture, &large, ColourMap::default(), 0.6)?
                    }
                    (PictureKind::Mask, Some(threshold)) => {
                        let mask = resize_mask(&mass_mask(map, threshold)?, maps.grid, size)?;
                        draw_mask(&picture, &mask, MASK_COLOUR, 0.45, 1)?
                    }
                    (PictureKind::Mask, None) => continue,
                };
                out.push((format!("{which}{}", kind.suffix()), drawn));
            }
        }
        Ok(out)
    }
}
