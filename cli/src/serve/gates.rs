//! `--feature-gates`: etcd's switches for what is new in it. Called when the configuration is built. Gates that would promise
//! what is not here are refused; of the others, those that change something here are told.

use crate::serve::flags::CHECKPOINTS;
use crate::serve::given::{Given, Refusal};
use crate::serve::{flags, value};

/// The flag.
const FLAG: &str = "feature-gates";

/// The gates of etcd 3.6 and 3.7, and what is missing here to turn one on.
const GATES: &[(&str, Option<&str>)] = &[
    ("AllAlpha", Some(CHECKPOINTS)),
    ("AllBeta", None),
    (COMPACT_HASH_CHECK, None),
    ("FastLeaseKeepAlive", None),
    (INITIAL_CORRUPT_CHECK, None),
    ("LeaseCheckpoint", Some(CHECKPOINTS)),
    ("LeaseCheckpointPersist", Some(CHECKPOINTS)),
    ("PriorityRequest", Some("priority among requests")),
    ("SetMemberLocalAddr", None),
    ("StopGRPCServiceOnDefrag", None),
    ("TxnModeWriteWithSharedBuffer", None),
];
const COMPACT_HASH_CHECK: &str = "CompactHashCheck";
const INITIAL_CORRUPT_CHECK: &str = "InitialCorruptCheck";

/// The gates that change something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// A member compares its data with the others' before it takes part.
    pub initial_corrupt_check: bool,
    /// The leader compares the hashes that compactions leave.
    pub compact_hash_check: bool,
}

/// What the flag says, and the older flags that say the same of one gate each.
///
/// # Errors
/// etcd's reasons, or what this version has not.
pub fn of(given: &Given) -> Result<Gates, Refusal> {
    let mut gates = given.read(FLAG, Gates::default(), read)?;
    let text = given.get(FLAG).unwrap_or_default();
    for (name, gate, on) in [
        (
            flags::INITIAL_CORRUPT_CHECK,
            INITIAL_CORRUPT_CHECK,
            &mut gates.initial_corrupt_check,
        ),
        (
            flags::COMPACT_HASH_CHECK,
            COMPACT_HASH_CHECK,
            &mut gates.compact_hash_check,
        ),
    ] {
        if given.get(name).is_none() {
            continue;
        }
        let older = given.read(name, false, value::switch)?;
        if text.contains(gate) {
            return Err(format!(
                "cannot specify both flags: --{name}={older} and --{FLAG}={gate}={on} at the same time, please just use \
                 --{FLAG}={gate}={on}"
            )
            .into());
        }
        *on = older;
    }
    Ok(gates)
}

/// Refuses gates that etcd does not know, and those that ask for what is not here.
fn read(text: &str) -> Result<Gates, String> {
    let mut gates = Gates::default();
    for gate in text.split(',').filter(|gate| !gate.is_empty()) {
        let (name, on) = gate.split_once('=').unwrap_or((gate, ""));
        let (name, on) = (name.trim(), on.trim());
        if !gate.contains('=') {
            return Err(format!("missing bool value for {name}"));
        }
        let on = value::switch(on).map_err(|_| {
            format!("invalid value of {name}={on}, err: strconv.ParseBool: parsing {on:?}: invalid syntax")
        })?;
        match GATES.iter().find(|(known, _)| *known == name) {
            None => return Err(format!("unrecognized feature gate: {name}")),
            Some((_, Some(what))) if on => return Err(format!("this version has no {what}")),
            Some((COMPACT_HASH_CHECK, _)) => gates.compact_hash_check = on,
            Some((INITIAL_CORRUPT_CHECK, _)) => gates.initial_corrupt_check = on,
            Some(_) => {}
        }
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_known_by_name_and_none_that_promises_something_is_opened() {
        assert_eq!(read(""), Ok(Gates::default()));
        let opened = Gates {
            initial_corrupt_check: true,
            compact_hash_check: false,
        };
        assert_eq!(
            read("InitialCorruptCheck=true,LeaseCheckpoint=0,CompactHashCheck=f"),
            Ok(opened)
        );
        for (text, reason) in [
            ("Nope=true", "unrecognized feature gate: Nope"),
            ("AllBeta", "missing bool value for AllBeta"),
            (
                "AllBeta=on",
                "invalid value of AllBeta=on, err: strconv.ParseBool: parsing \"on\": invalid syntax",
            ),
        ] {
            assert_eq!(read(text), Err(reason.to_owned()));
        }
        assert!(read("LeaseCheckpoint=true").is_err());
    }
}
