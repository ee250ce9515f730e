//! Events from the thread that trains to the one that iterates, one at a time: training waits while an event is
//! handled, so that a run that is stopped at an event stops at its step.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between a thread that trains and one that iterates. `E` is an event, `B` what is known once the run
/// is open, `F` how it ended.
pub struct Handover<E, B, F> {
    state: Mutex<State<E, B, F>>,
    changed: Condvar,
}

struct State<E, B, F> {
    events: VecDeque<E>,
    /// The iterator waits for the next event.
    asked: bool,
    /// Nobody iterates any more.
    closed: bool,
    opened: Option<B>,
    ended: Option<F>,
    /// The thread that trains is done, or has panicked.
    gone: bool,
}

/// What a wait has found.
#[derive(Debug)]
pub enum Found<T> {
    /// It is there.
    Here(T),
    /// It will never be there.
    Never,
    /// It may be later.
    NotYet,
}

impl<E, B, F> Default for Handover<E, B, F> {
    fn default() -> Self {
        let state = State {
            events: VecDeque::new(),
            asked: false,
            closed: false,
            opened: None,
            ended: None,
            gone: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }
}

impl<E, B, F> Handover<E, B, F> {
    fn state(&self) -> MutexGuard<'_, State<E, B, F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State<E, B, F>)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn wait<T>(
        &self,
        at_most: Duration,
        find: impl Fn(&mut State<E, B, F>) -> Option<T>,
    ) -> Found<T> {
        let mut state = self.state();
        loop {
            if let Some(found) = find(&mut state) {
                return Found::Here(found);
            }
            if state.gone {
                return Found::Never;
            }
            let (next, time) = self
                .changed
                .wait_timeout(state, at_most)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if time.timed_out() {
                return match find(&mut state) {
                    Some(found) => Found::Here(found),
                    None => Found::NotYet,
                };
            }
        }
    }

    /// Training: hands an event over; once the run is open, waits until the next one is asked for.
    pub fn tell(&self, event: E) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.events.push_back(event);
        self.changed.notify_all();
        let ahead = state.opened.is_none();
        while !(ahead || state.closed || (state.asked && state.events.is_empty())) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Training: the run is open; waits until its first event is asked for.
    pub fn open(&self, opened: B) {
        self.change(|state| state.opened = Some(opened));
        let mut state = self.state();
        while !(state.closed || (state.asked && state.events.is_empty())) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Training: how it ended.
    pub fn end(&self, ended: F) {
        self.change(|state| state.ended = Some(ended));
    }

    /// Training: the thread is done.
    pub fn leave(&self) {
        self.change(|state| state.gone = true);
    }

    /// Training: whether to stop.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Iterating: whether the run is open, by what `look` takes of it.
    pub fn opened<T>(&self, at_most: Duration, look: impl Fn(&B) -> T) -> Found<T> {
        self.wait(at_most, |state| state.opened.as_ref().map(&look))
    }

    /// Iterating: the next event.
    pub fn next(&self, at_most: Duration) -> Found<E> {
        self.change(|state| state.asked = true);
        self.wait(at_most, |state| {
            let event = state.events.pop_front();
            state.asked &= event.is_none();
            event
        })
    }

    /// Iterating: asks training to stop.
    pub fn close(&self) {
        self.change(|state| state.closed = true);
    }

    /// Iterating: waits for the end, and takes it.
    pub fn ended(&self, at_most: Duration) -> Found<F> {
        self.wait(at_most, |state| match state.gone {
            true => state.ended.take(),
            false => None,
        })
    }
}
