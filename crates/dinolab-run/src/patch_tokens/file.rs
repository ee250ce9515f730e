//! Files that grow by one image at a time. Their headers are known only at the end, so space is
//! reserved for them: `npy` and safetensors, which need the shapes at the beginning, cannot write them.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::TENSOR;
use super::growing::Growing;
use crate::error::Result;

/// Bytes of the complete `.npy` header; a multiple of 64.
const NPY_HEADER: usize = 128;
/// Most bytes of an array's entry in a safetensors header, without its name.
const ENTRY: usize = 160;
/// The largest header that readers of safetensors accept.
const MAX_HEADER: usize = 100_000_000;

/// A file of patch tokens.
pub(super) trait Tokens {
    /// Adds tokens `[images, rows, columns, D]`.
    fn add(&mut self, names: &[String], grid: (usize, usize), data: &[f32]) -> Result<()>;
    /// Completes the file.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// `[images, rows, columns, D]` in little-endian `f32`, format 1.0.
pub(super) struct Npy {
    file: Growing,
    dim: usize,
    images: usize,
    grid: Option<(usize, usize)>,
}

impl Npy {
    pub fn create(path: &Path, dim: usize) -> Result<Self> {
        let mut file = Growing::create(path)?;
        file.write(|out| out.write_all(&[0; NPY_HEADER]))?;
        Ok(Self {
            file,
            dim,
            images: 0,
            grid: None,
        })
    }
}

impl Tokens for Npy {
    fn add(&mut self, names: &[String], grid: (usize, usize), data: &[f32]) -> Result<()> {
        self.images += names.len();
        check_grid(&mut self.grid, grid)?;
        append(&mut self.file, data)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let (images, (rows, columns), dim) = (self.images, self.grid.unwrap_or_default(), self.dim);
        let text = format!(
            "{{'descr': '<f4', 'fortran_order': False, 'shape': ({images}, {rows}, {columns}, \
             {dim}), }}"
        );
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend(((NPY_HEADER - 10) as u16).to_le_bytes());
        header.extend(text.as_bytes());
        header.resize(NPY_HEADER - 1, b' ');
        header.push(b'\n');
        self.file.write(|out| {
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&header)
        })?;
        self.file.finish()
    }
}

/// One array [`TENSOR`], or one for each image.
pub(super) struct Safetensors {
    file: Growing,
    dim: usize,
    /// Bytes reserved for the header.
    room: usize,
    /// The arrays so far, if there is one for each image.
    arrays: Option<Map<String, Value>>,
    images: usize,
    grid: Option<(usize, usize)>,
    bytes: u64,
}

impl Safetensors {
    /// `names` are the possible names of arrays, if there is one for each image.
    pub fn create(path: &Path, dim: usize, names: Option<Vec<String>>) -> Result<Self> {
        let length = |name: &String| Value::from(name.as_str()).to_string().len() + ENTRY;
        let room = names
            .as_ref()
            .map_or(ENTRY, |names| names.iter().map(length).sum::<usize>());
        let room = (room + ENTRY).next_multiple_of(8);
        if room > MAX_HEADER {
            let images = names.map_or(0, |names| names.len());
            bail!("patch tokens: a safetensors file has no room for the names of {images} images");
        }
        let mut file = Growing::create(path)?;
        file.write(|out| out.write_all(&vec![b' '; 8 + room]))?;
        Ok(Self {
            file,
            dim,
            room,
            arrays: names.map(|_| Map::new()),
            images: 0,
            grid: None,
            bytes: 0,
        })
    }

    fn entry(&self, shape: &[usize], from: u64, to: u64) -> Value {
        json!({ "dtype": "F32", "shape": shape, "data_offsets": [from, to] })
    }
}

impl Tokens for Safetensors {
    fn add(&mut self, names: &[String], grid: (usize, usize), data: &[f32]) -> Result<()> {
        let shape = [grid.0, grid.1, self.dim];
        let size = 4 * shape.iter().product::<usize>() as u64;
        for (place, name) in names.iter().enumerate() {
            let from = self.bytes + place as u64 * size;
            let entry = self.entry(&shape, from, from + size);
            let Some(arrays) = &mut self.arrays else {
                continue;
            };
            // The format's own name for its metadata.
            if name == "__metadata__" || arrays.insert(name.clone(), entry).is_some() {
                bail!(
                    "patch tokens: {name}: there can be no array, or no second one, of this name"
                );
            }
        }
        if self.arrays.is_none() {
            check_grid(&mut self.grid, grid)?;
        }
        self.images += names.len();
        self.bytes += names.len() as u64 * size;
        append(&mut self.file, data)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let mut header = self.arrays.take().unwrap_or_default();
        if let Some((rows, columns)) = self.grid {
            let shape = [self.images, rows, columns, self.dim];
            header.insert(TENSOR.into(), self.entry(&shape, 0, self.bytes));
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        debug_assert!(
            header.len() <= self.room,
            "an entry is shorter than {ENTRY}"
        );
        header.resize(self.room, b' ');
        let length = (self.room as u64).to_le_bytes();
        self.file.write(|out| {
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&length)?;
            out.write_all(&header)
        })?;
        self.file.finish()
    }
}

/// Fails unless all images of an array have the same grid.
fn check_grid(known: &mut Option<(usize, usize)>, grid: (usize, usize)) -> Result<()> {
    ensure!(
        *known.get_or_insert(grid) == grid,
        "patch tokens: images are of different sizes"
    );
    Ok(())
}

fn append(file: &mut Growing, data: &[f32]) -> Result<()> {
    file.write(|out| {
        data.chunks(1 << 14).try_for_each(|chunk| {
            let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
            out.write_all(&bytes)
        })
    })
}
