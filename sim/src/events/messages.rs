//! Messages between machines: the bytes of one write to a connection, until the other end has read
//! the last of them.
//!
//! A long run has more messages than a page can hold. The record keeps all messages of a requested
//! window and of the end of the run, because violations are there, and an evenly spaced sample of
//! the others.

use std::collections::{BTreeMap, VecDeque};

use crate::params::parse_duration;

/// Most messages of the window.
pub const MAX_WINDOW: usize = 60_000;
/// Most messages of the end of a run.
pub const MAX_TAIL: usize = 40_000;
/// Most messages of the sample.
pub const MAX_SAMPLE: usize = 100_000;
/// Most unread messages of one direction of a connection; older ones count as lost.
const MAX_UNREAD: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    /// Time of the write, in microseconds from the start.
    pub at_us: u64,
    /// Lane of the sender.
    pub from: u16,
    /// Lane of the receiver.
    pub to: u16,
    /// Time from the write to the read, in microseconds; `None`: never read.
    pub delay_us: Option<u64>,
    pub bytes: u64,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Flow {
    written: u64,
    read: u64,
    /// Unread messages, each with the position of its last byte.
    unread: VecDeque<(u64, Message)>,
}

/// The messages of a run.
#[derive(Debug)]
pub struct Messages {
    window: Window,
    /// By connection, sender and receiver.
    flows: BTreeMap<(u64, u16, u16), Flow>,
    in_window: Vec<Message>,
    tail: VecDeque<Message>,
    sample: Vec<Message>,
    /// One in this many messages outside of the window and the end is in the sample.
    stride: u64,
    sampled: u64,
    /// Number of all messages.
    pub total: u64,
}

impl Messages {
    pub fn new(window: Option<Window>) -> Self {
        Self {
            window: window.unwrap_or_default(),
            flows: BTreeMap::new(),
            in_window: Vec::new(),
            tail: VecDeque::new(),
            sample: Vec::new(),
            stride: 1,
            sampled: 0,
            total: 0,
        }
    }

    /// Adds a write from `way.0` to `way.1`.
    pub fn sent(&mut self, at_us: u64, conn: u64, way: (u16, u16), bytes: u64) {
        let flow = self.flows.entry((conn, way.0, way.1)).or_default();
        flow.written += bytes;
        let message = Message {
            at_us,
            from: way.0,
            to: way.1,
            delay_us: None,
            bytes,
        };
        flow.unread.push_back((flow.written, message));
        if flow.unread.len() > MAX_UNREAD
            && let Some((_, lost)) = flow.unread.pop_front()
        {
            self.keep(lost);
        }
    }

    /// Adds a read by `way.1` of bytes that `way.0` has written.
    pub fn received(&mut self, at_us: u64, conn: u64, way: (u16, u16), bytes: u64) {
        let Some(flow) = self.flows.get_mut(&(conn, way.0, way.1)) else {
            return;
        };
        flow.read += bytes;
        let mut whole = Vec::new();
        while let Some((end, message)) = flow.unread.pop_front() {
            if end > flow.read {
                flow.unread.push_front((end, message));
                break;
            }
            whole.push(Message {
                delay_us: Some(at_us.saturating_sub(message.at_us)),
                ..message
            });
        }
        whole.into_iter().for_each(|message| self.keep(message));
    }

    fn keep(&mut self, message: Message) {
        self.total += 1;
        if (self.window.from_us..self.window.to_us).contains(&message.at_us)
            && self.in_window.len() < MAX_WINDOW
        {
            self.in_window.push(message);
            return;
        }
        self.tail.push_back(message);
        if self.tail.len() > MAX_TAIL
            && let Some(old) = self.tail.pop_front()
        {
            self.sample(old);
        }
    }

    fn sample(&mut self, old: Message) {
        if self.sampled.is_multiple_of(self.stride) {
            if self.sample.len() >= MAX_SAMPLE {
                let mut at = 0;
                self.sample.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                self.stride *= 2;
            }
            if self.sampled.is_multiple_of(self.stride) {
                self.sample.push(old);
            }
        }
        self.sampled += 1;
    }

    /// Keeps the unread messages after the end of the run.
    pub fn finish(&mut self) {
        for flow in std::mem::take(&mut self.flows).into_values() {
            flow.unread
                .into_iter()
                .for_each(|(_, message)| self.keep(message));
        }
    }

    /// The kept messages, sorted by time.
    pub fn kept(&self) -> Vec<Message> {
        let all = self.in_window.iter().chain(&self.tail).chain(&self.sample);
        let mut all: Vec<Message> = all.copied().collect();
        all.sort_unstable();
        all
    }

    /// One in this many messages outside of the window and the end is kept.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// The time from which on all messages are kept, in microseconds.
    pub fn complete_from_us(&self) -> u64 {
        if self.sample.is_empty() || self.stride == 1 {
            return 0;
        }
        // The tail is sorted by the time of the read; a few slow messages are missing.
        let first = self.tail.front();
        first.map_or(0, |first| first.at_us + first.delay_us.unwrap_or(0))
    }
}

/// The part of a run whose messages are all kept, in microseconds. Of the other messages the end of
/// the run and a sample are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    pub from_us: u64,
    /// The exclusive end.
    pub to_us: u64,
}

/// Parses `12s..15.5s`.
///
/// # Errors
/// The text is not a window; the message names the expected form.
pub fn parse_window(text: &str) -> Result<Window, String> {
    let error = || format!("{text:?}: expected a part of the run, as 12s..15.5s");
    let (from, to) = text.split_once("..").ok_or_else(error)?;
    let us = |text: &str| -> Result<u64, String> {
        let ms = parse_duration(text).map_err(|_| error())?;
        Ok(ms * 1_000)
    };
    let from_us = us(from)?;
    let to_us = us(to)?;
    if from_us < to_us {
        Ok(Window { from_us, to_us })
    } else {
        Err(error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_two_moments() {
        let window = Window {
            from_us: 12_000_000,
            to_us: 15_500_000,
        };
        assert_eq!(parse_window("12s..15.5s"), Ok(window));
        for wrong in ["", "12s", "12s..", "15s..12s", "1..2"] {
            assert!(parse_window(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_message_is_read_with_its_last_byte() {
        let mut messages = Messages::new(None);
        messages.sent(10, 1, (2, 3), 100);
        messages.sent(20, 1, (2, 3), 50);
        messages.sent(30, 1, (3, 2), 7);
        messages.received(40, 1, (2, 3), 60);
        messages.received(45, 1, (2, 3), 60);
        messages.received(50, 1, (2, 3), 30);
        messages.received(55, 9, (2, 3), 30);
        messages.finish();
        let message = |at_us, from, to, delay_us, bytes| Message {
            at_us,
            from,
            to,
            delay_us,
            bytes,
        };
        let all = [
            message(10, 2, 3, Some(35), 100),
            message(20, 2, 3, Some(30), 50),
            message(30, 3, 2, None, 7),
        ];
        assert_eq!((messages.kept(), messages.total), (all.to_vec(), 3));
        assert_eq!(messages.complete_from_us(), 0);
    }

    #[test]
    fn a_long_run_keeps_its_end_the_window_and_an_even_sample() {
        let count = 1_000_000;
        let window = Window {
            from_us: 300_000,
            to_us: 310_000,
        };
        let mut messages = Messages::new(Some(window));
        for at in 0..count {
            messages.sent(at, 1, (2, 3), 1);
            messages.received(at + 1, 1, (2, 3), 1);
        }
        messages.finish();
        let kept = messages.kept();
        assert_eq!(messages.total, count);
        assert!(kept.len() <= MAX_WINDOW + MAX_TAIL + MAX_SAMPLE);
        assert_eq!(
            kept.iter()
                .filter(|m| (300_000..310_000).contains(&m.at_us))
                .count(),
            10_000
        );
        assert_eq!(
            kept.iter()
                .filter(|m| m.at_us >= count - MAX_TAIL as u64)
                .count(),
            MAX_TAIL
        );
        assert!(messages.complete_from_us() <= count - MAX_TAIL as u64 + 1);
        let stride = messages.stride();
        assert!(stride.is_power_of_two() && stride > 1);
        let before: Vec<u64> = kept
            .iter()
            .map(|m| m.at_us)
            .filter(|at| *at < 300_000)
            .collect();
        assert!(
            before.windows(2).all(|pair| pair[1] - pair[0] == stride),
            "evenly spaced"
        );
    }
}
