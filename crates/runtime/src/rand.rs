//! Randomness: from the operating system in production, from the seed in simulation.
//!
//! Suitable for keys in production. In simulation it is the run's generator, so its output is not
//! secret.

/// Fills `bytes` with random bytes.
///
/// # Panics
/// When the operating system provides no randomness, because no caller can continue safely without
/// it.
pub fn fill(bytes: &mut [u8]) {
    #[cfg(not(madsim))]
    {
        use ::rand::TryRngCore;
        ::rand::rngs::OsRng
            .try_fill_bytes(bytes)
            .expect("the operating system provides randomness once the machine has booted");
    }
    #[cfg(madsim)]
    {
        use madsim::rand::RngCore;
        madsim::rand::thread_rng().fill_bytes(bytes);
    }
}

/// A uniformly distributed number.
pub fn u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A uniformly distributed number in `0..bound`; zero when `bound` is zero.
pub fn below(bound: u64) -> u64 {
    if bound == 0 {
        return 0;
    }
    // A draw from the incomplete last multiple of `bound` would favour small results and is
    // repeated.
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let drawn = u64();
        if drawn < limit {
            return drawn % bound;
        }
    }
}

/// A number in `0..1` for jitter, in steps of 2^-20.
pub fn chance() -> f64 {
    const STEPS: u32 = 1 << 20;
    let drawn = u32::try_from(below(u64::from(STEPS))).unwrap_or(0);
    f64::from(drawn) / f64::from(STEPS)
}
