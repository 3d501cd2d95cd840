//! The asyncio side: the calls of one event loop. They end on the loop's own thread, many at a wake, which comes by a descriptor.

use std::collections::HashMap;
use std::sync::Arc;

use keystead_facade::locks::Mutex;
use keystead_facade::{Completion, Completions, Op};
use pyo3::intern;
use pyo3::prelude::*;

use crate::answer::to_python;
use crate::call::Call;
use crate::errors::to_exception;

/// The calls under way of one event loop.
#[pyclass(frozen, module = "keystead._native")]
pub(crate) struct Loop {
    completions: Arc<Completions>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// No token is given twice: the end of a call that was given up may still come.
    next_token: u64,
    futures: HashMap<u64, (Py<PyAny>, Op)>,
}

#[pymethods]
impl Loop {
    #[new]
    fn new() -> PyResult<Loop> {
        Ok(Loop {
            completions: Arc::new(Completions::new()?),
            waiting: Mutex::default(),
        })
    }

    /// The descriptor that is readable while there is something to drain.
    fn fileno(&self) -> i32 {
        self.completions.descriptor()
    }

    /// Runs a call, whose end `future` is told of. Gives a token to cancel it by.
    fn submit(&self, py: Python<'_>, call: &Call, future: Py<PyAny>) -> PyResult<u64> {
        let call = call.take()?;
        let mut waiting = self.waiting.lock();
        let token = waiting.next_token;
        waiting.next_token += 1;
        let op = call.submit(&self.completions, token);
        let op = op.map_err(|error| to_exception(py, error))?;
        waiting.futures.insert(token, (future, op));
        Ok(token)
    }

    /// Gives a call up.
    fn cancel(&self, token: u64) {
        let given_up = self.waiting.lock().futures.remove(&token);
        if let Some((_, op)) = given_up {
            op.cancel();
        }
    }

    /// Tells the futures of all calls that have ended. Called by the loop when the descriptor is readable.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        for Completion { token, result } in self.completions.take() {
            let waiting = self.waiting.lock().futures.remove(&token);
            let Some((future, _)) = waiting else { continue };
            let future = future.into_bound(py);
            if future.call_method0(intern!(py, "done"))?.is_truthy()? {
                continue;
            }
            match result
                .map_err(|error| to_exception(py, error))
                .and_then(|it| to_python(py, it))
            {
                Ok(answer) => future.call_method1(intern!(py, "set_result"), (answer,))?,
                Err(error) => future.call_method1(intern!(py, "set_exception"), (error,))?,
            };
        }
        Ok(())
    }
}
