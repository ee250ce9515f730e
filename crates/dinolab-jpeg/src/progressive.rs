//! Progressive files: coefficients in several scans, coarse ones first.
//!
//! A scan holds some coefficients of one component, or the DC coefficients of several. Each is sent
//! with its lowest bits missing, and later scans add a bit each.

use crate::bits::{Bits, Scan};
use crate::block::BLOCK;
use crate::coefficients::PLACES;
use crate::error::Damage;
use crate::header::{Component, Header, segment};
use crate::huffman::{Symbols, extend};

/// More scans than any encoder makes. A file of a few kilobytes could ask for thousands.
const MOST_SCANS: usize = 256;

/// Coefficients of a block, lowest frequencies first in rows of eight.
type Block = [i16; 64];

/// The blocks of a component, in rows of whole units.
pub(crate) struct Stored {
    /// The coefficients of one block after the other. Memory that the system gives as zeros is only
    /// taken where something is written.
    coefficients: Vec<i16>,
    /// Blocks of a row, whole units.
    stride: usize,
    /// Blocks of a row, and rows, that hold something of the image.
    size: (usize, usize),
    /// Of each coefficient in the file's order: the bits that are still to come; `None` where none
    /// came.
    missing: [Option<u8>; 64],
}

impl Stored {
    fn new(header: &Header, component: &Component) -> Self {
        let (across, down) = header.unit();
        let units = (
            header.width.div_ceil(BLOCK * across),
            header.height.div_ceil(BLOCK * down),
        );
        let side = |pixels: usize, of: usize, most: usize| (pixels * of).div_ceil(most * BLOCK);
        let stride = units.0 * component.across;
        Self {
            coefficients: vec![0; stride * units.1 * component.down * BLOCK * BLOCK],
            stride,
            size: (
                side(header.width, component.across, across),
                side(header.height, component.down, down),
            ),
            missing: [None; 64],
        }
    }

    /// The block at a place, in blocks from the upper left corner.
    pub(crate) fn block(&self, x: usize, y: usize) -> &Block {
        &self.coefficients.as_chunks().0[y * self.stride + x]
    }

    fn block_mut(&mut self, x: usize, y: usize) -> &mut Block {
        &mut self.coefficients.as_chunks_mut().0[y * self.stride + x]
    }

    /// Rows of blocks, whole units.
    fn rows(&self) -> usize {
        self.coefficients.len() / (BLOCK * BLOCK) / self.stride
    }
}

/// What a scan holds.
struct Pass {
    components: Vec<usize>,
    /// Coefficients in the file's order, first and last.
    first: usize,
    last: usize,
    /// Bits that were missing before, where it adds one.
    before: Option<u8>,
    /// Bits that are missing after it.
    missing: u8,
}

impl Pass {
    /// `None` for one that cannot be.
    fn read(header: &mut Header, segment: &[u8]) -> Option<Self> {
        let (components, &[first, last, bits]) = header.components_of(segment)? else {
            return None;
        };
        let pass = Self {
            components,
            first: usize::from(first),
            last: usize::from(last),
            before: Some(bits >> 4).filter(|&before| before > 0),
            missing: bits & 15,
        };
        let is_dc = pass.first == 0 && pass.last == 0;
        let is_ac = pass.components.len() == 1 && (1..=pass.last).contains(&pass.first);
        let in_turn = pass.before.is_none_or(|before| before == pass.missing + 1);
        let possible = (is_dc || is_ac) && pass.last < 64 && pass.missing < 14;
        (possible && in_turn).then_some(pass)
    }

    /// Notes what it adds; `None` where that does not fit to what came before.
    fn note(&self, stored: &mut Stored) -> Option<()> {
        for missing in &mut stored.missing[self.first..=self.last] {
            if *missing != self.before {
                return None;
            }
            *missing = Some(self.missing);
        }
        Some(())
    }
}

/// All coefficients of a progressive file. `None` where scans do not fit together.
///
/// # Errors
/// [`Damage`]; scans that do not make a whole image end too soon.
pub(crate) fn read(header: &Header) -> Result<Option<Vec<Stored>>, Damage> {
    let mut header = header.clone();
    let components = header.components.iter();
    let mut stored: Vec<Stored> = components.map(|c| Stored::new(&header, c)).collect();
    let (mut rest, mut scans) = (header.data, 0);
    while !rest.starts_with(&[0xFF, 0xD9]) {
        let Some((marker, segment, after)) = segment(rest) else {
            return Ok(None);
        };
        rest = after;
        if marker != 0xDA {
            if header.add(marker, segment).is_none() {
                return Ok(None);
            }
            continue;
        }
        scans += 1;
        let pass = Pass::read(&mut header, segment).filter(|_| scans <= MOST_SCANS);
        let (Some(pass), Some((scan, after))) = (pass, Scan::read(rest)?) else {
            return Ok(None);
        };
        rest = after;
        for &number in &pass.components {
            if pass.note(&mut stored[number]).is_none() {
                return Ok(None);
            }
        }
        if read_pass(&header, &pass, &scan, &mut stored)?.is_none() {
            return Ok(None);
        }
    }
    let is_whole = |stored: &Stored| stored.missing.iter().all(|&missing| missing == Some(0));
    if !stored.iter().all(is_whole) {
        return Err(Damage::Incomplete);
    }
    Ok(Some(stored))
}

/// The tables of codes that a scan needs, one for each of its components.
fn tables(header: &Header, pass: &Pass) -> Option<Vec<Option<Symbols>>> {
    let class = usize::from(pass.first > 0);
    let table = |&number: &usize| {
        if class == 0 && pass.before.is_some() {
            // Single bits without codes.
            return Some(None);
        }
        let codes = header.codes[class][header.components[number].tables[class]].as_ref()?;
        Some(Some(Symbols::new(codes)))
    };
    pass.components.iter().map(table).collect()
}

/// Reads a scan into the coefficients; `None` where it has no codes.
fn read_pass(
    header: &Header,
    pass: &Pass,
    scan: &Scan,
    stored: &mut [Stored],
) -> Result<Option<()>, Damage> {
    let Some(tables) = tables(header, pass) else {
        return Ok(None);
    };
    let mut bits = scan.part(0)?;
    let mut state = State {
        predicted: vec![0; pass.components.len()],
        ended: 0,
    };
    // A scan of one component has its blocks one by one, and only those with something of the image.
    let alone = pass.components.len() == 1;
    let (columns, rows) = match (alone, &stored[pass.components[0]]) {
        (true, of) => of.size,
        (false, of) => {
            let component = &header.components[pass.components[0]];
            (of.stride / component.across, of.rows() / component.down)
        }
    };
    for unit in 0..columns * rows {
        if header.restart > 0 && unit > 0 && unit.is_multiple_of(header.restart) {
            let part = unit / header.restart;
            scan.check_end(part - 1, &bits)?;
            bits = scan.part(part)?;
            state.predicted.fill(0);
            state.ended = 0;
        }
        let (x, y) = (unit % columns, unit / columns);
        for (i, (&number, table)) in pass.components.iter().zip(&tables).enumerate() {
            let component = &header.components[number];
            let (across, down) = match alone {
                true => (1, 1),
                false => (component.across, component.down),
            };
            let stored = &mut stored[number];
            for row in y * down..(y + 1) * down {
                for column in x * across..(x + 1) * across {
                    let block = stored.block_mut(column, row);
                    if read_block(&mut bits, pass, table.as_ref(), (&mut state, i), block).is_err()
                    {
                        bits.check()?;
                        return Err(Damage::Invalid);
                    }
                }
            }
        }
        bits.check()?;
    }
    let last = match header.restart {
        0 => 0,
        restart => (columns * rows - 1) / restart,
    };
    scan.check_last(last, &bits)?;
    Ok(Some(()))
}

/// What blocks leave behind for the next.
struct State {
    /// The last DC coefficient of each component.
    predicted: Vec<i16>,
    /// Blocks to come that have no more coefficients in this scan.
    ended: u32,
}

fn read_block(
    bits: &mut Bits,
    pass: &Pass,
    table: Option<&Symbols>,
    (state, component): (&mut State, usize),
    block: &mut Block,
) -> Result<(), Damage> {
    let Some(table) = table else {
        block[0] |= (bits.take(1) as i16) << pass.missing;
        return Ok(());
    };
    match (pass.first, pass.before) {
        (0, _) => {
            let predicted = &mut state.predicted[component];
            *predicted = predicted.wrapping_add(table.read_value(bits)?);
            block[0] = *predicted << pass.missing;
            Ok(())
        }
        (_, None) => first_bits(bits, pass, table, &mut state.ended, block),
        (_, Some(_)) => next_bit(bits, pass, table, &mut state.ended, block),
    }
}

/// How many blocks end, this one included, by the upper half of a symbol.
fn ended(bits: &mut Bits, run: u32) -> u32 {
    (1 << run) + bits.take(run)
}

/// The highest bits of coefficients.
fn first_bits(
    bits: &mut Bits,
    pass: &Pass,
    table: &Symbols,
    ended_blocks: &mut u32,
    block: &mut Block,
) -> Result<(), Damage> {
    if *ended_blocks > 0 {
        *ended_blocks -= 1;
        return Ok(());
    }
    let mut place = pass.first;
    while place <= pass.last {
        let symbol = u32::from(table.read(bits)?);
        let (run, size) = (symbol >> 4, symbol & 15);
        place += run as usize;
        if size > 0 {
            if place > pass.last {
                return Err(Damage::Invalid);
            }
            let value = extend(bits.take(size), size) as i16;
            block[usize::from(PLACES[place])] = value << pass.missing;
        } else if run < 15 {
            *ended_blocks = ended(bits, run) - 1;
            return Ok(());
        }
        place += 1;
    }
    Ok(())
}

/// One more bit of coefficients that are not 0, and new ones of this bit alone.
fn next_bit(
    bits: &mut Bits,
    pass: &Pass,
    table: &Symbols,
    ended_blocks: &mut u32,
    block: &mut Block,
) -> Result<(), Damage> {
    let bit = 1i16 << pass.missing;
    let add = |bits: &mut Bits, value: &mut i16| {
        if bits.take(1) == 1 && *value & bit == 0 {
            *value = value.wrapping_add(if *value >= 0 { bit } else { -bit });
        }
    };
    let mut place = pass.first;
    while *ended_blocks == 0 && place <= pass.last {
        let symbol = u32::from(table.read(bits)?);
        let (mut zeros, size) = (symbol >> 4, symbol & 15);
        let new = match size {
            0 if zeros < 15 => {
                *ended_blocks = ended(bits, zeros);
                break;
            }
            0 => 0,
            1 if bits.take(1) == 1 => bit,
            1 => -bit,
            _ => return Err(Damage::Invalid),
        };
        // Zeros are passed over, others get their bit on the way.
        while place <= pass.last {
            let value = &mut block[usize::from(PLACES[place])];
            if *value != 0 {
                add(bits, value);
            } else if zeros == 0 {
                *value = new;
                break;
            } else {
                zeros -= 1;
            }
            place += 1;
        }
        if place > pass.last && new != 0 {
            return Err(Damage::Invalid);
        }
        place += 1;
    }
    if *ended_blocks > 0 {
        for &place in &PLACES[place.min(64)..=pass.last] {
            let value = &mut block[usize::from(place)];
            if *value != 0 {
                add(bits, value);
            }
        }
        *ended_blocks -= 1;
    }
    Ok(())
}
