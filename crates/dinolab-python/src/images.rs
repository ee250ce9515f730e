//! Images of Python: arrays, pictures of PIL, paths, and lists of these.

use std::path::{Path, PathBuf};

use dinolab_data::source::SourceOptions;
use dinolab_data::{Error, Image, Pixels, Source, decode};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use crate::arrays::Samples;
use crate::exceptions::{Exception, plain};

/// What is given to be embedded.
pub enum Input {
    /// Images one by one.
    Given(Images),
    /// A folder, list, archive or tree.
    Set(PathBuf),
}

/// Images that are given one by one, in this order.
pub struct Images {
    items: Items,
    pixels: Pixels,
    /// Whether it is one image and not a list of one.
    pub single: bool,
}

enum Items {
    List(Vec<Item>),
    /// The rows of an array, and how many there are.
    Rows(Samples, usize),
}

enum Item {
    /// An array of one image.
    Array(Samples),
    /// A picture of PIL.
    Picture(Py<PyAny>),
    /// A file.
    File(PathBuf),
}

impl Input {
    /// What `value` is. Nothing is decoded yet.
    ///
    /// # Errors
    /// `ImageError` for what holds no images: another type, another shape.
    pub fn of(value: &Bound<'_, PyAny>, pixels: Pixels) -> PyResult<Self> {
        if let Some(path) = path_of(value)? {
            let is_image = path.is_file() && !is_set(&path);
            return Ok(match is_image {
                true => Self::Given(Images::one(Item::File(path), pixels)),
                false => Self::Set(path),
            });
        }
        if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            let mut items = Vec::new();
            for part in value.try_iter()? {
                items.push(item(&part?, pixels)?);
            }
            return Ok(Self::Given(Images {
                items: Items::List(items),
                pixels,
                single: false,
            }));
        }
        let Some((samples, shape)) = Samples::of(value, pixels)? else {
            return Ok(Self::Given(Images::one(item(value, pixels)?, pixels)));
        };
        if shape.len() != 4 {
            let item = array(value.py(), samples, &shape, pixels)?;
            return Ok(Self::Given(Images::one(item, pixels)));
        }
        check_shape(value.py(), &shape, &shape[1..], pixels)?;
        Ok(Self::Given(Images {
            items: Items::Rows(samples, shape[0]),
            pixels,
            single: false,
        }))
    }
}

/// The image that a value is.
///
/// # Errors
/// `ImageError` for what is no image, or cannot be decoded.
pub fn one_image(value: &Bound<'_, PyAny>, pixels: Pixels) -> PyResult<Image> {
    let images = Images::one(item(value, pixels)?, pixels);
    let image = value.py().detach(|| images.image(0));
    image.map_err(|error| plain(value.py(), error))
}

/// The path that a value is, if it is one.
fn path_of(value: &Bound<'_, PyAny>) -> PyResult<Option<PathBuf>> {
    match value.is_instance_of::<PyString>() || value.hasattr("__fspath__")? {
        true => value.extract().map(Some),
        false => Ok(None),
    }
}

/// Whether a file is a list or an archive of images, by its extension.
fn is_set(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("tar" | "parquet" | "txt" | "tsv" | "lst"))
}

/// One image.
fn item(value: &Bound<'_, PyAny>, pixels: Pixels) -> PyResult<Item> {
    let py = value.py();
    if let Some(path) = path_of(value)? {
        return Ok(Item::File(path));
    }
    if let Some((samples, shape)) = Samples::of(value, pixels)? {
        return array(py, samples, &shape, pixels);
    }
    if value.hasattr("convert")? && value.hasattr("getbands")? {
        return Ok(Item::Picture(value.clone().unbind()));
    }
    let kind = value.get_type().name()?;
    let message = format!(
        "images: of type {kind}; give a NumPy array, a PIL image, a path, a list of these, or a folder"
    );
    Err(Exception::Image.raised(py, &message))
}

fn array(py: Python<'_>, samples: Samples, shape: &[usize], pixels: Pixels) -> PyResult<Item> {
    check_shape(py, shape, shape, pixels)?;
    Ok(Item::Array(samples))
}

/// Checks the shape of an image, which is that of `all` or a part of it.
fn check_shape(py: Python<'_>, all: &[usize], image: &[usize], pixels: Pixels) -> PyResult<()> {
    let channels = match pixels {
        Pixels::Rgb => 3,
        Pixels::Stored { channels } => channels,
    };
    let reason = match image {
        [height, width, found] if *found == channels => match height * width {
            0 => "an image has no pixels".to_owned(),
            _ => return Ok(()),
        },
        _ => format!("give [H, W, {channels}] or [N, H, W, {channels}]"),
    };
    Err(Exception::Image.raised(py, &format!("images: an array of shape {all:?}; {reason}")))
}

impl Images {
    fn one(item: Item, pixels: Pixels) -> Self {
        Self {
            items: Items::List(vec![item]),
            pixels,
            single: true,
        }
    }
}

/// The most pixels of an image.
pub fn max_pixels() -> u64 {
    SourceOptions::default().max_pixels
}

/// Pixels of arrays and pictures are copied with the interpreter's lock held, one image at a time; files
/// are read and decoded without it.
impl Source for Images {
    fn len(&self) -> usize {
        match &self.items {
            Items::List(items) => items.len(),
            Items::Rows(_, count) => *count,
        }
    }

    fn name(&self, index: usize) -> String {
        match &self.items {
            Items::List(items) => match &items[index] {
                Item::File(path) => path.display().to_string(),
                _ if self.single => "the image".into(),
                _ => format!("image {index}"),
            },
            Items::Rows(..) => format!("image {index}"),
        }
    }

    fn label(&self, _: usize) -> Option<usize> {
        None
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn image(&self, index: usize) -> dinolab_data::Result<Image> {
        let refused = |error: PyErr| Error::BadImage {
            name: self.name(index),
            reason: error.to_string(),
        };
        let item = match &self.items {
            Items::List(items) => &items[index],
            Items::Rows(samples, _) => {
                return Python::attach(|py| samples.image(py, Some(index))).map_err(refused);
            }
        };
        match item {
            Item::File(path) => {
                let bytes = dinolab_data::file::read(path)?;
                decode::decode_to(self.pixels, &self.name(index), &bytes, max_pixels())
            }
            Item::Array(samples) => Python::attach(|py| samples.image(py, None)).map_err(refused),
            Item::Picture(picture) => {
                Python::attach(|py| pixels_of(picture.bind(py), self.pixels)).map_err(refused)
            }
        }
    }
}

/// The pixels of a picture of PIL, converted to 8-bit RGB unless they are taken as stored.
fn pixels_of(picture: &Bound<'_, PyAny>, pixels: Pixels) -> PyResult<Image> {
    let py = picture.py();
    let picture = match pixels {
        Pixels::Rgb => picture.call_method1("convert", ("RGB",))?,
        Pixels::Stored { .. } => picture.clone(),
    };
    let mut values = py.import("numpy")?.call_method1("asarray", (picture,))?;
    if values.getattr("ndim")?.extract::<usize>()? == 2 {
        values = values.call_method1("reshape", (values.getattr("shape")?.add((1,))?,))?;
    }
    match Samples::of(&values, pixels)? {
        Some((samples, shape)) => {
            check_shape(py, &shape, &shape, pixels)?;
            samples.image(py, None)
        }
        None => Err(Exception::Image.raised(py, "it has no pixels")),
    }
}
