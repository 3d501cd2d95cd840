//! `--feature-gates`: etcd's switches for what is new in it. Called when the configuration is built. Gates that would promise
//! what is not here are refused; of the others, those that change something here are told.

use crate::serve::given::{Given, Refusal};
use crate::serve::{flags, value};

/// The flag.
const FLAG: &str = "feature-gates";

/// Opens all gates of what etcd calls alpha, but for those that are named beside it.
const ALL_ALPHA: &str = "AllAlpha";

/// The gates of etcd 3.6 and 3.7 and the flag that says the same of one gate, in older releases.
const GATES: &[Gate] = &[
    gate(ALL_ALPHA, Opens::Nothing),
    gate("AllBeta", Opens::Nothing),
    Gate {
        older_flag: Some(flags::COMPACT_HASH_CHECK),
        ..gate(
            "CompactHashCheck",
            Opens::Alpha(|gates| &mut gates.compact_hash_check),
        )
    },
    gate("FastLeaseKeepAlive", Opens::Nothing),
    Gate {
        older_flag: Some(flags::INITIAL_CORRUPT_CHECK),
        ..gate(
            "InitialCorruptCheck",
            Opens::Alpha(|gates| &mut gates.initial_corrupt_check),
        )
    },
    Gate {
        older_flag: Some(flags::LEASE_CHECKPOINT),
        ..gate(
            "LeaseCheckpoint",
            Opens::Alpha(|gates| &mut gates.lease_checkpoint),
        )
    },
    Gate {
        older_flag: Some(flags::LEASE_CHECKPOINT_PERSIST),
        ..gate(
            "LeaseCheckpointPersist",
            Opens::Alpha(|gates| &mut gates.lease_checkpoint_persist),
        )
    },
    gate("PriorityRequest", Opens::Missing("priority among requests")),
    gate("SetMemberLocalAddr", Opens::Nothing),
    gate("StopGRPCServiceOnDefrag", Opens::Nothing),
    gate("TxnModeWriteWithSharedBuffer", Opens::Nothing),
];

struct Gate {
    name: &'static str,
    opens: Opens,
    older_flag: Option<&'static str>,
}

#[derive(Clone, Copy)]
enum Opens {
    /// Something that is always so here, or has no meaning here.
    Nothing,
    /// This, which is alpha in etcd.
    Alpha(fn(&mut Gates) -> &mut bool),
    /// What this version has not.
    Missing(&'static str),
}

const fn gate(name: &'static str, opens: Opens) -> Gate {
    Gate {
        name,
        opens,
        older_flag: None,
    }
}

/// The gates that change something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// A member compares its data with the others' before it takes part.
    pub initial_corrupt_check: bool,
    /// The leader compares the hashes that compactions leave.
    pub compact_hash_check: bool,
    /// The leader has the log know what long leases have left.
    pub lease_checkpoint: bool,
    /// What it knows outlives restarts. It does so always, as in etcd 3.6, which wants the other gate beside this one.
    lease_checkpoint_persist: bool,
}

/// What the flag says, and the older flags that say the same of one gate each.
///
/// # Errors
/// etcd's reasons, or what this version has not.
pub fn of(given: &Given) -> Result<Gates, Refusal> {
    let mut gates = given.read(FLAG, Gates::default(), read)?;
    let text = given.get(FLAG).unwrap_or_default();
    for Gate {
        name: gate,
        opens,
        older_flag,
    } in GATES
    {
        let (Opens::Alpha(field), Some(name)) = (opens, older_flag) else {
            continue;
        };
        if given.get(name).is_none() {
            continue;
        }
        let older = given.read(name, false, value::switch)?;
        let on = field(&mut gates);
        if text.contains(gate) {
            return Err(format!(
                "cannot specify both flags: --{name}={older} and --{FLAG}={gate}={on} at the same time, please just use \
                 --{FLAG}={gate}={on}"
            )
            .into());
        }
        *on = older;
    }
    if gates.lease_checkpoint_persist && !gates.lease_checkpoint {
        let sentence = "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint";
        return Err(sentence.to_owned().into());
    }
    Ok(gates)
}

/// Refuses gates that etcd does not know, and those that ask for what is not here.
fn read(text: &str) -> Result<Gates, String> {
    let mut named = Vec::new();
    for gate in text.split(',').filter(|gate| !gate.is_empty()) {
        let (name, on) = gate.split_once('=').unwrap_or((gate, ""));
        let (name, on) = (name.trim(), on.trim());
        if !gate.contains('=') {
            return Err(format!("missing bool value for {name}"));
        }
        let on = value::switch(on).map_err(|_| {
            format!("invalid value of {name}={on}, err: strconv.ParseBool: parsing {on:?}: invalid syntax")
        })?;
        let known = GATES.iter().find(|known| known.name == name);
        let known = known.ok_or_else(|| format!("unrecognized feature gate: {name}"))?;
        match known.opens {
            Opens::Missing(what) if on => return Err(format!("this version has no {what}")),
            opens => named.push((known.name, opens, on)),
        }
    }
    let mut gates = Gates::default();
    let all = named.iter().rfind(|(name, ..)| *name == ALL_ALPHA);
    if let Some((.., on)) = all {
        GATES
            .iter()
            .for_each(|gate| gate.opens.set(&mut gates, *on));
    }
    for (_, opens, on) in &named {
        opens.set(&mut gates, *on);
    }
    Ok(gates)
}

impl Opens {
    fn set(self, gates: &mut Gates, on: bool) {
        if let Opens::Alpha(field) = self {
            *field(gates) = on;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_known_by_name_and_none_that_promises_something_is_opened() {
        assert_eq!(read(""), Ok(Gates::default()));
        let opened = Gates {
            initial_corrupt_check: true,
            ..Gates::default()
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
            (
                "PriorityRequest=true",
                "this version has no priority among requests",
            ),
        ] {
            assert_eq!(read(text), Err(reason.to_owned()));
        }
    }

    #[test]
    fn all_alpha_opens_what_is_not_named_beside_it() {
        let all = Gates {
            initial_corrupt_check: true,
            compact_hash_check: true,
            lease_checkpoint: true,
            lease_checkpoint_persist: true,
        };
        assert_eq!(read("AllAlpha=true"), Ok(all));
        let but_one = Gates {
            compact_hash_check: false,
            ..all
        };
        for text in [
            "CompactHashCheck=false,AllAlpha=true",
            "AllAlpha=true,CompactHashCheck=false",
        ] {
            assert_eq!(read(text), Ok(but_one), "{text}");
        }
        assert_eq!(read("AllAlpha=true,AllAlpha=false"), Ok(Gates::default()));
    }
}
