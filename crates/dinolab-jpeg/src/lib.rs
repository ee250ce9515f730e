//! A JPEG decoder in safe Rust, for programs that read very many photographs.
//!
//! The pixels of the files that cameras and the web write (Huffman-coded, baseline or progressive,
//! 8 bits, grey, YCbCr or RGB) are identical to those of libjpeg-turbo with its default settings.
//! These files can also be decoded at 1/2, 1/4 or 1/8 of their size, which takes a fraction of the time.
//! Other files with Huffman coding, CMYK above all, are decoded by the crate `zune-jpeg`.
//!
//! A damaged or truncated file is an [`Error`], never an image that is partly grey.
//!
//! ```
//! use dinolab_jpeg::{Decoder, Output, Scale};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bytes = std::fs::read("tests/fixtures/odd_420.jpg")?;
//! let decoder = Decoder::new(&bytes)?.with_max_pixels(100_000_000);
//! assert_eq!((decoder.info().width, decoder.info().height), (35, 33));
//!
//! let image = decoder.decode(Output::Rgb)?;
//! assert_eq!(image.data.len(), 35 * 33 * 3);
//! let half = decoder.decode_scaled(Output::Rgb, Scale::Half)?;
//! assert_eq!((half.width, half.height), (18, 17));
//! # Ok(())
//! # }
//! ```
//!
//! # What is left to the caller
//! EXIF orientation is not applied and ICC profiles are not read: [`Decoder::exif`] gives the EXIF
//! block. Encoding is not part of this crate.
//!
//! # Inside
//! A *unit* (MCU in the standard) is the smallest part with whole blocks of all components: up to
//! 4 × 2 blocks of luma and one of each chroma. A *strip* is a row of units.
//!
//! ```text
//! header ──► bits ──► huffman ──► coefficients ──► strips ──► plane (idct) ──► pixels
//!                                 progressive ──────┘                (upsample, colour)
//! ```

mod bits;
mod block;
mod coefficients;
mod colour;
mod decoder;
mod error;
mod fallback;
mod header;
mod huffman;
mod idct;
mod idct_scaled;
mod image;
mod pixels;
mod plane;
mod progressive;
mod strips;
mod trim;
mod upsample;

pub use colour::ColourSpace;
pub use decoder::{DEFAULT_MAX_PIXELS, Decoder};
pub use error::{Damage, Error, Result, Unsupported};
pub use image::{Image, Info, Output, Scale};
pub use trim::trim;
