//! Entropy-coded data to coefficients.

use super::header::Codes;

/// Places of the coefficients in a block, `8 · row + column`, in the order of the file.
const PLACES: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20,
    13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59,
    52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Coefficients of a block in rows of eight, lowest frequencies first.
pub(super) type Block = [[f32; 8]; 8];

/// The file ends too early, or holds what cannot be.
#[derive(Debug)]
pub(super) struct Damaged;

/// Reads bits up to a marker, behind which all bits are 0.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next ones, highest first.
    bits: u64,
    count: u32,
    /// Of these, bits that stand in for missing ones.
    missing: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            bits: 0,
            count: 0,
            missing: 0,
        }
    }

    /// Makes sure of 32 bits: enough for a code and the value behind it.
    #[inline(always)]
    fn fill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some((four, rest)) = self.data.split_first_chunk::<4>() {
            let word = u32::from_be_bytes(*four);
            // No byte of it is 255.
            if (!word).wrapping_sub(0x0101_0101) & word & 0x8080_8080 == 0 {
                self.bits |= u64::from(word) << (32 - self.count);
                self.count += 32;
                self.data = rest;
                return;
            }
        }
        self.fill_slowly();
    }

    #[cold]
    #[inline(never)]
    fn fill_slowly(&mut self) {
        while self.count <= 56 {
            let byte = match *self.data {
                [0xFF, 0, ref rest @ ..] => {
                    self.data = rest;
                    0xFF
                }
                [0xFF, ..] | [] => {
                    self.missing += 8;
                    0
                }
                [byte, ref rest @ ..] => {
                    self.data = rest;
                    byte
                }
            };
            self.bits |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next `count` bits, at most 32.
    #[inline(always)]
    fn peek(&self, count: u32) -> u32 {
        (self.bits >> 32 >> (32 - count)) as u32
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.bits <<= count;
        self.count -= count;
    }

    /// Errs where bits were used that the file does not have.
    #[inline(always)]
    pub(super) fn check(&self) -> Result<(), Damaged> {
        if self.missing > self.count {
            return Err(Damaged);
        }
        Ok(())
    }

    /// Passes over the 255s that may stand before a marker.
    fn pass_fill(&mut self) {
        while self.data.starts_with(&[0xFF, 0xFF]) {
            self.data = &self.data[1..];
        }
    }

    /// Goes on behind restart marker `number`, which must come next.
    pub(super) fn restart(&mut self, number: usize) -> Result<(), Damaged> {
        self.check()?;
        // Less than a byte may be left over: whole ones would be data that no unit wanted.
        if self.count - self.missing >= 8 {
            return Err(Damaged);
        }
        self.pass_fill();
        match *self.data {
            [0xFF, marker, ref rest @ ..] if usize::from(marker) == 0xD0 + number % 8 => {
                *self = Self::new(rest);
                Ok(())
            }
            _ => Err(Damaged),
        }
    }

    /// Errs where the data go on, or have ended before.
    pub(super) fn finish(&mut self) -> Result<(), Damaged> {
        self.fill();
        self.check()?;
        self.pass_fill();
        let ends = matches!(self.data, [0xFF, 0xD9, ..]);
        (ends && self.count - self.missing < 8)
            .then_some(())
            .ok_or(Damaged)
    }
}

/// Bits by which codes are looked up at once.
const QUICK: u32 = 10;

/// A table of codes, each with the bits of the value behind it.
pub(super) struct Table {
    /// By the next bits: the value (upper half), the symbol, and the bits of code and value
    /// together; the value holds only where these are at most [`QUICK`]. 0 for longer codes.
    quick: Box<[u32; 1 << QUICK]>,
    /// Of each length: the first code behind its codes, in 16 bits, and what to add to a code to
    /// have its place among the symbols.
    lengths: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Table {
    /// `None` for codes that cannot be.
    pub(super) fn new(codes: &Codes) -> Option<Self> {
        let mut table = Self {
            quick: Box::new([0; 1 << QUICK]),
            lengths: [(0, 0); 17],
            symbols: codes.symbols.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1..).zip(codes.counts) {
            table.lengths[length as usize].1 = place as i32 - code as i32;
            for &symbol in codes.symbols.get(place..)?.get(..usize::from(count))? {
                if code >= 1 << length {
                    return None;
                }
                table.set_quick(code, length, symbol);
                code += 1;
                place += 1;
            }
            table.lengths[length as usize].0 = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }

    fn set_quick(&mut self, code: u32, length: u32, symbol: u8) {
        let Some(free) = QUICK.checked_sub(length) else {
            return;
        };
        let size = u32::from(symbol & 15);
        for rest in 0..1u32 << free {
            let value = match free.checked_sub(size) {
                Some(unused) if size > 0 => extend(rest >> unused, size),
                _ => 0,
            };
            self.quick[(code << free | rest) as usize] =
                (value as u32) << 16 | u32::from(symbol) << 8 | (length + size);
        }
    }

    /// Reads a code and the value behind it: the symbol and the value.
    #[inline(always)]
    fn read(&self, bits: &mut Bits) -> Result<(u32, i32), Damaged> {
        bits.fill();
        let found = self.find(bits)?;
        let (symbol, used) = (found >> 8 & 0xFF, found & 0xFF);
        let value = if used <= QUICK {
            found as i32 >> 16
        } else {
            let size = symbol & 15;
            let value = bits.peek(used) & ((1 << size) - 1);
            if size > 0 { extend(value, size) } else { 0 }
        };
        bits.skip(used);
        Ok((symbol, value))
    }

    /// Passes over a code and the value behind it: the symbol.
    #[inline(always)]
    fn pass(&self, bits: &mut Bits) -> Result<u32, Damaged> {
        bits.fill();
        let found = self.find(bits)?;
        bits.skip(found & 0xFF);
        Ok(found >> 8 & 0xFF)
    }

    #[inline(always)]
    fn find(&self, bits: &Bits) -> Result<u32, Damaged> {
        match self.quick[bits.peek(QUICK) as usize] {
            0 => self.find_slowly(bits.peek(16)),
            found => Ok(found),
        }
    }

    #[cold]
    #[inline(never)]
    fn find_slowly(&self, next: u32) -> Result<u32, Damaged> {
        for length in QUICK + 1..=16 {
            let (end, offset) = self.lengths[length as usize];
            if next < end {
                let code = (next >> (16 - length)) as i32;
                let symbol = *self.symbols.get((code + offset) as usize).ok_or(Damaged)?;
                return Ok(u32::from(symbol) << 8 | (length + u32::from(symbol & 15)));
            }
        }
        Err(Damaged)
    }
}

/// The number that `size` bits stand for.
#[inline(always)]
fn extend(bits: u32, size: u32) -> i32 {
    let negative = bits >> (size - 1) == 0;
    bits as i32 - if negative { (1 << size) - 1 } else { 0 }
}

/// What the blocks of a component are read by.
pub(super) struct Reader {
    direct: Table,
    other: Table,
    /// Divisors in the file's order.
    quantiser: [f32; 64],
    /// The last coefficient in the file's order that is wanted; others are passed over.
    last: usize,
    /// The mean of the block before.
    predicted: i32,
}

impl Reader {
    /// For blocks of which the first `columns × rows` coefficients are wanted.
    pub(super) fn new(
        [direct, other]: [&Codes; 2],
        quantiser: [f32; 64],
        (columns, rows): (usize, usize),
    ) -> Option<Self> {
        let wanted = |&place: &u8| {
            let place = usize::from(place);
            place % 8 < columns && place / 8 < rows
        };
        Some(Self {
            direct: Table::new(direct)?,
            other: Table::new(other)?,
            quantiser,
            last: PLACES.iter().rposition(wanted)?,
            predicted: 0,
        })
    }

    /// Forgets the blocks before.
    pub(super) fn restart(&mut self) {
        self.predicted = 0;
    }

    /// Reads a block; gives the number of rows behind which all coefficients are 0 or not wanted.
    #[inline(always)]
    pub(super) fn read(&mut self, bits: &mut Bits, block: &mut Block) -> Result<usize, Damaged> {
        *block = [[0.0; 8]; 8];
        let (symbol, difference) = self.direct.read(bits)?;
        if symbol > 15 {
            return Err(Damaged);
        }
        self.predicted = self.predicted.wrapping_add(difference);
        block[0][0] = self.predicted as f32 * self.quantiser[0];
        let (mut next, mut rows) = (1, 0);
        while next <= self.last {
            let (symbol, value) = self.other.read(bits)?;
            if symbol & 15 == 0 {
                if symbol != 0xF0 {
                    return Ok(rows + 1);
                }
                next += 16;
                continue;
            }
            next += (symbol >> 4) as usize;
            let place = usize::from(*PLACES.get(next).ok_or(Damaged)?);
            block[place / 8][place % 8] = value as f32 * self.quantiser[next];
            rows = rows.max(place / 8);
            next += 1;
        }
        while next < 64 {
            let symbol = self.other.pass(bits)?;
            if symbol & 15 == 0 && symbol != 0xF0 {
                break;
            }
            next += (symbol >> 4) as usize + 1;
        }
        if next > 64 {
            return Err(Damaged);
        }
        Ok(rows + 1)
    }
}
