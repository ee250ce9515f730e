//! A component's blocks to its pixels.

use super::blocks::{Reader, placed};
use super::header::{Component, Header};
use super::progressive::Stored;
use super::{BLOCK, Blocks, LANES, inverse, lowest};

/// A component on its way to pixels.
pub(super) struct Plane {
    /// Of a baseline file.
    pub(super) reader: Option<Reader>,
    divisors: [u16; 64],
    /// Blocks of a unit from left to right.
    across: usize,
    /// The blocks of a unit, each of sixteen units.
    pub(super) blocks: Vec<Blocks>,
    /// Pixels that a block becomes, columns and rows.
    size: (usize, usize),
    /// Rows of pixels kept of the strip before, then those of the strip.
    pixels: Vec<u8>,
    kept: usize,
    stride: usize,
}

impl Plane {
    pub(super) fn new(
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
            divisors: placed(&header.quantiser(component)?),
            across,
            blocks: vec![[[0; LANES]; 65]; across * down],
            size,
            pixels: vec![0; stride * (kept + down * size.1)],
            kept,
            stride,
        })
    }

    /// Keeps the last rows of a strip.
    pub(super) fn keep(&mut self) {
        let last = self.pixels.len() - self.kept * self.stride;
        self.pixels.copy_within(last.., 0);
    }

    /// A row of pixels, of which there are `kept` before the strip's first.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.pixels[y * self.stride..][..self.stride]
    }

    /// Fetches the blocks of `lanes` units from those that were read, beginning with the unit at a place
    /// `(x, y)`.
    pub(super) fn fetch(&mut self, stored: &Stored, (x, y): (usize, usize), lanes: usize) {
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
    pub(super) fn transform(&mut self, first: usize, lanes: usize) {
        let (width, height) = self.size;
        let step = self.across * width;
        for (i, blocks) in self.blocks.iter_mut().enumerate() {
            let (x, y) = (i % self.across, i / self.across);
            let at = (self.kept + y * height) * self.stride + first * step + x * width;
            let (pixels, divisors) = (&mut self.pixels[at..], &self.divisors);
            let steps = (self.stride, step);
            if self.size == (BLOCK, BLOCK) {
                inverse::inverse(blocks, divisors, pixels, steps, lanes);
            } else {
                lowest::inverse(blocks, divisors, self.size, pixels, steps, lanes);
            }
            blocks.fill([0; LANES]);
        }
    }
}
