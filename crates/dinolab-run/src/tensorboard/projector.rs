//! Features for TensorBoard's page `Projector`: tables of vectors and names, and a sheet of small pictures.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use dinolab_data::Image;
use dinolab_data::augment::{Filter, eval};
use dinolab_files::write_atomically;
use dinolab_view::{Rgb, encode_png};

/// Side of a small picture, in pixels.
pub(crate) const SIDE: usize = 48;

/// Features with names, classes and small pictures of their images.
pub(crate) struct Projection {
    /// Width of a feature, `D`.
    pub dim: usize,
    /// `[N, D]`.
    pub features: Vec<f32>,
    /// `N` names.
    pub names: Vec<String>,
    /// `N` classes, empty for an image without one.
    pub classes: Vec<String>,
    /// `N` pictures of [`SIDE`] × [`SIDE`] pixels.
    pub pictures: Vec<Rgb>,
}

/// The files of a projection.
pub(super) const FILES: [&str; 4] = [
    "features.tsv",
    "images.tsv",
    "images.png",
    "projector_config.pbtxt",
];

const CONFIG: &str = r#"embeddings {
  tensor_name: "features"
  tensor_path: "features.tsv"
  metadata_path: "images.tsv"
  sprite {
    image_path: "images.png"
    single_image_dim: 48
    single_image_dim: 48
  }
}
"#;

impl Projection {
    /// A small picture of an image; grey for one whose channels are no colours.
    pub fn picture(image: Image) -> Rgb {
        let small = eval::resize(&image, SIDE, SIDE, Filter::Bicubic);
        let picture = small.ok().and_then(|small| Rgb::from_image(&small).ok());
        picture.unwrap_or_else(Self::no_picture)
    }

    /// In place of an image that cannot be shown.
    pub fn no_picture() -> Rgb {
        Rgb::filled(SIDE, SIDE, [128; 3])
    }

    /// Writes the files that the page looks for in the folder of the event files.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let mut features = String::new();
        for row in self.features.chunks_exact(self.dim.max(1)) {
            for (column, value) in row.iter().enumerate() {
                let gap = if column > 0 { "\t" } else { "" };
                let _ = write!(features, "{gap}{value}");
            }
            features.push('\n');
        }
        let mut images = String::from("image\tclass\n");
        for (name, class) in self.names.iter().zip(&self.classes) {
            let _ = writeln!(images, "{}\t{}", one_cell(name), one_cell(class));
        }
        let across = (self.pictures.len() as f64).sqrt().ceil() as usize;
        let mut sheet = Rgb::filled(across * SIDE, across * SIDE, [255; 3]);
        for (i, picture) in self.pictures.iter().enumerate() {
            sheet.paste(picture, i % across * SIDE, i / across * SIDE);
        }
        let png = encode_png(&sheet).map_err(io::Error::other)?;
        let write = |name: &str, bytes: &[u8]| write_atomically(&folder.join(name), bytes);
        write("features.tsv", features.as_bytes())?;
        write("images.tsv", images.as_bytes())?;
        write("images.png", &png)?;
        write("projector_config.pbtxt", CONFIG.as_bytes())
    }
}

/// A text without what ends a cell or a line.
fn one_cell(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}
