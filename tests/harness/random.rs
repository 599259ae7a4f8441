//! Random numbers whose seed is printed, and can be given again as `FLOWCEPT_SEED`. They are no secret.

use std::hash::{BuildHasher, RandomState};

/// A splitmix64 generator.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded by `FLOWCEPT_SEED`, else anew; says which on stderr.
    pub fn seeded() -> Self {
        let given = std::env::var("FLOWCEPT_SEED").ok();
        let given = given.map(|seed| seed.parse().expect("because FLOWCEPT_SEED is a number"));
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
        eprintln!("random: FLOWCEPT_SEED={seed} repeats this");
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number, from 0 up to and without `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }
}
