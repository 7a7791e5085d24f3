//! The Alys node: actors, wiring, configuration and command line
