//! What to fetch next, from whom, and when to give up; pure
