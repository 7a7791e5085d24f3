//! Slots, votes, certificates, head choice and finality as a pure state machine
