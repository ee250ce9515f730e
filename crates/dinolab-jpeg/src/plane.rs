//! A component's blocks to its pixels.

use crate::block::{BLOCK, Blocks, LANES};
use crate::coefficients::{Reader, placed};
use crate::header::{Component, Header};
use crate::progressive::Stored;
use crate::{idct, idct_scaled};

/// A component on its way to pixels.
pub(crate) struct Plane {
    /// Of a baseline file.
    pub(crate) reader: Option<Reader>,
    quantisers: [u16; 64],
    /// Blocks of a unit from left to right.
    across: usize,
    /// The blocks of a unit, each of sixteen units.
    pub(crate) blocks: Vec<Blocks>,
    /// Pixels that a block becomes, columns and rows.
    size: (usize, usize),
    /// Rows of pixels kept of the strip before, then those of the strip.
    pixels: Vec<u8>,
    kept: usize,
    stride: usize,
}

impl Plane {
    pub(crate) fn new(
        header: &Header,
        component: &Component,
        size: (usize, usize),
        units: usize,
        kept: usize,
    ) -> Option<Self> {
        let (across, down) = (component.across, component.down);
        let table = |class: usize| header.codes[class][component.tables[class]].as_ref();
        let stride = units * across * size.0;
        Some(Self {
            reader: match header.is_progressive {
                true => None,
                false => Some(Reader::new([table(0)?, table(1)?], header.data.len())),
            },
            quantisers: placed(&header.quantiser(component)?),
            across,
            blocks: vec![[[0; LANES]; 65]; across * down],
            size,
            pixels: vec![0; stride * (kept + down * size.1)],
            kept,
            stride,
        })
    }

    /// Keeps the last rows of a strip.
    pub(crate) fn keep(&mut self) {
        let last = self.pixels.len() - self.kept * self.stride;
        self.pixels.copy_within(last.., 0);
    }

    /// A row of pixels, of which there are `kept` before the strip's first.
    pub(crate) fn row(&self, y: usize) -> &[u8] {
        &self.pixels[y * self.stride..][..self.stride]
    }

    /// Fetches the blocks of `lanes` units from those that were read, beginning with the unit at a place
    /// `(x, y)`.
    pub(crate) fn fetch(&mut self, stored: &Stored, (x, y): (usize, usize), lanes: usize) {
        let down = self.blocks.len() / self.across;
        for (i, blocks) in self.blocks.iter_mut().enumerate() {
            let (column, row) = (i % self.across, i / self.across);
            for lane in 0..lanes {
                let from = stored.block((x + lane) * self.across + column, y * down + row);
                for (values, value) in blocks.iter_mut().zip(from) {
                    values[lane] = *value;
                }
            }
        }
    }

    /// Transforms the blocks of `lanes` units, the first of which is at `first` in its strip.
    pub(crate) fn transform(&mut self, first: usize, lanes: usize) {
        let (width, height) = self.size;
        let step = self.across * width;
        for (i, blocks) in self.blocks.iter_mut().enumerate() {
            let (x, y) = (i % self.across, i / self.across);
            let at = (self.kept + y * height) * self.stride + first * step + x * width;
            let (pixels, quantisers) = (&mut self.pixels[at..], &self.quantisers);
            let steps = (self.stride, step);
            if self.size == (BLOCK, BLOCK) {
                idct::inverse(blocks, quantisers, pixels, steps, lanes);
            } else {
                idct_scaled::inverse(blocks, quantisers, self.size, pixels, steps, lanes);
            }
            blocks.fill([0; LANES]);
        }
    }
}
