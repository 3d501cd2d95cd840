//! The simple form: etcdctl's lines; at a terminal with colours, and with what is about members in tables.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use keystead_client::{
    Access, AddedMember, Alarm, AlarmKind, EventKind, KeyRange, KeyValue, OpResult, Role,
    TimeToLive, TxnResult,
};

use super::answer::{Answer, Changes, Health};
use super::{Printer, Written, member_tables, table};
use crate::go_text::{duration, hex, quote};

const KEY: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

pub(super) fn write(
    out: &mut impl Write,
    printer: &Printer,
    answer: &Answer,
) -> io::Result<Written> {
    match answer {
        Answer::Put(put) => {
            told(out, printer, GOOD, "OK")?;
            pairs(out, printer, put.prev_kv.as_slice())?;
        }
        Answer::Range(range) => pairs(out, printer, &range.kvs)?,
        Answer::Delete(deleted) => {
            writeln!(out, "{}", deleted.deleted)?;
            pairs(out, printer, &deleted.prev_kvs)?;
        }
        Answer::Txn(done) => txn(out, printer, done)?,
        Answer::Watch(changes) => watch(out, printer, changes)?,
        Answer::Granted(granted) => writeln!(
            out,
            "lease {:016x} granted with TTL({}s)",
            granted.lease,
            granted.ttl.as_secs()
        )?,
        Answer::Revoked { lease, .. } => writeln!(out, "lease {lease:016x} revoked")?,
        Answer::KeptAlive { lease, ttl, .. } => writeln!(
            out,
            "lease {lease:016x} keepalived with TTL({})",
            ttl.as_secs()
        )?,
        Answer::TimeToLive { lease, keys } => time_to_live(out, lease, *keys)?,
        Answer::Leases(leases) => {
            writeln!(out, "found {} leases", leases.leases.len())?;
            for lease in &leases.leases {
                writeln!(out, "{lease:016x}")?;
            }
        }
        Answer::MemberAdded {
            added,
            name,
            peer_urls,
        } => member_added(out, added, name, peer_urls)?,
        Answer::MemberChanged { id, done, members } => writeln!(
            out,
            "Member {id:16x} {done} cluster {:16x}",
            members.header.cluster_id
        )?,
        Answer::Health(endpoints) => health(out, printer, endpoints)?,
        Answer::Members(_) | Answer::Statuses(_) | Answer::Hashes(_) if printer.for_people() => {
            return table::write(out, printer, answer);
        }
        Answer::Members(members) => lines(out, &member_tables::members(members))?,
        Answer::Statuses(statuses) => lines(out, &member_tables::statuses(statuses))?,
        Answer::Hashes(hashes) => lines(out, &member_tables::hashes(hashes))?,
        Answer::LeaderMoved { from, to, .. } => {
            writeln!(out, "Leadership transferred from {from:x} to {to:x}")?
        }
        Answer::AuthStatus(status) => {
            writeln!(out, "Authentication Status: {}", status.enabled)?;
            writeln!(out, "AuthRevision: {}", status.auth_revision)?;
        }
        Answer::User { name, user } => {
            let roles: String = user.roles.iter().map(|role| format!(" {role}")).collect();
            writeln!(out, "User: {name}\nRoles:{roles}")?;
        }
        Answer::Users(users) => names(out, &users.users)?,
        Answer::Role { name, role: found } => role(out, name, found)?,
        Answer::Roles(roles) => names(out, &roles.roles)?,
        Answer::Done { said, .. } => writeln!(out, "{said}")?,
        Answer::Alarms { alarms, .. } => {
            for alarm in *alarms {
                writeln!(out, "{}", alarm_text(alarm))?;
            }
        }
    }
    Ok(Written::Yes)
}

fn told(out: &mut impl Write, printer: &Printer, style: Style, text: &str) -> io::Result<()> {
    let style = printer.style(style);
    writeln!(out, "{style}{text}{style:#}")
}

fn pairs(out: &mut impl Write, printer: &Printer, kvs: &[KeyValue]) -> io::Result<()> {
    let style = printer.style(KEY);
    for kv in kvs {
        if !printer.value_only {
            write!(out, "{style}")?;
            bytes(out, printer, &kv.key)?;
            writeln!(out, "{style:#}")?;
        }
        bytes(out, printer, &kv.value)?;
        writeln!(out)?;
    }
    Ok(())
}

fn bytes(out: &mut impl Write, printer: &Printer, bytes: &[u8]) -> io::Result<()> {
    if printer.hex {
        out.write_all(hex(bytes).as_bytes())
    } else {
        out.write_all(bytes)
    }
}

fn txn(out: &mut impl Write, printer: &Printer, done: &TxnResult) -> io::Result<()> {
    match done.succeeded {
        true => told(out, printer, GOOD, "SUCCESS")?,
        false => told(out, printer, BAD, "FAILURE")?,
    }
    for result in &done.results {
        writeln!(out)?;
        match result {
            OpResult::Range(range) => write(out, printer, &Answer::Range(range))?,
            OpResult::Put(put) => write(out, printer, &Answer::Put(put))?,
            OpResult::Delete(deleted) => write(out, printer, &Answer::Delete(deleted))?,
            // etcdctl's grammar has no transaction within another.
            OpResult::Txn(within) => write(out, printer, &Answer::Txn(within))?,
        };
    }
    Ok(())
}

fn watch(out: &mut impl Write, printer: &Printer, changes: &Changes) -> io::Result<()> {
    for event in &changes.events {
        match event.kind {
            EventKind::Put => told(out, printer, GOOD, "PUT")?,
            EventKind::Delete => told(out, printer, BAD, "DELETE")?,
        }
        pairs(out, printer, event.prev_kv.as_slice())?;
        pairs(out, printer, std::slice::from_ref(&event.kv))?;
    }
    Ok(())
}

fn time_to_live(out: &mut impl Write, lease: &TimeToLive, keys: bool) -> io::Result<()> {
    let Some(remaining) = lease.remaining else {
        return writeln!(out, "lease {:016x} already expired", lease.lease);
    };
    write!(
        out,
        "lease {:016x} granted with TTL({}s), remaining({}s)",
        lease.lease,
        lease.granted.as_secs(),
        remaining.as_secs()
    )?;
    if keys {
        write!(out, ", attached keys([")?;
        out.write_all(&lease.keys.join(&b' '))?;
        write!(out, "])")?;
    }
    writeln!(out)
}

/// What happened, and what the new member is to be started with.
fn member_added(
    out: &mut impl Write,
    added: &AddedMember,
    name: &str,
    peer_urls: &str,
) -> io::Result<()> {
    let id = added.member.id;
    let learner = if added.member.is_learner {
        " as learner "
    } else {
        " "
    };
    writeln!(
        out,
        "Member {id:16x} added{learner}to cluster {:16x}\n",
        added.header.cluster_id
    )?;
    let named = added.members.iter().flat_map(|member| {
        let name = if member.id == id { name } else { &member.name };
        member
            .peer_urls
            .iter()
            .map(move |url| format!("{name}={url}"))
    });
    let cluster = named.collect::<Vec<_>>().join(",");
    writeln!(out, "ETCD_NAME={}", quote(name.as_bytes()))?;
    writeln!(out, "ETCD_INITIAL_CLUSTER={}", quote(cluster.as_bytes()))?;
    let peer_urls = quote(peer_urls.as_bytes());
    writeln!(out, "ETCD_INITIAL_ADVERTISE_PEER_URLS={peer_urls}")?;
    writeln!(out, "ETCD_INITIAL_CLUSTER_STATE=\"existing\"")
}

fn health(out: &mut impl Write, printer: &Printer, endpoints: &[Health]) -> io::Result<()> {
    for Health {
        endpoint,
        took,
        error,
    } in endpoints
    {
        match error {
            None => {
                let style = printer.style(GOOD);
                let took = duration(*took);
                writeln!(
                    out,
                    "{endpoint} is {style}healthy{style:#}: successfully committed proposal: took = {took}"
                )?;
            }
            Some(error) => anstream::eprintln!(
                "{endpoint} is {BAD}unhealthy{BAD:#}: failed to commit proposal: {error}"
            ),
        }
    }
    Ok(())
}

fn names(out: &mut impl Write, names: &[String]) -> io::Result<()> {
    names.iter().try_for_each(|name| writeln!(out, "{name}"))
}

/// The keys that a role may read, and those that it may write. The role `root` needs no permission.
fn role(out: &mut impl Write, name: &str, role: &Role) -> io::Result<()> {
    writeln!(out, "Role {name}")?;
    let everything = name == "root" && role.permissions.is_empty();
    for (title, other) in [("KV Read:", Access::Write), ("KV Write:", Access::Read)] {
        writeln!(out, "{title}")?;
        if everything {
            writeln!(out, "\t[, <open ended>")?;
        }
        for permission in role.permissions.iter().filter(|it| it.access != other) {
            out.write_all(b"\t")?;
            keys(out, &permission.keys)?;
        }
    }
    Ok(())
}

fn keys(out: &mut impl Write, keys: &KeyRange) -> io::Result<()> {
    let KeyRange { key, end } = keys;
    if keys.is_single() {
        return out.write_all(&[key, &b"\n"[..]].concat());
    }
    let range = match &end[..] {
        [0] => [b"[", &key[..], b", <open ended>"].concat(),
        end => [b"[", &key[..], b", ", end, b")"].concat(),
    };
    out.write_all(&range)?;
    if !key.is_empty() && *keys == KeyRange::prefix(key.clone()) {
        out.write_all(&[b" (prefix ", &key[..], b")"].concat())?;
    }
    writeln!(out)
}

fn lines(out: &mut impl Write, table: &member_tables::Table) -> io::Result<()> {
    for row in &table.rows {
        writeln!(out, "{}", row.join(", "))?;
    }
    Ok(())
}

/// An alarm as Go prints the message.
fn alarm_text(alarm: &Alarm) -> String {
    format!(
        "memberID:{} alarm:{} ",
        alarm.member_id,
        alarm_name(alarm.kind)
    )
}

/// etcd's name.
pub(super) fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
        _ => "UNKNOWN",
    }
}
