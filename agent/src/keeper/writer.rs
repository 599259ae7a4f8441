//! Writes to a database in a thread of its own, so that a queue which keeps nothing is read meanwhile. It does not know what for.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use super::database::Database;
use super::document::Document;
use crate::sinks::Undelivered;

/// A document that is to be written.
pub(super) struct Taken {
    pub(super) document: Document,
    /// The message that it was.
    pub(super) message: Vec<u8>,
    /// How many messages came before it.
    pub(super) number: u64,
}

/// Documents that are written together.
pub(super) type Batch = Vec<Taken>;

/// What became of a batch: those that were refused, by their place in it, with the reason.
pub(super) type Written = (Batch, Result<Vec<(usize, String)>, Undelivered>);

pub(super) struct Writer {
    to: Sender<Batch>,
    from: Receiver<Written>,
    is_busy: bool,
}

impl Writer {
    /// Its thread ends once it is dropped.
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>, database: &'scope mut (dyn Database + Send)) -> Self {
        let (to, batches) = channel::<Batch>();
        let (done, from) = channel();
        scope.spawn(move || {
            for batch in batches {
                let documents: Vec<&Document> = batch.iter().map(|taken| &taken.document).collect();
                let written = database.keep(&documents);
                if done.send((batch, written)).is_err() {
                    return;
                }
            }
        });
        Self { to, from, is_busy: false }
    }

    /// Whether a batch was given that was not taken back.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Gives it a batch to write; one at a time.
    pub(super) fn give(&mut self, batch: Batch) {
        self.is_busy = true;
        self.to.send(batch).expect("because it ends after this");
    }

    /// What became of the batch, if it has come to an end or is waited for.
    pub(super) fn written(&mut self, is_waited_for: bool) -> Option<Written> {
        if !self.is_busy {
            return None;
        }
        let written = if is_waited_for { self.from.recv().ok() } else { self.from.try_recv().ok() };
        self.is_busy = written.is_none();
        written
    }
}
