//! A training run: a thread that trains, and its events for whoever iterates.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dinolab::{Flags, TrainArgs};
use dinolab_run::{Environment, Error, Session, TrainRequest};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::events::{Exchange, Teller, Told, finished, started};
use crate::exceptions::{Exception, exception};
use crate::forked;
use crate::handover::Found;
use crate::settings::{flags_of, parse};

/// How often Ctrl-C is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Stack of the thread that trains, in bytes: as much as a program's first thread has.
const STACK: usize = 8 << 20;

/// A run that trains while its events are asked for.
#[pyclass(frozen, module = "dinolab._dinolab")]
pub struct Run {
    exchange: Arc<Exchange>,
    flags: Flags,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[pymethods]
impl Run {
    /// Opens the run that `dinolab train IMAGES` with these settings begins or resumes.
    #[new]
    #[pyo3(signature = (images, settings))]
    fn new(
        py: Python<'_>,
        images: Option<PathBuf>,
        settings: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        forked::check(py)?;
        let args: TrainArgs = parse(py, images, settings)?;
        let request = args.request();
        let exchange = Arc::new(Exchange::default());
        let thread = {
            let exchange = exchange.clone();
            std::thread::Builder::new()
                .name("dinolab-train".into())
                .stack_size(STACK)
                .spawn(move || work(&exchange, request))?
        };
        let run = Self {
            exchange,
            flags: flags_of::<TrainArgs>(),
            thread: Mutex::new(Some(thread)),
        };
        loop {
            match py.detach(|| run.exchange.opened(LOOK, |()| ())) {
                Found::Here(()) => return Ok(run),
                Found::Never => return Err(run.failure(py)),
                Found::NotYet => run.listen(py)?,
            }
        }
    }

    /// The next event, a pair of its kind and its values; `None` once the last was given.
    fn next_event(&self, py: Python<'_>) -> PyResult<Option<Told>> {
        forked::check(py)?;
        loop {
            match py.detach(|| self.exchange.next(LOOK)) {
                Found::Here(event) => return Ok(Some(event)),
                Found::Never => return self.outcome(py),
                Found::NotYet => self.listen(py)?,
            }
        }
    }

    /// Stops the run after its step, waits until it is saved, and returns the event of its end; `None` if that was
    /// given before.
    fn close(&self, py: Python<'_>) -> PyResult<Option<Told>> {
        if forked::is_fork() {
            // The run goes on in the process that it was begun in.
            return Ok(None);
        }
        self.exchange.close();
        loop {
            match py.detach(|| self.exchange.ended(LOOK)) {
                Found::Here(ended) => return self.end(py, ended),
                Found::Never => return self.outcome(py),
                // A second Ctrl-C does not wait for the step to end.
                Found::NotYet => py.check_signals()?,
            }
        }
    }
}

impl Run {
    /// Sees whether Ctrl-C was pressed: then the run is saved and stopped, and the interrupt raised.
    fn listen(&self, py: Python<'_>) -> PyResult<()> {
        py.check_signals().map_err(|interrupt| {
            match self.close(py) {
                Ok(_) => interrupt,
                // It was not saved, which matters more.
                Err(error) => error,
            }
        })
    }

    /// The event of the end, the first time.
    fn outcome(&self, py: Python<'_>) -> PyResult<Option<Told>> {
        match py.detach(|| self.exchange.ended(Duration::ZERO)) {
            Found::Here(ended) => self.end(py, ended),
            Found::Never | Found::NotYet => {
                self.join(py);
                Ok(None)
            }
        }
    }

    /// Why the run could not be opened.
    fn failure(&self, py: Python<'_>) -> PyErr {
        match self.outcome(py) {
            Err(error) => error,
            Ok(_) => pyo3::exceptions::PyRuntimeError::new_err("the run ended before it began"),
        }
    }

    fn end(&self, py: Python<'_>, ended: Result<Told, Error>) -> PyResult<Option<Told>> {
        self.join(py);
        ended
            .map(Some)
            .map_err(|error| exception(py, error, &self.flags, Exception::Error))
    }

    /// Waits for the thread, which is done; goes on with its panic if it had one.
    fn join(&self, py: Python<'_>) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = thread.take();
        let joined = py.detach(|| thread.map(JoinHandle::join));
        if let Some(Err(panic)) = joined {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Asks a run that nobody holds any more to stop; it is saved by its own thread.
impl Drop for Run {
    fn drop(&mut self) {
        if !forked::is_fork() {
            self.exchange.close();
        }
    }
}

/// What the thread does, which owns the session.
fn work(exchange: &Exchange, request: TrainRequest) {
    struct Leaving<'a>(&'a Exchange);
    impl Drop for Leaving<'_> {
        fn drop(&mut self) {
            self.0.leave();
        }
    }
    let _leaving = Leaving(exchange);
    let teller = Teller::new(exchange);
    let env = Environment::new(&teller);
    let trained = || {
        let session = Session::open(&env, request)?;
        exchange.tell(started(&session)?);
        exchange.open(());
        let outcome = session.train(&|| exchange.is_closed())?;
        Ok(finished(&outcome))
    };
    exchange.end(trained());
}
