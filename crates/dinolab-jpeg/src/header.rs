//! The header: all that stands before a JPEG's image data.

use crate::colour::Marks;
use crate::huffman::Codes;
use crate::image::Info;

/// A frame of one interleaved baseline scan or of progressive scans, 8-bit, grey or YCbCr.
#[derive(Clone)]
pub(crate) struct Header<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Grey, or luma and two of chroma.
    pub(crate) components: Vec<Component>,
    /// Quantisation tables in the file's (zigzag) order, by their number.
    quantisers: [Option<[u16; 64]>; 4],
    /// Huffman tables of DC (0) and of AC (1) coefficients, by their number.
    pub(crate) codes: [[Option<Codes<'a>>; 4]; 2],
    /// Units from one restart to the next; 0 for none.
    pub(crate) restart: usize,
    /// The last EXIF block.
    pub(crate) exif: Option<&'a [u8]>,
    pub(crate) is_progressive: bool,
    /// The segments that tell RGB and YCbCr apart.
    marks: Marks,
    /// Whether three components are RGB, by the file's own marks.
    pub(crate) is_rgb: bool,
    /// The scan's data and whatever comes after them; of a progressive file, the scans with the
    /// segments before each.
    pub(crate) data: &'a [u8],
}

/// A component and its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    id: u8,
    /// Blocks of a unit, from left to right.
    pub(crate) across: usize,
    /// Blocks of a unit, from top to bottom.
    pub(crate) down: usize,
    quantiser: usize,
    /// Numbers of its DC and AC tables.
    pub(crate) tables: [usize; 2],
}

/// A segment of a file: its marker, what it holds, and what follows it.
pub(crate) fn segment(mut bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    // Any number of 255s may stand before a marker.
    while bytes.starts_with(&[0xFF, 0xFF]) {
        bytes = &bytes[1..];
    }
    let (&marker, after) = bytes.strip_prefix(&[0xFF])?.split_first()?;
    let length = usize::from(u16::from_be_bytes(*after.first_chunk()?));
    Some((marker, after.get(2..length)?, &after[length..]))
}

impl<'a> Header<'a> {
    /// Reads a file up to its image data; `None` for one of any other kind, or a damaged one.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut header = Self {
            width: 0,
            height: 0,
            components: Vec::new(),
            quantisers: [None; 4],
            codes: [[None; 4]; 2],
            restart: 0,
            exif: None,
            is_progressive: false,
            marks: Marks::default(),
            is_rgb: false,
            data: &[],
        };
        let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
        loop {
            let (marker, segment, after) = segment(rest)?;
            match marker {
                0xC0..=0xC2 if header.components.is_empty() => {
                    header.is_progressive = marker == 0xC2;
                    header.frame(segment)?;
                }
                0xDA => {
                    let ids: Vec<u8> = header.components.iter().map(|of| of.id).collect();
                    header.is_rgb = header.marks.is_rgb(&ids);
                    header.data = match header.is_progressive {
                        true => rest,
                        false => {
                            header.scan(segment)?;
                            after
                        }
                    };
                    return Some(header);
                }
                _ => header.add(marker, segment)?,
            }
            rest = after;
        }
    }

    /// Returns what a caller can learn of the file.
    pub(crate) fn info(&self) -> Info {
        let samplings = || self.components.iter().map(|of| (of.across, of.down));
        Info {
            width: self.width,
            height: self.height,
            components: self.components.len(),
            is_subsampled: samplings().any(|sampling| Some(sampling) != samplings().next()),
        }
    }

    /// Reads a segment other than the frame and scans.
    pub(crate) fn add(&mut self, marker: u8, segment: &'a [u8]) -> Option<()> {
        match marker {
            0xC4 => self.huffman(segment)?,
            0xDB => self.quantisers(segment)?,
            0xDD => self.restart = usize::from(u16::from_be_bytes(*segment.first_chunk()?)),
            0xE1 => {
                if let Some(exif) = segment.strip_prefix(b"Exif\0\0") {
                    self.exif = Some(exif);
                }
            }
            0xE0 | 0xEE => self.marks.add(marker, segment),
            // Comments and what programs add.
            0xE2..=0xED | 0xEF | 0xFE => {}
            _ => return None,
        }
        Some(())
    }

    /// The frame: size and components.
    fn frame(&mut self, segment: &[u8]) -> Option<()> {
        let [8, h0, h1, w0, w1, count, components @ ..] = segment else {
            return None;
        };
        self.height = usize::from(u16::from_be_bytes([*h0, *h1]));
        self.width = usize::from(u16::from_be_bytes([*w0, *w1]));
        let (components, []) = components.as_chunks::<3>() else {
            return None;
        };
        self.components = components
            .iter()
            .map(|&[id, sampling, quantiser]| Component {
                id,
                across: usize::from(sampling >> 4),
                down: usize::from(sampling & 15),
                quantiser: usize::from(quantiser),
                tables: [0; 2],
            })
            .collect();
        let usual = |c: &Component| matches!((c.across, c.down), (1 | 2 | 4, 1 | 2));
        let whole = usize::from(*count) == components.len() && self.width > 0 && self.height > 0;
        if !whole || !self.components.iter().all(usual) {
            return None;
        }
        match &mut self.components[..] {
            // A unit of a single component is one block, whatever is written.
            [grey] => (grey.across, grey.down) = (1, 1),
            [_, _, _] => {}
            _ => return None,
        }
        Some(())
    }

    /// The scan of a baseline file, which must hold all components and all of their coefficients.
    fn scan(&mut self, segment: &[u8]) -> Option<()> {
        let (components, [0, 63, 0]) = self.components_of(segment)? else {
            return None;
        };
        (components.len() == self.components.len()).then_some(())
    }

    /// Which components a scan holds, whose tables are noted, and the rest of its segment.
    pub(crate) fn components_of<'b>(
        &mut self,
        segment: &'b [u8],
    ) -> Option<(Vec<usize>, &'b [u8])> {
        let (&count, rest) = segment.split_first()?;
        let (components, rest) = rest.split_at_checked(2 * usize::from(count))?;
        let (components, _) = components.as_chunks::<2>();
        let mut numbers: Vec<usize> = Vec::new();
        for &[id, tables] in components {
            let number = self.components.iter().position(|of| of.id == id)?;
            let tables = [usize::from(tables >> 4), usize::from(tables & 15)];
            // In the frame's order.
            if numbers.last().is_some_and(|&last| last >= number) || tables.iter().any(|&t| t > 3) {
                return None;
            }
            self.components[number].tables = tables;
            numbers.push(number);
        }
        (!numbers.is_empty()).then_some((numbers, rest))
    }

    fn quantisers(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let wide = match kind >> 4 {
                0 => false,
                1 => true,
                _ => return None,
            };
            let (values, rest) = rest.split_at_checked(if wide { 128 } else { 64 })?;
            let mut table = [0; 64];
            if wide {
                for (value, bytes) in table.iter_mut().zip(values.as_chunks::<2>().0) {
                    *value = u16::from_be_bytes(*bytes);
                }
            } else {
                for (value, &byte) in table.iter_mut().zip(values) {
                    *value = u16::from(byte);
                }
            }
            *self.quantisers.get_mut(usize::from(kind & 15))? = Some(table);
            segment = rest;
        }
        Some(())
    }

    fn huffman(&mut self, mut segment: &'a [u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let all = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(all)?;
            let codes = Codes { counts, symbols };
            // Sizes of DC coefficients have four bits.
            if !codes.are_possible() || (kind >> 4 == 0 && symbols.iter().any(|&size| size > 15)) {
                return None;
            }
            let class = self.codes.get_mut(usize::from(kind >> 4))?;
            *class.get_mut(usize::from(kind & 15))? = Some(codes);
            segment = rest;
        }
        Some(())
    }

    /// The quantisation table of a component, in the file's order.
    pub(crate) fn quantiser(&self, component: &Component) -> Option<[u16; 64]> {
        *self.quantisers.get(component.quantiser)?
    }

    /// Blocks of a unit of all components, in both directions.
    pub(crate) fn unit(&self) -> (usize, usize) {
        let most = |side: fn(&Component) -> usize| self.components.iter().map(side).max();
        (
            most(|component| component.across).unwrap_or(1),
            most(|component| component.down).unwrap_or(1),
        )
    }
}
