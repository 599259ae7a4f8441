//! How records get their room in a segment and become visible, while other threads, signal handlers and readers are at it. It
//! does not know what memory is: the library's is a file that it has mapped, a model's is a model.
//!
//! Nobody waits. Room is taken by one atomic add, and never given back; what is not finished is passed over by readers.

use crate::segment::STEP;

/// The memory of a segment.
pub trait Memory {
    /// Adds to [`crate::segment::Begin::head`]; what it was. No order is asked of it.
    fn take(&self, bytes: u64) -> u64;
    /// Whether there are so many bytes, or more can be made.
    fn reaches(&self, end: u64) -> bool;
    /// Adds one to [`crate::segment::Begin::dropped`].
    fn drop_one(&self);
    /// Stores a record's length, after all that this thread stored before (release).
    fn set_length(&self, at: usize, length: u32);
    /// Stores its version, in the same way.
    fn set_version(&self, at: usize);
}

/// Takes room for a record of so many bytes: where it lies in the segment, a multiple of [`STEP`]. None where there is no
/// room, which is counted.
pub fn reserve(memory: &impl Memory, length: usize) -> Option<usize> {
    let bytes = (length.div_ceil(STEP) * STEP) as u64;
    let at = memory.take(bytes);
    if !memory.reaches(at + bytes) {
        memory.drop_one();
        return None;
    }
    Some(at as usize)
}

/// Fills the room that was taken for a record. Readers know of the room with its length, and of the record with its version.
pub fn commit(memory: &impl Memory, at: usize, length: u32, fill: impl FnOnce()) {
    memory.set_length(at, length);
    fill();
    memory.set_version(at);
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    use loom::thread;
    use std::cell::Cell;
    use std::vec::Vec;

    /// Places for records, each with room for two words.
    const PLACES: usize = 4;

    /// A segment: of each place the length, the version and two words of a record that begins there.
    struct Model {
        head: AtomicU64,
        dropped: AtomicU64,
        places: [[AtomicU32; 4]; PLACES],
    }

    impl Model {
        fn new() -> Self {
            let place = |_| core::array::from_fn(|_| AtomicU32::new(0));
            Self { head: AtomicU64::new(0), dropped: AtomicU64::new(0), places: core::array::from_fn(place) }
        }

        /// A record of one step or two, whose words say who wrote it; in the second step they stand where another record would
        /// have its length and version.
        fn fill(&self, at: usize, who: u32, steps: usize) {
            let first = at / STEP;
            self.places[first][2..].iter().for_each(|word| word.store(who, Ordering::Relaxed));
            let more = &self.places[first + 1..first + steps];
            more.iter().flatten().for_each(|word| word.store(who * STEP as u32, Ordering::Relaxed));
        }

        fn write(&self, who: u32, steps: usize) -> bool {
            let Some(at) = reserve(self, steps * STEP) else { return false };
            commit(self, at, (steps * STEP) as u32, || self.fill(at, who, steps));
            true
        }

        /// Who has finished a record, as [`crate::segment::Records`] finds them. Where somebody may still write, nothing is
        /// known of what lies behind room whose length is not there yet.
        fn read(&self, live: bool) -> Vec<u32> {
            let mut found = Vec::new();
            let mut at = 0;
            while at < PLACES {
                let [length, version, first, second] = &self.places[at];
                match length.load(Ordering::Acquire) as usize / STEP {
                    0 if live => break,
                    0 => at += 1,
                    steps => {
                        if version.load(Ordering::Acquire) != 0 {
                            let words = [first, second].map(|word| word.load(Ordering::Relaxed));
                            assert!(words[0] != 0 && words[0] == words[1], "a record is seen before it is finished");
                            found.push(words[0]);
                        }
                        at += steps;
                    }
                }
            }
            found
        }
    }

    impl Memory for Model {
        fn take(&self, bytes: u64) -> u64 {
            self.head.fetch_add(bytes, Ordering::Relaxed)
        }

        fn reaches(&self, end: u64) -> bool {
            end <= (PLACES * STEP) as u64
        }

        fn drop_one(&self) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }

        fn set_length(&self, at: usize, length: u32) {
            self.places[at / STEP][0].store(length, Ordering::Release);
        }

        fn set_version(&self, at: usize) {
            self.places[at / STEP][1].store(1, Ordering::Release);
        }
    }

    /// A writer that is killed while it fills its room.
    struct Killed<'a> {
        segment: &'a Model,
        dead: Cell<bool>,
    }

    impl Killed<'_> {
        fn write(&self) -> bool {
            let Some(at) = reserve(self, 2 * STEP) else { return false };
            commit(self, at, 2 * STEP as u32, || {
                self.segment.fill(at, 3, 2);
                self.dead.set(true);
            });
            true
        }
    }

    impl Memory for Killed<'_> {
        fn take(&self, bytes: u64) -> u64 {
            self.segment.take(bytes)
        }

        fn reaches(&self, end: u64) -> bool {
            self.segment.reaches(end)
        }

        fn drop_one(&self) {
            self.segment.drop_one();
        }

        fn set_length(&self, at: usize, length: u32) {
            if !self.dead.get() {
                self.segment.set_length(at, length);
            }
        }

        fn set_version(&self, at: usize) {
            if !self.dead.get() {
                self.segment.set_version(at);
            }
        }
    }

    /// In every order in which two writers, one that is killed while it writes, and a reader can meet: what is seen is
    /// whole, in the end each record that was finished is there once, and what had no room is counted.
    #[test]
    #[cfg_attr(miri, ignore = "the model has threads of its own")]
    fn all_orders() {
        loom::model(|| {
            let segment = Arc::new(Model::new());
            let writer = |who: u32, steps: usize| {
                let segment = segment.clone();
                thread::spawn(move || segment.write(who, steps))
            };
            let threads = [writer(1, 2), writer(2, 1)];
            let early = segment.read(true);
            let killed = Killed { segment: &segment, dead: Cell::new(false) }.write();
            let written = threads.map(|thread| thread.join().expect("because it does not panic"));
            let expected: Vec<u32> = (1..).zip(written).filter(|(_, written)| *written).map(|(who, _)| who).collect();
            let mut found = segment.read(false);
            found.sort_unstable();
            assert_eq!(found, expected);
            assert!(early.iter().all(|who| expected.contains(who)));
            let refused = [killed, written[0], written[1]].iter().filter(|had| !**had).count();
            assert_eq!(segment.dropped.load(Ordering::Relaxed), refused as u64);
        });
    }
}
