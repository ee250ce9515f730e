//! Huffman decoding: tables in which codes are looked up together with the values that follow them.

use crate::bits::Bits;
use crate::error::Damage;

/// Huffman codes as written: how many there are of each length, and what they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codes<'a> {
    pub(crate) counts: &'a [u8; 16],
    pub(crate) symbols: &'a [u8],
}

impl Codes<'_> {
    /// Whether there are as many codes of each length, the one of nothing but ones left out.
    pub(crate) fn are_possible(&self) -> bool {
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

/// What an end of block adds to a place.
pub(crate) const END: u32 = 128;

/// A coefficient, or what stands in its place: zeros (a value of 0) or the end of the block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coefficient {
    pub(crate) value: i16,
    /// Places from the one before; [`END`] for the end of a block.
    pub(crate) step: u32,
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

/// The number that `size` bits, 0 to 15, stand for.
#[inline(always)]
pub(crate) fn extend(bits: u32, size: u32) -> i32 {
    let least = 1 << size >> 1;
    let below = if (bits as i32) < least {
        (1 << size) - 1
    } else {
        0
    };
    bits as i32 - below
}

/// The most entries of a table.
const MOST: usize = 1 << 10;

/// The most bits of a value.
const VALUE_BITS: u32 = 15;

/// What the next bits hold. From the lowest byte on: the length and the step of all of it, the
/// length and the step of the first coefficient; then two values of 16 bits.
///
/// Where there is only one coefficient, the second value is the first's again. Where bits of the
/// value are missing, the length is that with all of them, and the value is the one with zeros for
/// them, to which they can be added. All 0 where bits of the code or its value's sign are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry(u64);

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

    /// The first coefficient.
    fn coefficient(self) -> Coefficient {
        Coefficient {
            value: (self.0 >> 32) as i16,
            step: self.byte(3),
            length: self.byte(2),
        }
    }

    /// Whether the codes have to be read one by one.
    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        self.byte(0) == 0
    }

    #[inline(always)]
    fn byte(self, number: u32) -> u32 {
        (self.0 >> (8 * number)) as u32 & 0xFF
    }

    /// Places to the first coefficient.
    #[inline(always)]
    pub(crate) fn first_step(self) -> u32 {
        self.byte(3)
    }

    /// Places to the last coefficient.
    #[inline(always)]
    pub(crate) fn step(self) -> u32 {
        self.byte(1)
    }

    /// Passes over all that it stands for, `known` bits of which it was looked up by; gives the values.
    #[inline(always)]
    pub(crate) fn take(self, known: u32, bits: &mut Bits) -> [i16; 2] {
        let rest = self.rest(known, bits);
        bits.skip(self.0);
        [(self.0 >> 32) as i16 + rest, (self.0 >> 48) as i16 + rest]
    }

    /// As [`Self::take`], for the first coefficient alone.
    #[inline(always)]
    pub(crate) fn take_first(self, known: u32, bits: &mut Bits) -> i16 {
        let rest = self.rest(known, bits);
        bits.skip(self.0 >> 16);
        (self.0 >> 32) as i16 + rest
    }

    /// The bits of the value that it has not.
    #[inline(always)]
    fn rest(self, known: u32, bits: &Bits) -> i16 {
        let length = self.byte(0);
        let missing = length.saturating_sub(known);
        (bits.peek(length) & ((1 << missing) - 1)) as i16
    }
}

/// Codes by their lengths.
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

    /// The symbol of the code that 16 bits begin with, and the code's length, at least `least`.
    #[inline(always)]
    fn find(&self, next: u32, least: u32) -> Result<(u8, u32), Damage> {
        // The number of lengths that end before, without a branch.
        let ends = self.lengths[least as usize..16].iter();
        let length = least + ends.map(|&(end, _)| u32::from(next >= end)).sum::<u32>();
        let (_, offset) = self.lengths[length as usize];
        let code = (next >> (16 - length)) as i32;
        let symbol = *self
            .symbols
            .get((code + offset) as usize)
            .ok_or(Damage::Invalid)?;
        Ok((symbol, length))
    }
}

/// Codes without what is behind them.
pub(crate) struct Symbols {
    /// By the next bits: the symbol and the code's length; 0 for longer ones.
    quick: Box<[[u8; 2]; SYMBOLS]>,
    all: Lengths,
}

const SYMBOL_BITS: u32 = 9;
const SYMBOLS: usize = 1 << SYMBOL_BITS;

impl Symbols {
    pub(crate) fn new(codes: &Codes) -> Self {
        let mut quick = Box::new([[0; 2]; SYMBOLS]);
        for (code, length, symbol) in codes.each() {
            if let Some(free) = SYMBOL_BITS.checked_sub(length) {
                quick[(code << free) as usize..][..1 << free].fill([symbol, length as u8]);
            }
        }
        Self {
            quick,
            all: Lengths::new(codes),
        }
    }

    /// Reads a symbol.
    #[inline(always)]
    pub(crate) fn read(&self, bits: &mut Bits) -> Result<u8, Damage> {
        bits.fill();
        let (symbol, length) = match self.quick[bits.peek(SYMBOL_BITS) as usize] {
            [_, 0] => self.all.find(bits.peek(16), SYMBOL_BITS + 1)?,
            [symbol, length] => (symbol, u32::from(length)),
        };
        bits.skip(u64::from(length));
        Ok(symbol)
    }

    /// Reads a number of bits, at most 15, and the number that they stand for.
    #[inline(always)]
    pub(crate) fn read_value(&self, bits: &mut Bits) -> Result<i16, Damage> {
        let size = u32::from(self.read(bits)? & 15);
        Ok(extend(bits.take(size), size) as i16)
    }
}

/// A table of codes, the next `BITS` of which are looked up at once.
pub(crate) struct Table<const BITS: u32> {
    /// The first 2 to the power of `BITS` are used.
    quick: Box<[Entry; MOST]>,
    all: Lengths,
}

impl<const BITS: u32> Table<BITS> {
    /// The most bits that an entry stands for.
    pub(crate) const ENTRY_BITS: u32 = BITS + VALUE_BITS;

    /// Codes of coefficients, up to two to an entry.
    pub(crate) fn pairs(codes: &Codes) -> Self {
        let mut table = Self::new(codes);
        let single = table.quick.clone();
        for (bits, entry) in table.quick[..1 << BITS].iter_mut().enumerate() {
            // Bits that are not known yet are 0 here: what needs them is too long.
            let first = single[bits].coefficient();
            let second = single[(bits << first.length) & ((1 << BITS) - 1)].coefficient();
            let fits = second.length > 0 && first.length + second.length <= BITS;
            if fits && first.step < END {
                *entry = Entry::new(first, Some(second));
            }
        }
        table
    }

    /// Codes of coefficients or, where a block begins, of differences.
    pub(crate) fn new(codes: &Codes) -> Self {
        let mut quick = Box::new([Entry::default(); MOST]);
        for (code, length, symbol) in codes.each() {
            let Some(free) = BITS.checked_sub(length) else {
                continue;
            };
            let size = u32::from(symbol & 15);
            if free == 0 && size > 0 {
                // Not even the sign is known.
                continue;
            }
            let (known, unknown) = (size.min(free), size.saturating_sub(free));
            let same = &mut quick[(code << free) as usize..][..1 << free];
            for (bits, same) in (0..).zip(same.chunks_exact_mut(1 << (free - known))) {
                let value = extend(bits << unknown, size);
                same.fill(Entry::new(Coefficient::new(symbol, length, value), None));
            }
        }
        Self {
            quick,
            all: Lengths::new(codes),
        }
    }

    /// What the next bits hold.
    #[inline(always)]
    pub(crate) fn entry(&self, bits: &Bits) -> Entry {
        self.quick[bits.peek(BITS) as usize]
    }

    /// Reads a coefficient whose code has no entry, from at least 31 bits.
    #[inline(always)]
    pub(crate) fn read_long(&self, bits: &mut Bits) -> Result<Coefficient, Damage> {
        let (symbol, length) = self.find(bits.peek(16))?;
        let size = u32::from(symbol & 15);
        let value = bits.peek(length + size) & ((1 << size) - 1);
        let found = Coefficient::new(symbol, length, extend(value, size));
        bits.skip(u64::from(found.length));
        Ok(found)
    }

    /// [`Lengths::find`], out of the way.
    #[cold]
    #[inline(never)]
    fn find(&self, next: u32) -> Result<(u8, u32), Damage> {
        // Shorter ones have entries.
        self.all.find(next, BITS)
    }
}
