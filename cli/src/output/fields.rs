//! The fields form: one line a field, with strings quoted. etcdctl has it for some answers only.

use std::io::{self, Write};

use keystead_client::{Access, Event, EventKind, Header, KeyValue, OpResult};

use super::answer::Answer;
use super::{Printer, Written, simple};
use crate::go_text::{duration, quote};

pub(super) fn write(
    out: &mut impl Write,
    printer: &Printer,
    answer: &Answer,
) -> io::Result<Written> {
    let hex = printer.hex;
    match answer {
        Answer::Put(put) => {
            header(out, hex, &put.header)?;
            pairs(out, hex, "Prev", put.prev_kv.as_slice())?;
        }
        Answer::Range(range) => {
            header(out, hex, &range.header)?;
            pairs(out, hex, "", &range.kvs)?;
            writeln!(out, "\"More\" : {}", range.more)?;
            writeln!(out, "\"Count\" : {}", range.count)?;
        }
        Answer::Delete(deleted) => {
            header(out, hex, &deleted.header)?;
            writeln!(out, "\"Deleted\" : {}", deleted.deleted)?;
            pairs(out, hex, "Prev", &deleted.prev_kvs)?;
        }
        Answer::Txn(txn) => {
            header(out, hex, &txn.header)?;
            writeln!(out, "\"Succeeded\" : {}", txn.succeeded)?;
            for result in &txn.results {
                match result {
                    OpResult::Range(range) => write(out, printer, &Answer::Range(range))?,
                    OpResult::Put(put) => write(out, printer, &Answer::Put(put))?,
                    OpResult::Delete(deleted) => write(out, printer, &Answer::Delete(deleted))?,
                    // etcdctl's grammar has no transaction within another.
                    OpResult::Txn(within) => write(out, printer, &Answer::Txn(within))?,
                };
            }
        }
        Answer::Watch(changes) => {
            header(out, hex, &changes.header)?;
            changes
                .events
                .iter()
                .try_for_each(|change| event(out, hex, change))?;
        }
        Answer::Granted(granted) => {
            header(out, hex, &granted.header)?;
            lease(out, hex, "ID", granted.lease)?;
            writeln!(out, "\"TTL\" : {}", granted.ttl.as_secs())?;
        }
        Answer::Revoked { header: of, .. } | Answer::Done { header: of, .. } => {
            header(out, hex, of)?
        }
        Answer::KeptAlive {
            lease: id,
            ttl,
            header: of,
        } => {
            header(out, hex, of)?;
            lease(out, hex, "ID", *id)?;
            writeln!(out, "\"TTL\" : {}", ttl.as_secs())?;
        }
        Answer::TimeToLive { lease: of, .. } => {
            header(out, hex, &of.header)?;
            lease(out, hex, "ID", of.lease)?;
            let ttl = of.remaining.map_or(-1, |ttl| ttl.as_secs() as i64);
            writeln!(out, "\"TTL\" : {ttl}")?;
            writeln!(out, "\"GrantedTTL\" : {}", of.granted.as_secs())?;
            for key in &of.keys {
                writeln!(out, "\"Key\" : {}", quote(key))?;
            }
        }
        Answer::Leases(leases) => {
            header(out, hex, &leases.header)?;
            for id in &leases.leases {
                lease(out, hex, "ID", *id)?;
            }
        }
        Answer::Members(members) => {
            header(out, hex, &members.header)?;
            for member in &members.members {
                id(out, hex, "ID", member.id)?;
                text(out, "Name", &member.name)?;
                for url in &member.peer_urls {
                    text(out, "PeerURL", url)?;
                }
                for url in &member.client_urls {
                    text(out, "ClientURL", url)?;
                }
                writeln!(out, "\"IsLearner\" : {}\n", member.is_learner)?;
            }
        }
        Answer::Health(endpoints) => {
            for endpoint in *endpoints {
                text(out, "Endpoint", &endpoint.endpoint)?;
                writeln!(out, "\"Health\" : {}", endpoint.error.is_none())?;
                writeln!(out, "\"Took\" : {}", duration(endpoint.took))?;
                let error = endpoint.error.as_deref().unwrap_or_default();
                writeln!(out, "\"Error\" : {error}\n")?;
            }
        }
        Answer::Statuses(statuses) => {
            for (endpoint, status) in *statuses {
                header(out, hex, &status.header)?;
                text(out, "Version", &status.version)?;
                text(out, "StorageVersion", &status.storage_version)?;
                writeln!(out, "\"DBSize\" : {}", status.db_size_bytes)?;
                writeln!(out, "\"DBSizeInUse\" : {}", status.db_size_in_use_bytes)?;
                writeln!(out, "\"DBSizeQuota\" : {}", status.db_size_quota_bytes)?;
                writeln!(out, "\"Leader\" : {}", status.leader)?;
                writeln!(out, "\"IsLearner\" : {}", status.is_learner)?;
                writeln!(out, "\"RaftIndex\" : {}", status.raft_index)?;
                writeln!(out, "\"RaftAppliedIndex\" : {}", status.raft_applied_index)?;
                writeln!(out, "\"Errors\" : [{}]", status.errors.join(" "))?;
                text(out, "Endpoint", endpoint)?;
                let downgrade = status.downgrade.clone().unwrap_or_default();
                text(out, "DowngradeTargetVersion", &downgrade.target_version)?;
                writeln!(out, "\"DowngradeEnabled\" : {}\n", downgrade.enabled)?;
            }
        }
        Answer::Hashes(hashes) => {
            for (endpoint, hash) in *hashes {
                header(out, hex, &hash.header)?;
                text(out, "Endpoint", endpoint)?;
                writeln!(out, "\"Hash\" : {}", hash.hash)?;
                writeln!(out, "\"HashRevision\" : {}\n", hash.revision)?;
            }
        }
        Answer::Alarms { header: of, alarms } => {
            if let Some(of) = of {
                header(out, hex, of)?;
            }
            for alarm in *alarms {
                id(out, hex, "MemberID", alarm.member_id)?;
                writeln!(out, "\"AlarmType\" : {}\n", simple::alarm_name(alarm.kind))?;
            }
        }
        Answer::Role { role, .. } => {
            header(out, hex, &role.header)?;
            for permission in &role.permissions {
                let access = match permission.access {
                    Access::Write => "WRITE",
                    Access::ReadWrite => "READWRITE",
                    _ => "READ",
                };
                writeln!(out, "\"PermType\" :  {access}")?;
                writeln!(out, "\"Key\" : {}", quote(&permission.keys.key))?;
                writeln!(out, "\"RangeEnd\" : {}", quote(&permission.keys.end))?;
            }
        }
        Answer::Roles(roles) => {
            header(out, hex, &roles.header)?;
            let names = roles.roles.iter();
            let names: String = names
                .map(|name| format!(" {}", quote(name.as_bytes())))
                .collect();
            writeln!(out, "\"Roles\" :{names}")?;
        }
        Answer::AuthStatus(_)
        | Answer::User { .. }
        | Answer::Users(_)
        | Answer::MemberAdded { .. }
        | Answer::MemberChanged { .. }
        | Answer::LeaderMoved { .. } => {
            return Ok(Written::Unsupported);
        }
    }
    Ok(Written::Yes)
}

fn header(out: &mut impl Write, hex: bool, header: &Header) -> io::Result<()> {
    id(out, hex, "ClusterID", header.cluster_id)?;
    id(out, hex, "MemberID", header.member_id)?;
    if header.revision > 0 {
        writeln!(out, "\"Revision\" : {}", header.revision)?;
    }
    writeln!(out, "\"RaftTerm\" : {}", header.raft_term)
}

fn id(out: &mut impl Write, hex: bool, name: &str, id: u64) -> io::Result<()> {
    match hex {
        true => writeln!(out, "\"{name}\" : {id:x}"),
        false => writeln!(out, "\"{name}\" : {id}"),
    }
}

fn lease(out: &mut impl Write, hex: bool, name: &str, lease: i64) -> io::Result<()> {
    match hex {
        true => writeln!(out, "\"{name}\" : {lease:016x}"),
        false => writeln!(out, "\"{name}\" : {lease}"),
    }
}

fn text(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "\"{name}\" : {}", quote(text.as_bytes()))
}

fn pairs(out: &mut impl Write, hex: bool, prefix: &str, kvs: &[KeyValue]) -> io::Result<()> {
    for kv in kvs {
        writeln!(out, "\"{prefix}Key\" : {}", quote(&kv.key))?;
        writeln!(out, "\"{prefix}CreateRevision\" : {}", kv.create_revision)?;
        writeln!(out, "\"{prefix}ModRevision\" : {}", kv.mod_revision)?;
        writeln!(out, "\"{prefix}Version\" : {}", kv.version)?;
        writeln!(out, "\"{prefix}Value\" : {}", quote(&kv.value))?;
        lease(out, hex, &format!("{prefix}Lease"), kv.lease)?;
    }
    Ok(())
}

fn event(out: &mut impl Write, hex: bool, event: &Event) -> io::Result<()> {
    let kind = match event.kind {
        EventKind::Put => "PUT",
        EventKind::Delete => "DELETE",
    };
    writeln!(out, "\"Type\" : {kind}")?;
    pairs(out, hex, "Prev", event.prev_kv.as_slice())?;
    pairs(out, hex, "", std::slice::from_ref(&event.kv))
}
