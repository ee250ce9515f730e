//! Any source to tar shards.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};

use dinolab_data::augment::{Filter, eval};
use dinolab_data::decode::{Format, StoredKind, decode_to, sniff, stored_kind};
use dinolab_data::source::{SHARD_CLASSES, SourceOptions, refuse_remote};
use dinolab_data::{Image, Pixels, Source};
use dinolab_files::{make_folders, remove_folders};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageFormat};
use rayon::prelude::*;

use crate::environment::Environment;
use crate::error::{Context, Result};
use crate::event::Event;
use crate::sources;

/// Images that are prepared together, and in memory together.
const TOGETHER: usize = 64;

/// What is packed, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PackRequest<'a> {
    /// The images: a folder, list, archives, Parquet files or a VOC tree.
    pub source: &'a Path,
    /// The folder for the shards, which must not hold any yet.
    pub out: &'a Path,
    /// Size of a shard, in MiB of images.
    pub shard_size: u64,
    /// Images are shrunk whose longest side is above this, in pixels.
    pub longest_side: Option<usize>,
    /// JPEG quality of images that are shrunk, 1–100; PNG without it.
    pub quality: Option<u8>,
}

/// What was packed; in words by [`Display`](fmt::Display).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackReport {
    /// The folder of the shards.
    pub out: PathBuf,
    /// What longer sides were shrunk to.
    pub longest_side: Option<usize>,
    /// Images.
    pub images: usize,
    /// Shards.
    pub shards: usize,
    /// Bytes of images.
    pub bytes: u64,
    /// Images that were shrunk.
    pub shrunk: usize,
    /// Images that are larger, but of a kind that is not shrunk.
    pub kept: usize,
    /// Images that cannot be decoded, if that was tried; they are packed as they are.
    pub unreadable: usize,
    /// Images that cannot be read; they are packed as empty files.
    pub missing: usize,
}

impl fmt::Display for PackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "images: {} in {} ({:.1} MiB; shards: {})",
            self.images,
            self.out.display(),
            self.bytes as f64 / f64::from(1 << 20),
            self.shards,
        )?;
        let line = |f: &mut fmt::Formatter<'_>, what: &str, count: usize| match count {
            0 => Ok(()),
            count => write!(f, "\n{what}: {count}"),
        };
        line(f, "cannot be read, packed as empty files", self.missing)?;
        let Some(longest) = self.longest_side else {
            return Ok(());
        };
        let kept = "larger, but kept unchanged (16 bits, or not RGB)";
        let unreadable = "cannot be decoded, packed unchanged";
        write!(f, "\nshrunk to {longest} pixels: {}", self.shrunk)?;
        line(f, kept, self.kept)?;
        line(f, unreadable, self.unreadable)
    }
}

/// An image on its way into a shard.
struct Packed {
    bytes: Vec<u8>,
    extension: String,
    what: What,
}

/// What was done to an image.
#[derive(Default)]
struct What {
    shrunk: bool,
    /// Too large, but not of a kind that is shrunk.
    kept: bool,
    /// Why it could not be decoded, where that was tried.
    unreadable: Option<String>,
    /// Why there is no file to copy.
    missing: Option<String>,
}

/// Packs. The same source gives the same bytes.
///
/// # Errors
/// A source that cannot be opened, or of which nothing can be read; shards that cannot be written. What
/// was written is removed again then.
pub fn pack(env: &Environment<'_>, request: &PackRequest<'_>) -> Result<PackReport> {
    let out = request.out;
    ensure_setting!(
        request.shard_size > 0,
        "shard-size",
        0,
        "must be at least 1"
    );
    ensure_setting!(
        request.longest_side.is_none_or(|side| side >= 2),
        "longest-side",
        "",
        "must be at least 2"
    );
    refuse_remote(out)?;
    let source = sources::open(env, request.source)?;
    if let Some(class) = source.classes().iter().find(|c| c.contains(['\n', '\r'])) {
        bail!("the class {class:?} has a line break in its name, which shards cannot keep");
    }
    let folders =
        make_folders(out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let there = fs::read_dir(out)
        .with_context(|| format!("cannot read {}", out.display()))?
        .flatten()
        .find(|entry| entry.path().extension().is_some_and(|e| e == "tar"));
    if let Some(entry) = there {
        bail!(
            "{} holds {} already; choose another folder",
            out.display(),
            entry.file_name().display()
        );
    }
    let mut shards = Shards {
        folder: out,
        folders,
        source: &*source,
        limit: request.shard_size.saturating_mul(1 << 20),
        open: None,
        done: Vec::new(),
        bytes: 0,
    };
    fill(env, &mut shards, request).inspect_err(|_| shards.remove())
}

/// Packs all images.
fn fill(
    env: &Environment<'_>,
    shards: &mut Shards<'_>,
    request: &PackRequest<'_>,
) -> Result<PackReport> {
    let source = shards.source;
    let progress = env.progress("image", source.len());
    let mut report = PackReport {
        out: request.out.to_owned(),
        longest_side: request.longest_side,
        images: source.len(),
        ..PackReport::default()
    };
    let all: Vec<usize> = (0..source.len()).collect();
    for some in all.chunks(TOGETHER) {
        let packed: Vec<Result<Packed>> = some
            .par_iter()
            .map(|&index| prepare(source, index, request))
            .collect();
        for (&index, packed) in some.iter().zip(packed) {
            let packed = packed?;
            report.shrunk += usize::from(packed.what.shrunk);
            report.kept += usize::from(packed.what.kept);
            let name = || source.name(index);
            if let Some(reason) = &packed.what.unreadable {
                report.unreadable += 1;
                let name = &name();
                env.events.hear(Event::PackedAsIs { name, reason });
            }
            if let Some(reason) = &packed.what.missing {
                report.missing += 1;
                let name = &name();
                env.events.hear(Event::PackedEmpty { name, reason });
            }
            shards.add(index, &packed)?;
        }
        progress.set(some.last().map_or(0, |&last| last + 1), "");
    }
    progress.finish();
    ensure!(
        report.missing < source.len(),
        "{}: not one of {} images can be read",
        request.source.display(),
        report.missing
    );
    shards.close()?;
    report.shards = shards.done.len();
    report.bytes = shards.bytes;
    Ok(report)
}

fn prepare(source: &dyn Source, index: usize, request: &PackRequest<'_>) -> Result<Packed> {
    let bytes = match source.encoded(index) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let bytes = encode(&source.image(index)?, None)?;
            return Ok(Packed {
                bytes,
                extension: "png".into(),
                what: What::default(),
            });
        }
        Err(error) if error.is_unreachable() => return Err(error.into()),
        // Readers find it unusable, as it is here, and no image after it gets another index.
        Err(error) => {
            let reason = match error {
                dinolab_data::Error::BadImage { reason, .. } => reason,
                dinolab_data::Error::Io { source, .. } => source.to_string(),
                other => other.to_string(),
            };
            return Ok(Packed {
                bytes: Vec::new(),
                extension: extension(&source.name(index), &[]),
                what: What {
                    missing: Some(reason),
                    ..What::default()
                },
            });
        }
    };
    let extension = extension(&source.name(index), &bytes);
    let mut packed = Packed {
        bytes,
        extension,
        what: What::default(),
    };
    let Some(longest) = request.longest_side else {
        return Ok(packed);
    };
    match decode(source, index, &packed.bytes) {
        Ok((image, kind)) if image.width.max(image.height) > longest => {
            if kind != RGB {
                packed.what.kept = true;
                return Ok(packed);
            }
            let scale = longest as f64 / image.width.max(image.height) as f64;
            let side = |length: usize| ((length as f64 * scale).round() as usize).max(2);
            let (width, height) = (side(image.width), side(image.height));
            let image = eval::resize(&image, width, height, Filter::Bicubic)?;
            packed.bytes = encode(&image, request.quality)?;
            packed.extension = if request.quality.is_none() {
                "png"
            } else {
                "jpg"
            }
            .into();
            packed.what.shrunk = true;
        }
        Ok(_) => {}
        Err(error) => {
            packed.what.unreadable = Some(match error {
                dinolab_data::Error::BadImage { reason, .. } => reason,
                other => other.to_string(),
            });
        }
    }
    Ok(packed)
}

/// What alone is shrunk.
const RGB: StoredKind = StoredKind {
    channels: 3,
    bits: 8,
};

/// Decodes a file of any channels and depth: to 8-bit RGB where that is possible, else as it is
/// stored.
fn decode(
    source: &dyn Source,
    index: usize,
    bytes: &[u8],
) -> dinolab_data::Result<(Image, StoredKind)> {
    // If even its header does not say it, the image does.
    let kind = stored_kind(bytes).unwrap_or(RGB);
    let image = match source.decode(index, bytes) {
        Err(error) if kind != RGB => {
            let pixels = Pixels::Stored {
                channels: kind.channels,
            };
            let max_pixels = SourceOptions::default().max_pixels;
            decode_to(pixels, &source.name(index), bytes, max_pixels).map_err(|_| error)
        }
        image => image,
    }?;
    Ok((image, kind))
}

/// As JPEG of a quality, else as PNG.
fn encode(image: &Image, quality: Option<u8>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let (width, height) = (image.width as u32, image.height as u32);
    match quality {
        Some(quality) => JpegEncoder::new_with_quality(&mut bytes, quality).encode(
            &image.data,
            width,
            height,
            ExtendedColorType::Rgb8,
        )?,
        None => image::write_buffer_with_format(
            &mut Cursor::new(&mut bytes),
            &image.data,
            width,
            height,
            ExtendedColorType::Rgb8,
            ImageFormat::Png,
        )?,
    }
    Ok(bytes)
}

/// By the content. What is of no known format keeps a name by which readers take it for an image,
/// so that it is reported again and no image after it gets another index.
fn extension(name: &str, bytes: &[u8]) -> String {
    match sniff(bytes) {
        Some(Format::Png) => "png",
        Some(Format::WebP) => "webp",
        Some(Format::Tiff) => "tif",
        Some(Format::Bmp) => "bmp",
        Some(Format::Unsupported(_)) if name.to_ascii_lowercase().ends_with(".gif") => "gif",
        _ => "jpg",
    }
    .into()
}

/// Shards as they are written, one after the other.
///
/// Unless they were completed, those there are go again: readers would take them for all.
struct Shards<'a> {
    folder: &'a Path,
    /// Folders that were made, outermost first.
    folders: Vec<PathBuf>,
    source: &'a dyn Source,
    limit: u64,
    open: Option<Shard>,
    /// Those that are whole.
    done: Vec<PathBuf>,
    bytes: u64,
}

struct Shard {
    archive: tar::Builder<BufWriter<File>>,
    keys: HashSet<String>,
    bytes: u64,
    path: PathBuf,
}

/// Removes what may be left of a file. That it cannot be is not what the user should hear of.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

impl Shards<'_> {
    fn add(&mut self, index: usize, packed: &Packed) -> Result<()> {
        let size = packed.bytes.len() as u64;
        if self
            .open
            .as_ref()
            .is_some_and(|shard| shard.bytes + size > self.limit)
        {
            self.close()?;
        }
        if self.open.is_none() {
            self.open = Some(self.begin()?);
        }
        let Some(shard) = &mut self.open else {
            unreachable!("a shard was begun");
        };
        let mut key = key(&self.source.name(index));
        // a.jpg and a.png of one folder must not become one sample.
        while !shard.keys.insert(key.clone()) {
            key = format!("{key}-{index}");
        }
        member(
            &mut shard.archive,
            &format!("{key}.{}", packed.extension),
            &packed.bytes,
        )
        .and_then(|()| match self.source.label(index) {
            Some(label) => member(
                &mut shard.archive,
                &format!("{key}.cls"),
                label.to_string().as_bytes(),
            ),
            None => Ok(()),
        })
        .with_context(|| format!("cannot write {}", shard.path.display()))?;
        shard.bytes += size;
        self.bytes += size;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.folder
            .join(format!("shard-{:06}.tar", self.done.len()))
    }

    /// Removes what was written: some shards of a source must not be taken for all of it.
    fn remove(&mut self) {
        if let Some(shard) = self.open.take() {
            drop(shard.archive);
            remove(&shard.path);
        }
        self.done.drain(..).for_each(|path| remove(&path));
        remove_folders(&self.folders);
    }

    fn begin(&self) -> Result<Shard> {
        // Renamed when it is whole, so that half a shard is never read as one.
        let path = self.path().with_extension("tar.part");
        let begin = || {
            let mut archive = tar::Builder::new(BufWriter::new(File::create(&path)?));
            // Empty where there are none, so that folders are not taken for classes then.
            let classes: String = self
                .source
                .classes()
                .iter()
                .map(|class| format!("{class}\n"))
                .collect();
            member(&mut archive, SHARD_CLASSES, classes.as_bytes())?;
            Ok::<_, std::io::Error>(archive)
        };
        let archive = begin()
            .inspect_err(|_| remove(&path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Shard {
            archive,
            keys: HashSet::new(),
            bytes: 0,
            path,
        })
    }

    fn close(&mut self) -> Result<()> {
        let Some(shard) = self.open.take() else {
            return Ok(());
        };
        let whole = self.path();
        let finish = || {
            let mut file = shard.archive.into_inner()?;
            file.flush()?;
            file.get_ref().sync_all()?;
            fs::rename(&shard.path, &whole)
        };
        finish()
            .inspect_err(|_| remove(&shard.path))
            .with_context(|| format!("cannot write {}", shard.path.display()))?;
        self.done.push(whole);
        Ok(())
    }
}

/// A member with nothing in its header that depends on the time or the user.
fn member(
    archive: &mut tar::Builder<BufWriter<File>>,
    name: &str,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    archive.append_data(&mut header, name, bytes)
}

/// The image's path without its extension and without what a tar file or a reader would not take:
/// a key ends at its first dot, hidden files are skipped, and paths do not leave the archive.
fn key(name: &str) -> String {
    let name = name
        .strip_suffix(
            Path::new(name)
                .extension()
                .map(|e| format!(".{}", e.to_string_lossy()))
                .unwrap_or_default()
                .as_str(),
        )
        .unwrap_or(name);
    let parts: Vec<String> = name
        .split(['/', '\\'])
        .filter(|part| !part.is_empty())
        .map(|part| part.replace([':', '.'], "_"))
        .collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_readers_take() {
        assert_eq!(key("cat/1.5.jpg"), "cat/1_5");
        assert_eq!(key("shard-0.tar/cat/1.jpg"), "shard-0_tar/cat/1");
        assert_eq!(key("../C:/photos/a.png"), "__/C_/photos/a");
        assert_eq!(key("n01"), "n01");
    }
}
