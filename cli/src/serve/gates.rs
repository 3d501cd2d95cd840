//! `--feature-gates`: etcd's switches for what is new in it. Called when the configuration is built. None of them changes anything
//! here, and those that would promise something are refused.

use crate::serve::flags::CHECKPOINTS;
use crate::serve::value;

/// The gates of etcd 3.6 and 3.7, and what is missing here to turn one on.
const GATES: &[(&str, Option<&str>)] = &[
    ("AllAlpha", Some(CHECKPOINTS)),
    ("AllBeta", None),
    ("CompactHashCheck", None),
    ("FastLeaseKeepAlive", None),
    ("InitialCorruptCheck", None),
    ("LeaseCheckpoint", Some(CHECKPOINTS)),
    ("LeaseCheckpointPersist", Some(CHECKPOINTS)),
    ("PriorityRequest", Some("priority among requests")),
    ("SetMemberLocalAddr", None),
    ("StopGRPCServiceOnDefrag", None),
    ("TxnModeWriteWithSharedBuffer", None),
];

/// Refuses gates that etcd does not know, and those that ask for what is not here.
///
/// # Errors
/// etcd's reason, or what this version has not.
pub fn check(text: &str) -> Result<(), String> {
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
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_known_by_name_and_none_that_promises_something_is_opened() {
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("InitialCorruptCheck=true,LeaseCheckpoint=0"), Ok(()));
        for (text, reason) in [
            ("Nope=true", "unrecognized feature gate: Nope"),
            ("AllBeta", "missing bool value for AllBeta"),
            (
                "AllBeta=on",
                "invalid value of AllBeta=on, err: strconv.ParseBool: parsing \"on\": invalid syntax",
            ),
        ] {
            assert_eq!(check(text), Err(reason.to_owned()));
        }
        assert!(check("LeaseCheckpoint=true").is_err());
    }
}
