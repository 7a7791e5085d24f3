//! Random numbers for faults, independent of the schedule's.

/// A SplitMix64 generator. Every link and every disk has its own, derived from the run's fault seed
/// and a label, so that an added or removed fault does not affect other parts of a run.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The generator for `label` in the run with `seed`.
    pub fn derive(seed: u64, label: &str) -> Self {
        let mut rng = Self { state: seed };
        for byte in label.bytes() {
            rng.state = rng.state.rotate_left(8) ^ u64::from(byte);
            rng.state = rng.next_u64();
        }
        rng
    }

    /// A uniformly distributed number.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, zero when `bound` is zero. Its bias, below 2^-32 for small bounds,
    /// is irrelevant for faults.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// True with a probability of `ppm` parts per million. Draws nothing when the result is
    /// certain, so that a disabled fault does not affect the others.
    pub fn chance(&mut self, ppm: u32) -> bool {
        match ppm {
            0 => false,
            1_000_000.. => true,
            _ => self.below(1_000_000) < u64::from(ppm),
        }
    }

    /// A duration in `0..=max`. Draws nothing when `max` is zero.
    pub fn duration(&mut self, max: std::time::Duration) -> std::time::Duration {
        match u64::try_from(max.as_nanos()).unwrap_or(u64::MAX) {
            0 => std::time::Duration::ZERO,
            nanos => std::time::Duration::from_nanos(self.below(nanos.saturating_add(1))),
        }
    }
}
