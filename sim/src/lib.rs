//! The simulator: whole Alys networks on one thread and one seed
