//! Unencrypted links, for simulations that test consensus rather than the handshake.

use std::cell::Cell;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Disables or enables encryption for the services that this thread starts from now on. Both ends
/// of a link need the same setting. Without encryption a peer can claim any identity.
pub fn use_plaintext(on: bool) {
    ON.with(|o| o.set(on));
}

pub(crate) fn on() -> bool {
    ON.with(Cell::get)
}
