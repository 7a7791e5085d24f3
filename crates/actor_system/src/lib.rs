//! Actors, bounded mailboxes, supervision and lifecycle; knows nothing of blocks
