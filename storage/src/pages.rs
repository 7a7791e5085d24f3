//! What a file's pages must hold, so that a disk that lies is noticed where it is read.
//!
//! redb follows the pointers that it reads, and checks its own checksums only when it repairs: a page that came from
//! elsewhere can send it in circles until the stack is at its end, which ends the process without a word.
//!
//! **Owns** a checksum for each page that was written or read in this life of the process, four bytes for 4096. **Promises**
//! that a page which is not what was last written or read is never handed on. **Never** says anything about damage that
//! was done before the first look.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a page. redb's own are a multiple of it.
const PAGE: u64 = 4096;

/// The checksums of a file's pages; zero stands for "not known".
#[derive(Debug, Default)]
pub(crate) struct Pages {
    sums: Mutex<Vec<u32>>,
}

impl Pages {
    /// Bytes are about to be written: until that is done the pages may hold anything.
    pub fn forget(&self, offset: u64, len: usize) {
        let mut sums = self.sums();
        let last = offset.saturating_add(len as u64).div_ceil(PAGE);
        for number in offset / PAGE..last {
            if let Some(sum) = entry(&mut sums, number) {
                *sum = 0;
            }
        }
    }

    /// Bytes were written.
    pub fn written(&self, offset: u64, data: &[u8]) {
        let mut sums = self.sums();
        for (number, page) in whole(offset, data) {
            if let Some(sum) = made(&mut sums, number) {
                *sum = checksum(page);
            }
        }
    }

    /// Bytes were read: an error names the first page that is not what it was.
    pub fn check(&self, offset: u64, data: &[u8]) -> Result<(), String> {
        let mut sums = self.sums();
        for (number, page) in whole(offset, data) {
            let found = checksum(page);
            match made(&mut sums, number) {
                Some(sum) if *sum == 0 => *sum = found,
                Some(sum) if *sum != found => {
                    return Err(format!(
                        "page {number} of the file is not what was written there: the disk is damaged, or somebody \
                         else writes to the file"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The file has another length.
    pub fn cut(&self, len: u64) {
        // What lies behind a later extension is zero. The last page, if it is cut, is another one now.
        let pages = usize::try_from(len / PAGE).unwrap_or(usize::MAX);
        let mut sums = self.sums();
        sums.truncate(pages);
        sums.resize(usize::try_from(len.div_ceil(PAGE)).unwrap_or(pages), 0);
    }

    fn sums(&self) -> MutexGuard<'_, Vec<u32>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry(sums: &mut [u32], number: u64) -> Option<&mut u32> {
    sums.get_mut(usize::try_from(number).ok()?)
}

/// The entry of a page that was read or written, and so lies within a file.
fn made(sums: &mut Vec<u32>, number: u64) -> Option<&mut u32> {
    let number = usize::try_from(number).ok()?;
    if sums.len() <= number {
        sums.resize(number.checked_add(1)?, 0);
    }
    sums.get_mut(number)
}

/// The pages that lie in these bytes as a whole, with their numbers.
fn whole(offset: u64, data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
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
    fn a_page_that_is_not_what_was_written_is_noticed() {
        let pages = Pages::default();
        pages.written(PAGE, &[page(1), page(2)].concat());
        assert_eq!(pages.check(PAGE, &page(1)), Ok(()));
        assert_eq!(
            pages.check(0, &[page(7), page(1), page(2)].concat()),
            Ok(())
        );
        let stale = pages.check(PAGE, &[page(1), page(1)].concat()).unwrap_err();
        assert!(stale.starts_with("page 2 "), "{stale}");
        pages.forget(2 * PAGE + 5, 1);
        assert_eq!(
            pages.check(2 * PAGE, &page(3)),
            Ok(()),
            "a write that failed may have left anything"
        );
        assert!(
            pages.check(2 * PAGE, &page(4)).is_err(),
            "but not something else each time"
        );
    }

    #[test]
    fn parts_of_pages_are_not_judged() {
        let pages = Pages::default();
        pages.written(10, &[page(1), page(1)].concat());
        assert!(pages.check(PAGE, &page(1)).is_ok(), "the second is whole");
        assert!(pages.check(PAGE, &page(2)).is_err());
        assert!(pages.check(PAGE + 1, &page(2)[1..]).is_ok());
        assert!(pages.check(3, b"abc").is_ok());
    }

    #[test]
    fn what_lies_behind_the_end_is_forgotten() {
        let pages = Pages::default();
        pages.written(0, &[page(1), page(2), page(3)].concat());
        pages.cut(PAGE + 100);
        pages.cut(3 * PAGE);
        assert!(pages.check(0, &page(9)).is_err());
        assert!(pages.check(PAGE, &[page(9), page(0)].concat()).is_ok());
    }

    #[test]
    fn what_was_read_once_must_read_the_same() {
        let pages = Pages::default();
        assert!(pages.check(5 * PAGE, &page(1)).is_ok());
        assert!(pages.check(5 * PAGE, &page(2)).is_err());
    }
}
