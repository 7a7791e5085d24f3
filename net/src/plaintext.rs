//! Links without encryption, for simulations that look for faults of agreement and not of the handshake.

use std::cell::Cell;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Switches encryption off for the services that this thread starts from now on, or on again. Both ends of a link need
/// the same. Nothing proves who somebody is then: anybody can take any identity.
pub fn use_plaintext(on: bool) {
    ON.with(|o| o.set(on));
}

pub(crate) fn on() -> bool {
    ON.with(Cell::get)
}
