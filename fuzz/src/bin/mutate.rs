//! A bounded run without the fuzzer: `cargo run --release --bin mutate -- 20000 CORPUS`.
//!
//! Changes whole files at random, the same way every time, and reads them. With a second
//! argument it writes the whole files there first, as a corpus for the fuzzer to begin with.

use std::time::Instant;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.below(6) {
        if bytes.len() < 2 {
            return;
        }
        let at = 1 + random.below(bytes.len() - 1);
        match random.below(6) {
            0 => bytes[at] = random.next() as u8,
            1 => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at.max(1)),
            3 => {
                let from = random.below(bytes.len());
                let len = random.below(64).min(bytes.len() - from);
                let part = bytes[from..from + len].to_vec();
                bytes.splice(at..at, part);
            }
            4 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                // Sizes and offsets at their limits.
                let limits = [0u64, 1, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX, 1 << 40];
                let value = limits[random.below(limits.len())].to_le_bytes();
                let end = (at + [1, 2, 4, 8][random.below(4)]).min(bytes.len());
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(10_000u64);
    let seeds = dinolab_fuzz::weights::seeds();
    if let Some(folder) = arguments.next() {
        std::fs::create_dir_all(&folder).expect("a folder for the corpus");
        for (i, seed) in seeds.iter().enumerate() {
            std::fs::write(format!("{folder}/seed-{i}"), seed).expect("a file in it");
        }
    }
    let began = Instant::now();
    for round in 1..=rounds {
        let mut random = Random(round.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut bytes = seeds[random.below(seeds.len())].clone();
        mutate(&mut bytes, &mut random);
        dinolab_fuzz::weights::read_and_load(&bytes);
        if round % 5_000 == 0 {
            println!("{round} files, {:.0} s", began.elapsed().as_secs_f64());
        }
    }
    println!(
        "{rounds} files read, in {:.0} s",
        began.elapsed().as_secs_f64()
    );
}
