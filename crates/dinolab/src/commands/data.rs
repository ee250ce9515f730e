//! `dinolab data`: what images there are, and how they are kept.

pub mod inspect;
pub mod pack;

use clap::Subcommand;
use dinolab_data::decode::{decode_to, kind};
use dinolab_data::source::SourceOptions;
use dinolab_data::{Depth, Image, Pixels, Source};

/// The verbs below `dinolab data`.
#[derive(Subcommand)]
pub enum Data {
    Inspect(inspect::Args),
    Pack(pack::Args),
}

impl Data {
    /// Does what was asked.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Inspect(args) => inspect::run(&args),
            Self::Pack(args) => pack::run(&args),
        }
    }
}

/// An image and how its file stores it.
struct Decoded {
    /// As 8-bit RGB where that is possible, else as it is stored.
    image: Image,
    channels: usize,
    depth: Depth,
}

/// Decodes a file of any channels and depth.
fn decode(source: &dyn Source, index: usize, bytes: &[u8]) -> dinolab_data::Result<Decoded> {
    let name = source.name(index);
    let image = source.decode(index, bytes);
    // What even its header hides is judged by the image.
    let (channels, depth) = kind(&name, bytes).unwrap_or((3, Depth::Eight));
    let image = match image {
        Err(error) if (channels, depth) != (3, Depth::Eight) => {
            let max_pixels = SourceOptions::default().max_pixels;
            decode_to(Pixels::Stored { channels }, &name, bytes, max_pixels).map_err(|_| error)
        }
        image => image,
    }?;
    Ok(Decoded {
        image,
        channels,
        depth,
    })
}
