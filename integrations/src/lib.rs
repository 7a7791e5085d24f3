//! Clients of the world outside, and their embedded counterparts
