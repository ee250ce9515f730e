//! Huffman codes, looked up together with the values behind them.

use super::Damaged;
use super::bits::Bits;

/// Huffman codes as written: how many there are of each length, and what they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Codes<'a> {
    pub(super) counts: &'a [u8; 16],
    pub(super) symbols: &'a [u8],
}

impl Codes<'_> {
    /// Whether there are as many codes of each length, the one of nothing but ones left out.
    pub(super) fn are_possible(&self) -> bool {
        let mut free = 1;
        self.counts.iter().all(|&count| {
            free = 2 * free - i32::from(count);
            free > 0
        })
    }

    /// Each code with its length and its symbol.
    fn each(&self) -> impl Iterator<Item = (u32, u32, u8)> {
        let lengths = (1..).zip(self.counts);
        let lengths = lengths.flat_map(|(length, &count)| (0..count).map(move |_| length));
        let (mut code, mut last) = (0u32, 1);
        lengths.zip(self.symbols).map(move |(length, &symbol)| {
            code <<= length - last;
            last = length;
            code += 1;
            (code - 1, length, symbol)
        })
    }
}

/// Bits by which codes are looked up at once.
const QUICK: u32 = 10;
/// The most bits that are read so: with all of a value.
pub(super) const QUICK_BITS: u32 = QUICK + 15;
const ENTRIES: usize = 1 << QUICK;

/// Codes by their bits.
#[derive(Clone)]
struct Lengths {
    /// Of each length: the first code behind its codes, in 16 bits, and what to add to a code to
    /// have its place among the symbols.
    lengths: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Lengths {
    fn new(codes: &Codes) -> Self {
        let mut lengths = [(0, 0); 17];
        let (mut code, mut place) = (0u32, 0i32);
        for (length, &count) in (1..).zip(codes.counts) {
            lengths[length].1 = place - code as i32;
            code += u32::from(count);
            place += i32::from(count);
            lengths[length].0 = code << (16 - length);
            code <<= 1;
        }
        Self {
            lengths,
            symbols: codes.symbols.to_vec(),
        }
    }

    /// The symbol of the code that the next 16 bits begin with, and the code's length.
    #[cold]
    #[inline(never)]
    fn find(&self, next: u32) -> Result<(u32, u32), Damaged> {
        // Shorter ones are looked up at once.
        for length in QUICK..=16 {
            let (end, offset) = self.lengths[length as usize];
            if next < end {
                let code = (next >> (16 - length)) as i32;
                let symbol = *self.symbols.get((code + offset) as usize).ok_or(Damaged)?;
                return Ok((u32::from(symbol), length));
            }
        }
        Err(Damaged)
    }
}

/// The number that `size` bits, 0 to 15, stand for.
#[inline(always)]
fn extend(bits: u32, size: u32) -> i32 {
    let least = 1 << size >> 1;
    let below = if (bits as i32) < least {
        (1 << size) - 1
    } else {
        0
    };
    bits as i32 - below
}

/// The `size` bits behind the next `length`, as a number.
#[inline(always)]
fn value(bits: &Bits, length: u32, size: u32) -> i32 {
    extend(bits.peek(length + size) & ((1 << size) - 1), size)
}

/// Codes of differences of direct coefficients.
pub(super) struct Direct {
    /// By the next bits: the symbol and the code's length. 0 for longer codes.
    quick: Box<[[u8; 2]; ENTRIES]>,
    all: Lengths,
}

impl Direct {
    pub(super) fn new(codes: &Codes) -> Self {
        let mut quick = Box::new([[0; 2]; ENTRIES]);
        for (code, length, symbol) in codes.each() {
            if let Some(free) = QUICK.checked_sub(length) {
                quick[(code << free) as usize..][..1 << free].fill([symbol, length as u8]);
            }
        }
        Self {
            quick,
            all: Lengths::new(codes),
        }
    }

    /// Reads a difference from at least 31 bits.
    #[inline(always)]
    pub(super) fn read(&self, bits: &mut Bits) -> Result<i32, Damaged> {
        let (size, length) = match self.quick[bits.peek(QUICK) as usize] {
            [_, 0] => self.all.find(bits.peek(16))?,
            [size, length] => (u32::from(size), u32::from(length)),
        };
        // The header's check of the table says so; the compiler does not know.
        if size > 15 {
            return Err(Damaged);
        }
        let value = value(bits, length, size);
        bits.skip(length + size);
        Ok(value)
    }
}

/// What an end of block adds to a place.
pub(super) const END: u32 = 128;

/// A coefficient, or what stands in its place: zeros (a value of 0) or the end of the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Coefficient {
    value: i16,
    /// Places from the one before; [`END`] for the end of a block.
    step: u32,
    /// Bits of code and value.
    length: u32,
}

impl Coefficient {
    fn new(symbol: u8, code_length: u32, value: i32) -> Self {
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        Self {
            value: value as i16,
            // Sixteen zeros are a zero behind fifteen.
            step: if size == 0 && run != 15 { END } else { run + 1 },
            length: code_length + size,
        }
    }
}

/// What the next bits hold. From the lowest byte on: the length and the step of all of it, the
/// length and the step of the first coefficient; then two values of 16 bits.
///
/// Where there is only one coefficient, the second value is the first's again. Where bits of the
/// value are missing, the length is that with all of them, and the value is the one with zeros for
/// them, to which they can be added. All 0 where bits of the code or its value's sign are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    fn new(first: Coefficient, second: Option<Coefficient>) -> Self {
        let value = |c: Coefficient| u64::from(c.value as u16);
        let (step, length) = match second {
            Some(second) => (first.step + second.step, first.length + second.length),
            None => (first.step, first.length),
        };
        Self(
            value(second.unwrap_or(first)) << 48
                | value(first) << 32
                | u64::from(first.step) << 24
                | u64::from(first.length) << 16
                | u64::from(step) << 8
                | u64::from(length),
        )
    }

    #[inline(always)]
    fn byte(self, number: u32) -> u32 {
        (self.0 >> (8 * number)) as u32 & 0xFF
    }

    #[inline(always)]
    fn value(self, number: u32) -> i16 {
        (self.0 >> (32 + 16 * number)) as i16
    }

    /// The bits of the value that it has not.
    #[inline(always)]
    fn rest(self, bits: &Bits) -> i16 {
        let length = self.byte(0);
        let missing = length.saturating_sub(QUICK);
        (bits.peek(length) & ((1 << missing) - 1)) as i16
    }
}

/// Codes of coefficients other than the direct ones.
pub(super) struct Other {
    /// By the next bits.
    quick: Box<[Entry; ENTRIES]>,
    all: Lengths,
}

impl Other {
    pub(super) fn new(codes: &Codes) -> Self {
        let mut single = [Coefficient::default(); ENTRIES];
        for (code, length, symbol) in codes.each() {
            let Some(free) = QUICK.checked_sub(length) else {
                continue;
            };
            let same = &mut single[(code << free) as usize..][..1 << free];
            let size = u32::from(symbol & 15);
            if free == 0 && size > 0 {
                // Not even the sign is known.
                continue;
            }
            let (known, unknown) = (size.min(free), size.saturating_sub(free));
            for (bits, same) in (0..).zip(same.chunks_exact_mut(1 << (free - known))) {
                same.fill(Coefficient::new(symbol, length, extend(bits << unknown, size)));
            }
        }
        let mut quick = Box::new([Entry::default(); ENTRIES]);
        for (bits, (entry, first)) in quick.iter_mut().zip(single).enumerate() {
            // Bits that are not known yet are 0 here: what needs them is too long.
            let second = single[bits << first.length.min(QUICK) & (ENTRIES - 1)];
            let fits = second.length > 0 && first.length + second.length <= QUICK;
            let fits = fits && first.step < END;
            *entry = Entry::new(first, fits.then_some(second));
        }
        Self {
            quick,
            all: Lengths::new(codes),
        }
    }

    /// Reads one or two coefficients, the first of which does not end the block but by [`END`], from
    /// at least [`QUICK_BITS`] bits: calls `set` with the place and the value of each, and gives the
    /// place of the last.
    #[inline(always)]
    pub(super) fn read_some(
        &self,
        bits: &mut Bits,
        place: u32,
        mut set: impl FnMut(u32, i16),
    ) -> Result<u32, Damaged> {
        let entry = self.quick[bits.peek(QUICK) as usize];
        let length = entry.byte(0);
        if length == 0 {
            return self.read_long(bits, place, set);
        }
        let rest = entry.rest(bits);
        bits.skip(length);
        set(place + entry.byte(3), entry.value(0) + rest);
        let place = place + entry.byte(1);
        set(place, entry.value(1) + rest);
        Ok(place)
    }

    /// Reads one coefficient, as [`Self::read_some`].
    #[inline(always)]
    pub(super) fn read_one(
        &self,
        bits: &mut Bits,
        place: u32,
        mut set: impl FnMut(u32, i16),
    ) -> Result<u32, Damaged> {
        let entry = self.quick[bits.peek(QUICK) as usize];
        if entry.byte(0) == 0 {
            return self.read_long(bits, place, set);
        }
        let rest = entry.rest(bits);
        bits.skip(entry.byte(2));
        let place = place + entry.byte(3);
        set(place, entry.value(0) + rest);
        Ok(place)
    }

    /// Reads one coefficient that has no entry.
    #[inline(always)]
    fn read_long(
        &self,
        bits: &mut Bits,
        place: u32,
        mut set: impl FnMut(u32, i16),
    ) -> Result<u32, Damaged> {
        bits.fill();
        let (symbol, length) = self.all.find(bits.peek(16))?;
        let value = value(bits, length, symbol & 15);
        let found = Coefficient::new(symbol as u8, length, value);
        bits.skip(found.length);
        set(place + found.step, found.value);
        Ok(place + found.step)
    }
}
