//! Who was informed by whom through a pipe or FIFO: when bytes really went through. It does not know of files.

use crate::activity::ActivityNo;
use crate::quantity::{BootNs, ByteCount};
use crate::relation::{Informed, Via};

/// One end of a pipe as an activity had it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) who: ActivityNo,
    pub(crate) first: BootNs,
    pub(crate) last: BootNs,
    pub(crate) bytes: ByteCount,
}

/// What one pipe tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) informed: Vec<Informed>,
    /// Readers whose bytes came from nobody who was traced.
    pub(crate) from_outside: Vec<ActivityNo>,
}

/// Relates the ends of one pipe. A pipe that one activity both writes and reads carries tokens (make's jobserver) or wakes
/// its own loop: a control channel, which joins nothing.
pub(crate) fn tell(writers: &[End], readers: &[End], via: Via) -> Told {
    let mut told = Told::default();
    if readers.iter().any(|r| r.bytes.0 > 0 && writers.iter().any(|w| w.bytes.0 > 0 && w.who == r.who)) {
        return told;
    }
    for reader in readers.iter().filter(|r| r.bytes.0 > 0) {
        let before = told.informed.len();
        for writer in writers.iter().filter(|w| w.bytes.0 > 0 && w.first <= reader.last) {
            told.informed.push(Informed {
                informed: reader.who,
                informant: writer.who,
                via,
                sent: (writer.first, writer.last),
                received: (reader.first, reader.last),
                bytes: reader.bytes,
                possible: false,
            });
        }
        if told.informed.len() == before {
            told.from_outside.push(reader.who);
        }
    }
    told
}
