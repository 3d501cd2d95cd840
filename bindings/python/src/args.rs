//! What people pass: each type takes what can be meant, and refuses the rest with a TypeError or a ValueError before anything is sent.

use std::num::NonZeroU32;
use std::time::Duration;

use keystead_facade::{Bytes, Expected, KeyRange};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDelta, PyDeltaAccess, PyFloat, PyInt, PyString};

/// More threads than any machine has cores would only wait for each other.
const MOST_THREADS: usize = 1024;

/// A key, a value or a name: `str` stands for its UTF-8.
#[derive(Clone)]
pub(crate) struct Data(pub(crate) Bytes);

impl<'a, 'py> FromPyObject<'a, 'py> for Data {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Data> {
        if let Ok(text) = given.cast::<PyString>() {
            return Ok(Data(Bytes::copy_from_slice(text.to_str()?.as_bytes())));
        }
        if let Ok(bytes) = given.cast::<PyBytes>() {
            return Ok(Data(Bytes::copy_from_slice(bytes.as_bytes())));
        }
        if let Ok(bytes) = given.cast::<PyByteArray>() {
            return Ok(Data(bytes.to_vec().into()));
        }
        Err(wrong_type("str or bytes", given))
    }
}

/// A length of time: seconds as a number, a `timedelta`, or a text such as `"10s"`, `"1.5s"`, `"500ms"` or `"1h30m"`.
#[derive(Clone, Copy)]
pub(crate) struct Length(pub(crate) Duration);

impl<'a, 'py> FromPyObject<'a, 'py> for Length {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Length> {
        let seconds = if let Ok(text) = given.cast::<PyString>() {
            return parse_length(text.to_str()?).map(Length);
        } else if let Ok(delta) = given.cast::<PyDelta>() {
            f64::from(delta.get_days()) * 86_400.0
                + f64::from(delta.get_seconds())
                + f64::from(delta.get_microseconds()) / 1e6
        } else if is_number(given) {
            given.extract::<f64>().map_err(|_| out_of_range(given))?
        } else {
            return Err(wrong_type(
                "a number of seconds, a timedelta or a text such as '10s'",
                given,
            ));
        };
        Duration::try_from_secs_f64(seconds)
            .map(Length)
            .map_err(|_| PyValueError::new_err(format!("{seconds} s is no length of time")))
    }
}

fn parse_length(text: &str) -> PyResult<Duration> {
    let refused = || {
        let message = format!("{text:?} is no length of time; try '10s', '500ms' or '1h30m'");
        PyValueError::new_err(message)
    };
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(refused());
    }
    while !rest.is_empty() {
        let number = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(refused)?;
        let (amount, behind) = rest.split_at(number);
        let unit = behind
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let scale = match unit.trim() {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(refused()),
        };
        seconds += amount.parse::<f64>().map_err(|_| refused())? * scale;
        rest = behind;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| refused())
}

/// How long a lease lasts: at least a second, which is what servers count in.
#[derive(Clone, Copy)]
pub(crate) struct Ttl(pub(crate) Duration);

impl<'a, 'py> FromPyObject<'a, 'py> for Ttl {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Ttl> {
        let Length(ttl) = given.extract()?;
        if ttl < Duration::from_secs(1) {
            return Err(PyValueError::new_err("a TTL is a second or more"));
        }
        Ok(Ttl(ttl))
    }
}

/// A revision, a version, a limit: not below zero.
#[derive(Clone, Copy)]
pub(crate) struct Natural(pub(crate) i64);

impl<'a, 'py> FromPyObject<'a, 'py> for Natural {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Natural> {
        let Whole(number) = given.extract()?;
        if number < 0 {
            return Err(PyValueError::new_err(format!("{number} is below zero")));
        }
        Ok(Natural(number))
    }
}

/// A whole number that fits into 64 bits.
#[derive(Clone, Copy)]
pub(crate) struct Whole(pub(crate) i64);

impl<'a, 'py> FromPyObject<'a, 'py> for Whole {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Whole> {
        if !given.is_instance_of::<PyInt>() || given.is_instance_of::<PyBool>() {
            return Err(wrong_type("an int", given));
        }
        given.extract().map(Whole).map_err(|_| out_of_range(given))
    }
}

/// A member's id.
#[derive(Clone, Copy)]
pub(crate) struct MemberId(pub(crate) u64);

impl<'a, 'py> FromPyObject<'a, 'py> for MemberId {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<MemberId> {
        if !given.is_instance_of::<PyInt>() || given.is_instance_of::<PyBool>() {
            return Err(wrong_type("a member's id, which is an int", given));
        }
        given
            .extract()
            .map(MemberId)
            .map_err(|_| out_of_range(given))
    }
}

/// How many permits a semaphore has.
#[derive(Clone, Copy)]
pub(crate) struct Permits(pub(crate) NonZeroU32);

impl<'a, 'py> FromPyObject<'a, 'py> for Permits {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Permits> {
        let Whole(permits) = given.extract()?;
        let permits = u32::try_from(permits).ok().and_then(NonZeroU32::new);
        permits
            .map(Permits)
            .ok_or_else(|| PyValueError::new_err("a semaphore has one permit or more"))
    }
}

/// How many I/O threads there are.
#[derive(Clone, Copy)]
pub(crate) struct Threads(pub(crate) usize);

impl<'a, 'py> FromPyObject<'a, 'py> for Threads {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<Threads> {
        let Whole(threads) = given.extract()?;
        match usize::try_from(threads) {
            Ok(threads @ 1..=MOST_THREADS) => Ok(Threads(threads)),
            _ => Err(PyValueError::new_err(format!(
                "there are 1 to {MOST_THREADS} I/O threads"
            ))),
        }
    }
}

/// A lease: its id, or what has one (a lease, a session, a guard).
#[derive(Clone, Copy)]
pub(crate) struct LeaseId(pub(crate) i64);

impl<'a, 'py> FromPyObject<'a, 'py> for LeaseId {
    type Error = PyErr;

    fn extract(given: Borrowed<'a, 'py, PyAny>) -> PyResult<LeaseId> {
        if given.is_instance_of::<PyInt>() {
            return given.extract::<Natural>().map(|id| LeaseId(id.0));
        }
        match given.getattr_opt("lease")? {
            Some(lease) => lease.extract::<Natural>().map(|id| LeaseId(id.0)),
            None => Err(wrong_type("a lease, a session or a lease's id", given)),
        }
    }
}

/// Which keys a call is about: exactly one way to say it.
pub(crate) fn keys(
    key: Option<Data>,
    end: Option<Data>,
    prefix: Option<Data>,
    from_key: Option<Data>,
) -> PyResult<KeyRange> {
    match (key, end, prefix, from_key) {
        (Some(Data(key)), None, None, None) if key.is_empty() => {
            Err(PyValueError::new_err("a key is never empty"))
        }
        (Some(Data(key)), None, None, None) => Ok(KeyRange::key(key)),
        (Some(Data(key)), Some(Data(end)), None, None) => {
            if end <= key {
                return Err(PyValueError::new_err("nothing lies between key and end"));
            }
            Ok(KeyRange::between(key, end))
        }
        (None, None, Some(Data(prefix)), None) => Ok(KeyRange::prefix(prefix)),
        (None, None, None, Some(Data(first))) => Ok(KeyRange::from_key(first)),
        _ => Err(PyTypeError::new_err(
            "name the keys in one way: key, key and end, prefix (an empty one for every key) or from_key",
        )),
    }
}

/// One key, which is never empty.
pub(crate) fn one_key(key: Data) -> PyResult<Bytes> {
    keys(Some(key), None, None, None).map(|keys| keys.key)
}

/// How a key must be for a write, if that was said, in one way.
pub(crate) fn expected(
    if_mod_revision: Option<Natural>,
    if_value: Option<Data>,
    if_missing: bool,
    if_present: bool,
) -> PyResult<Option<Expected>> {
    let said = [
        if_mod_revision.map(|Natural(revision)| Expected::ModRevision(revision)),
        if_value.map(|Data(value)| Expected::Value(value)),
        if_missing.then_some(Expected::Missing),
        if_present.then_some(Expected::Present),
    ];
    let mut said = said.into_iter().flatten();
    let first = said.next();
    if said.next().is_some() {
        return Err(PyTypeError::new_err(
            "a write has one condition; a transaction has many",
        ));
    }
    Ok(first)
}

fn is_number(given: Borrowed<'_, '_, PyAny>) -> bool {
    let whole = given.is_instance_of::<PyInt>() && !given.is_instance_of::<PyBool>();
    whole || given.is_instance_of::<PyFloat>()
}

pub(crate) fn wrong_type(wanted: &str, given: Borrowed<'_, '_, PyAny>) -> PyErr {
    let name = given.get_type().qualname();
    let name = name.map_or_else(|_| "this".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("expected {wanted}, not {name}"))
}

fn out_of_range(given: Borrowed<'_, '_, PyAny>) -> PyErr {
    let text = given
        .str()
        .map_or_else(|_| "the number".to_owned(), |text| text.to_string());
    PyValueError::new_err(format!("{text} is out of range"))
}

/// A count that need not fit: too large a one is a mistake in the value and not in arithmetic.
pub(crate) fn count(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    let Natural(count) = given.as_borrowed().extract()?;
    usize::try_from(count).map_err(|_| PyOverflowError::new_err("too large"))
}

/// How many things a batch may have: none would be no batch.
pub(crate) fn most(given: &Bound<'_, PyAny>) -> PyResult<usize> {
    match count(given)? {
        0 => Err(PyValueError::new_err(
            "a batch has room for one thing or more",
        )),
        most => Ok(most),
    }
}
