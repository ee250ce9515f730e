//! What stands before a JPEG's image data.

use ::image::metadata::Orientation;

use super::codes::Codes;

/// A frame of one interleaved baseline scan, 8-bit, grey or YCbCr.
pub(in crate::decode) struct Header<'a> {
    pub(in crate::decode) width: usize,
    pub(in crate::decode) height: usize,
    /// Grey, or luma and two of chroma.
    pub(super) components: Vec<Component>,
    /// Divisors in the file's order, by their number.
    quantisers: [Option<[u16; 64]>; 4],
    /// Tables of Huffman codes of direct (0) and of other (1) coefficients, by their number.
    pub(super) codes: [[Option<Codes<'a>>; 4]; 2],
    /// Units from one restart to the next; 0 for none.
    pub(super) restart: usize,
    pub(in crate::decode) orientation: Orientation,
    /// What follows the header: image data, and whatever comes after them.
    pub(super) data: &'a [u8],
}

/// A component and its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Component {
    id: u8,
    /// Blocks of a unit, from left to right.
    pub(super) across: usize,
    /// Blocks of a unit, from top to bottom.
    pub(super) down: usize,
    quantiser: usize,
    /// Numbers of its tables of codes.
    pub(super) tables: [usize; 2],
}

impl<'a> Header<'a> {
    /// Reads a file up to its image data; `None` for one of any other kind, or a damaged one.
    pub(in crate::decode) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut header = Self {
            width: 0,
            height: 0,
            components: Vec::new(),
            quantisers: [None; 4],
            codes: [[None; 4]; 2],
            restart: 0,
            orientation: Orientation::NoTransforms,
            data: &[],
        };
        let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
        loop {
            let after = rest.strip_prefix(&[0xFF])?;
            let (&marker, after) = after.split_first()?;
            if marker == 0xFF {
                // Any number of them may stand before a marker.
                rest = &rest[1..];
                continue;
            }
            let length = usize::from(u16::from_be_bytes(*after.first_chunk()?));
            let segment = after.get(2..length)?;
            rest = &after[length..];
            match marker {
                0xC0 | 0xC1 if header.components.is_empty() => header.frame(segment)?,
                0xC4 => header.huffman(segment)?,
                0xDB => header.quantisers(segment)?,
                0xDD => header.restart = usize::from(u16::from_be_bytes(*segment.first_chunk()?)),
                0xE1 => {
                    if let Some(exif) = segment.strip_prefix(b"Exif\0\0") {
                        header.orientation =
                            Orientation::from_exif_chunk(exif).unwrap_or(Orientation::NoTransforms);
                    }
                }
                // Adobe's own word on colours: the last byte says YCbCr (1), or something else.
                0xEE if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) => {
                    return None;
                }
                0xDA => {
                    header.scan(segment)?;
                    header.data = rest;
                    return Some(header);
                }
                // Comments and what programs add.
                0xE0..=0xEF | 0xFE => {}
                _ => return None,
            }
        }
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
        let usual = |c: &Component| matches!((c.across, c.down), (1 | 2, 1 | 2));
        let whole = usize::from(*count) == components.len() && self.width > 0 && self.height > 0;
        if !whole || !self.components.iter().all(usual) {
            return None;
        }
        match &mut self.components[..] {
            // A unit of a single component is one block, whatever is written.
            [grey] => (grey.across, grey.down) = (1, 1),
            [luma, blue, red] if (luma.id, blue.id, red.id) != (b'R', b'G', b'B') => {}
            _ => return None,
        }
        Some(())
    }

    /// The scan, which must hold all components and all of their coefficients.
    fn scan(&mut self, segment: &[u8]) -> Option<()> {
        let (&count, rest) = segment.split_first()?;
        let (components, [0, 63, 0]) = rest.split_at_checked(2 * usize::from(count))? else {
            return None;
        };
        if self.components.is_empty() || self.components.len() != usize::from(count) {
            return None;
        }
        let (components, _) = components.as_chunks::<2>();
        for (component, &[id, tables]) in self.components.iter_mut().zip(components) {
            component.tables = [usize::from(tables >> 4), usize::from(tables & 15)];
            if component.id != id || component.tables.iter().any(|&number| number > 3) {
                return None;
            }
        }
        Some(())
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
            // Sizes of direct coefficients have four bits.
            if !codes.are_possible() || (kind >> 4 == 0 && symbols.iter().any(|&size| size > 15)) {
                return None;
            }
            let class = self.codes.get_mut(usize::from(kind >> 4))?;
            *class.get_mut(usize::from(kind & 15))? = Some(codes);
            segment = rest;
        }
        Some(())
    }

    /// The divisors of a component, in the file's order.
    pub(super) fn quantiser(&self, component: &Component) -> Option<[u16; 64]> {
        *self.quantisers.get(component.quantiser)?
    }

    /// Blocks of a unit of all components, in both directions.
    pub(super) fn unit(&self) -> (usize, usize) {
        let most = |side: fn(&Component) -> usize| self.components.iter().map(side).max();
        (
            most(|component| component.across).unwrap_or(1),
            most(|component| component.down).unwrap_or(1),
        )
    }
}
