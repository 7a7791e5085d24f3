//! End-to-end tests against real counterparts
