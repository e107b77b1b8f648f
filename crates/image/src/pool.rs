//! Worker threads for codecs, shared by all layers of a build.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads that do jobs in the order in which they were given. The threads end
/// when the last clone of the pool is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    jobs: Sender<Job>,
}

impl Pool {
    /// A pool of `threads` threads, at least one.
    pub(crate) fn new(threads: usize) -> Self {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                while let Some(job) = next(&queue) {
                    job();
                }
            });
        }
        Self { jobs }
    }

    /// Has `job` done on one of the threads; its result arrives at the receiver. A receiver whose
    /// job panicked gets nothing.
    pub(crate) fn submit<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
        let (result, receiver) = channel();
        let job: Job = Box::new(move || {
            // A layer that was given up drops its receiver, and then nobody wants the result.
            let _ = result.send(job());
        });
        self.jobs.send(job).expect("the threads live as long as a clone of the pool");
        receiver
    }
}

fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    // A panic inside `recv` is impossible, and jobs run after the lock is released.
    queue.lock().ok()?.recv().ok()
}
