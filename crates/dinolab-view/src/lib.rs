//! Pictures, charts and pages of what a network computes, from plain slices and images.
//!
//! | items | draw |
//! |---|---|
//! | [`Rgb`], [`encode_png`], [`write_png`] | 8-bit pictures and PNG files |
//! | [`heat_map`], [`overlay`], [`ColourMap`] | maps of patches, alone or on an image |
//! | [`enlarge_map`], [`resize_map`], [`stretch`], [`Filter`] | maps at the size of an image |
//! | [`patch_colour_map`] | patches in their own colours, such as principal components |
//! | [`draw_mask`] | a segmentation mask on an image |
//! | [`draw_text`], [`text_width`] | text in a fixed font of 8 × 8 pixels |
//! | [`contact_sheet`], [`attention_sheet`] | many pictures in one |
//! | [`captioned_sheet`] | rows of small pictures with captions, as a picture or an HTML page |
//! | [`GifWriter`] | animated GIFs |
//! | [`report`] | one self-contained HTML page: figures, warnings, charts, tables, pictures |
//!
//! Maps are row-major: `[h, w]` means `data[y * w + x]`. Sizes and grids are (height, width).
//!
//! ```
//! use dinolab_data::Size;
//! use dinolab_view::{ColourMap, Rgb, encode_png, enlarge_map, overlay};
//!
//! // Attention over 2 × 2 patches, on an image of 64 × 48 pixels.
//! let attention = [0.1, 0.2, 0.3, 0.4];
//! let image = Rgb::filled(64, 48, [90, 120, 150]);
//! let map = enlarge_map(&attention, (2, 2), Size { height: 48, width: 64 })?;
//! let picture = overlay(&image, &map, ColourMap::default(), 0.6)?;
//! let png = encode_png(&picture)?;
//! assert_eq!(&png[1..4], b"PNG");
//! # Ok::<(), dinolab_view::Error>(())
//! ```

#![forbid(unsafe_code)]

mod attention_sheet;
pub mod captioned_sheet;
mod colour_map;
mod contact_sheet;
mod error;
mod gif;
mod heat_map;
mod html;
mod mask;
mod picture;
mod png;
pub mod report;
mod text;

pub use attention_sheet::{AttentionRow, attention_sheet};
pub use colour_map::ColourMap;
pub use contact_sheet::contact_sheet;
pub use error::{Error, Result};
pub use gif::GifWriter;
pub use heat_map::{Filter, enlarge_map, heat_map, overlay, patch_colour_map, resize_map, stretch};
pub use mask::draw_mask;
pub use picture::Rgb;
pub use png::{encode_png, write_png};
pub use text::{draw_text, text_width};

/// White, the background of sheets.
pub const PAPER: [u8; 3] = [255, 255, 255];
