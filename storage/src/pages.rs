//! Checksums of a file's pages, which detect a page that reads differently from the last write or
//! read.
//!
//! redb follows the pointers that it reads, and verifies its own checksums only during repair. A
//! misdirected page can make it recurse until the stack overflows, which aborts the process without
//! a message.
//!
//! **Owns** a checksum of four bytes for each page of 4096 that this process wrote or read.
//! **Guarantees** that a page which differs from its last write or read is never returned.
//! **Never** detects damage from before its first read.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a page. redb's page sizes are multiples of it.
const PAGE: u64 = 4096;

/// The checksums of a file's pages by page number; zero means unknown.
#[derive(Debug, Default)]
pub(crate) struct PageChecksums {
    sums: Mutex<Vec<u32>>,
}

impl PageChecksums {
    /// Forgets the pages that a write is about to touch, because a failed write may leave anything
    /// there.
    pub fn invalidate(&self, offset: u64, len: usize) {
        let mut sums = self.sums();
        let last = offset.saturating_add(len as u64).div_ceil(PAGE);
        for number in offset / PAGE..last {
            let index = usize::try_from(number).ok();
            if let Some(sum) = index.and_then(|index| sums.get_mut(index)) {
                *sum = 0;
            }
        }
    }

    /// Records the whole pages of a successful write.
    pub fn record(&self, offset: u64, data: &[u8]) {
        let mut sums = self.sums();
        for (number, page) in whole_pages(offset, data) {
            if let Some(sum) = sum_mut(&mut sums, number) {
                *sum = checksum(page);
            }
        }
    }

    /// Verifies the whole pages of a read. The error names the first page that differs.
    pub fn verify(&self, offset: u64, data: &[u8]) -> Result<(), String> {
        let mut sums = self.sums();
        for (number, page) in whole_pages(offset, data) {
            let found = checksum(page);
            match sum_mut(&mut sums, number) {
                Some(sum) if *sum == 0 => *sum = found,
                Some(sum) if *sum != found => {
                    return Err(format!(
                        "page {number} of the file differs from the page that was written: the \
                         disk is damaged, or another process writes to the file"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets the pages beyond the new length of the file, and its last page if that is cut.
    pub fn truncate(&self, len: u64) {
        let pages = usize::try_from(len / PAGE).unwrap_or(usize::MAX);
        let mut sums = self.sums();
        sums.truncate(pages);
        sums.resize(usize::try_from(len.div_ceil(PAGE)).unwrap_or(pages), 0);
    }

    fn sums(&self) -> MutexGuard<'_, Vec<u32>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checksum of a page that was read or written and so lies within the file.
fn sum_mut(sums: &mut Vec<u32>, number: u64) -> Option<&mut u32> {
    let number = usize::try_from(number).ok()?;
    if sums.len() <= number {
        sums.resize(number.checked_add(1)?, 0);
    }
    sums.get_mut(number)
}

/// The pages that `data`, which begins at `offset`, contains as a whole, with their numbers.
fn whole_pages(offset: u64, data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let before = usize::try_from(offset.next_multiple_of(PAGE) - offset).unwrap_or(usize::MAX);
    let pages = data
        .get(before..)
        .unwrap_or_default()
        .chunks_exact(PAGE as usize);
    (offset.div_ceil(PAGE)..).zip(pages)
}

fn checksum(page: &[u8]) -> u32 {
    crc32fast::hash(page).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(fill: u8) -> Vec<u8> {
        vec![fill; PAGE as usize]
    }

    #[test]
    fn a_page_that_differs_from_its_last_write_is_detected() {
        let pages = PageChecksums::default();
        pages.record(PAGE, &[page(1), page(2)].concat());
        assert_eq!(pages.verify(PAGE, &page(1)), Ok(()));
        assert_eq!(
            pages.verify(0, &[page(7), page(1), page(2)].concat()),
            Ok(())
        );
        let stale = pages
            .verify(PAGE, &[page(1), page(1)].concat())
            .unwrap_err();
        assert!(stale.starts_with("page 2 "), "{stale}");
        pages.invalidate(2 * PAGE + 5, 1);
        assert_eq!(
            pages.verify(2 * PAGE, &page(3)),
            Ok(()),
            "a failed write may leave anything"
        );
        assert!(
            pages.verify(2 * PAGE, &page(4)).is_err(),
            "two reads must agree"
        );
    }

    #[test]
    fn partial_pages_are_not_verified() {
        let pages = PageChecksums::default();
        pages.record(10, &[page(1), page(1)].concat());
        assert!(pages.verify(PAGE, &page(1)).is_ok(), "the second is whole");
        assert!(pages.verify(PAGE, &page(2)).is_err());
        assert!(pages.verify(PAGE + 1, &page(2)[1..]).is_ok());
        assert!(pages.verify(3, b"abc").is_ok());
    }

    #[test]
    fn pages_beyond_the_new_end_are_forgotten() {
        let pages = PageChecksums::default();
        pages.record(0, &[page(1), page(2), page(3)].concat());
        pages.truncate(PAGE + 100);
        pages.truncate(3 * PAGE);
        assert!(pages.verify(0, &page(9)).is_err());
        assert!(pages.verify(PAGE, &[page(9), page(0)].concat()).is_ok());
    }

    #[test]
    fn a_page_must_read_the_same_twice() {
        let pages = PageChecksums::default();
        assert!(pages.verify(5 * PAGE, &page(1)).is_ok());
        assert!(pages.verify(5 * PAGE, &page(2)).is_err());
    }
}
