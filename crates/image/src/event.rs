//! Events: what a build tells whoever watches it.

use std::{fmt, sync::Arc};

/// Takes events as they happen, from any thread; must not block.
pub trait Events: Send + Sync {
    /// Something happened.
    fn emit(&self, event: Event<'_>);
}

/// Something that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A piece of work began.
    Started {
        /// Which one.
        task: TaskId,
        /// What it is, e.g. `COPY data/ /models/`.
        what: &'a str,
        /// How many bytes will pass, if that is known.
        bytes: Option<u64>,
    },
    /// More bytes passed.
    Advanced {
        /// Which piece of work.
        task: TaskId,
        /// How many bytes since the last event.
        bytes: u64,
    },
    /// A piece of work is done once without moving its bytes, to learn its digest; the bytes that pass
    /// count like others until [`Event::Sending`] or the end.
    Hashing {
        /// Which piece of work.
        task: TaskId,
        /// Why.
        why: HashReason,
    },
    /// The bytes of a piece of work that was hashed first are sent now; they count from zero.
    Sending {
        /// Which piece of work.
        task: TaskId,
    },
    /// A piece of work starts over, e.g. after a connection broke.
    Restarted {
        /// Which piece of work.
        task: TaskId,
        /// Why.
        why: &'a str,
    },
    /// A piece of work ended well.
    Finished {
        /// Which one.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// A piece of work said something, such as a line of a RUN's output. Hostile: escape it where it is shown.
    Log {
        /// Which piece of work.
        task: TaskId,
        /// What it said, without the end of the line.
        line: &'a str,
    },
    /// Something worth a line.
    Note(&'a str),
    /// Something that the user should look at.
    Warning(&'a str),
}

/// How a piece of work ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Its bytes were moved.
    Stored,
    /// It was there already.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
}

/// Why a layer's digest was found out before its bytes were stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HashReason {
    /// The user asked for it.
    Asked,
    /// An image that is there has a layer of the same recipe.
    Recipe,
    /// A push of a layer of the same recipe began before and may have got to its end.
    Begun,
    /// The place takes nothing of unknown digest or size.
    Needed,
}

impl fmt::Display for HashReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "as asked for",
            Self::Recipe => "the image that is there has a layer like it",
            Self::Begun => "a push of it began before",
            Self::Needed => "its digest is needed first",
        })
    }
}

/// Names a piece of work among the events of one build.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TaskId(pub usize);

/// One piece of work and whom to tell about it.
#[derive(Clone)]
pub struct Progress {
    events: Arc<dyn Events>,
    task: TaskId,
}

impl Progress {
    /// Progress of `task`, told to `events`.
    pub fn new(events: Arc<dyn Events>, task: TaskId) -> Self {
        Self { events, task }
    }

    /// Progress that nobody watches.
    pub fn unwatched() -> Self {
        Self::new(Arc::new(Nobody), TaskId(0))
    }

    /// The work began.
    pub fn started(&self, what: &str, bytes: Option<u64>) {
        self.events.emit(Event::Started { task: self.task, what, bytes });
    }

    /// `bytes` more passed.
    pub fn advanced(&self, bytes: u64) {
        self.events.emit(Event::Advanced { task: self.task, bytes });
    }

    /// The work is done once for its digest alone.
    pub fn hashing(&self, why: HashReason) {
        self.events.emit(Event::Hashing { task: self.task, why });
    }

    /// What was hashed is sent now.
    pub fn sending(&self) {
        self.events.emit(Event::Sending { task: self.task });
    }

    /// The work starts over.
    pub fn restarted(&self, why: &str) {
        self.events.emit(Event::Restarted { task: self.task, why });
    }

    /// There is something about the work that the user should look at.
    pub fn warned(&self, text: &str) {
        self.events.emit(Event::Warning(text));
    }

    /// The work said something.
    pub fn log(&self, line: &str) {
        self.events.emit(Event::Log { task: self.task, line });
    }

    /// The work ended well.
    pub fn finished(&self, outcome: Outcome) {
        self.events.emit(Event::Finished { task: self.task, outcome });
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}

struct Nobody;

impl Events for Nobody {
    fn emit(&self, _: Event<'_>) {}
}
