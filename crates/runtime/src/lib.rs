//! The seam: tasks, timers, clock, randomness, sockets and disk; real on tokio, simulated on madsim
