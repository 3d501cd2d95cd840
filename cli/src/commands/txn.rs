//! `txn`: one transaction, read from the standard input in etcdctl's grammar: compares, what is done where all of them hold, and what
//! is done otherwise, each list ended by an empty line.

use std::ffi::OsString;
use std::io::{BufRead, stdin};
use std::os::unix::ffi::OsStringExt;

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use keystead_client::{self as client, Compare, Op, Relation};

use crate::command_line::as_etcdctl_reads;
use crate::commands::del::Del;
use crate::commands::get::Get;
use crate::commands::put::{Put, no_value};
use crate::context::{Context, lease_id};
use crate::failure::{Exit, Failure, Result};
use crate::go_text::{unquote, words};
use crate::output::answer::Answer;

/// Runs a transaction that stands on the standard input
#[derive(Args)]
#[command(after_help = "\
The compares stand first, one a line, then an empty line; then what is done where all of them hold, and an empty line; then what is
done otherwise, and an empty line. Compared are version, create, mod, value and lease, with =, !=, < and >; done are put, get and del.

Example: keystead txn <<END
mod(\"greeting\") > \"0\"

put greeting hello --prev-kv

put greeting \"hello, world\"
get greeting

END")]
pub struct Txn {
    /// Ask for the parts
    #[arg(long, short)]
    interactive: bool,
    #[arg(hide = true, num_args = 0..)]
    words: Vec<OsString>,
}

impl Txn {
    pub async fn run(self, context: Context) -> Result<()> {
        if !self.words.is_empty() {
            return Err(Failure::arguments("txn command does not accept argument"));
        }
        let txn = self.read(&context, &mut stdin().lock()).await?;
        let result = context.client.txn(txn).await?;
        context.print(&Answer::Txn(&result))
    }

    async fn read(&self, context: &Context, input: &mut impl BufRead) -> Result<client::Txn> {
        let prompt = |words: &str| match self.interactive {
            true => context.printer.line(words),
            false => Ok(()),
        };
        prompt("compares:")?;
        let compares: Result<Vec<_>> = paragraph(input)?.iter().map(|line| compare(line)).collect();
        let compares = compares?;
        prompt("success requests (get, put, del):")?;
        let then = operations(&paragraph(input)?).await?;
        prompt("failure requests (get, put, del):")?;
        let otherwise = operations(&paragraph(input)?).await?;
        Ok(client::Txn::when(compares).then(then).otherwise(otherwise))
    }
}

fn invalid(sentence: impl Into<String>) -> Failure {
    Failure::new(Exit::InvalidInput, sentence)
}

/// The lines up to an empty one.
fn paragraph(input: &mut impl BufRead) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let read = input.read_line(&mut line);
        read.map_err(|error| invalid(error.to_string()))?;
        if !line.ends_with('\n') {
            return Err(invalid(
                "EOF: each of the three lists ends with an empty line",
            ));
        }
        match line.trim() {
            "" => return Ok(lines),
            line => lines.push(line.to_owned()),
        }
    }
}

/// Reads `mod("key") > "0"`.
fn compare(line: &str) -> Result<Compare> {
    let malformed = || invalid(format!("malformed comparison: {line}"));
    let (target, rest) = line.split_once('(').ok_or_else(malformed)?;
    let (key, rest) = unquote(rest.trim_start()).ok_or_else(malformed)?;
    let rest = rest.strip_prefix(')').ok_or_else(malformed)?.trim_start();
    let (relation, rest) = rest.split_once(char::is_whitespace).ok_or_else(malformed)?;
    let (value, _) = unquote(rest.trim_start()).ok_or_else(malformed)?;
    let relation = match relation {
        "=" => Relation::Equal,
        "!=" => Relation::NotEqual,
        ">" => Relation::Greater,
        "<" => Relation::Less,
        _ => return Err(malformed()),
    };
    let text = || String::from_utf8_lossy(&value);
    let unreadable = || invalid(format!("invalid txn compare request: {line}"));
    let number = || text().parse::<i64>().map_err(|_| unreadable());
    Ok(match target {
        "ver" | "version" => Compare::version(key, relation, number()?),
        "c" | "create" => Compare::create_revision(key, relation, number()?),
        "m" | "mod" => Compare::mod_revision(key, relation, number()?),
        "lease" => Compare::lease(key, relation, lease_id(&text()).map_err(|_| unreadable())?),
        "val" | "value" => Compare::value(key, relation, value),
        _ => {
            let sentence = format!("malformed comparison: {line} (unknown target {target})");
            return Err(invalid(sentence));
        }
    })
}

/// A line of what is done.
#[derive(Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
enum Operation {
    Put(Put),
    Get(Get),
    Del(Del),
}

async fn operations(lines: &[String]) -> Result<Vec<Op>> {
    let mut operations = Vec::with_capacity(lines.len());
    for line in lines {
        operations.push(operation(line).await?);
    }
    Ok(operations)
}

async fn operation(line: &str) -> Result<Op> {
    let words = words(line).ok_or_else(|| invalid("invalid quoted string"))?;
    if words.len() < 2 {
        return Err(invalid(format!("invalid txn compare request: {line}")));
    }
    let words = words.into_iter().map(OsString::from_vec);
    let read = as_etcdctl_reads(Operation::command()).try_get_matches_from(words);
    let read = read.and_then(|matches| Operation::from_arg_matches(&matches));
    match read.map_err(|_| invalid(format!("invalid txn request: {line}")))? {
        Operation::Put(put) => Ok(Op::Put(put.put(no_value)?)),
        Operation::Get(get) => Ok(Op::Range(get.range()?)),
        Operation::Del(del) => Ok(Op::Delete(del.delete().await?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_client::{Delete, KeyRange, Range};

    #[test]
    fn compares_are_read_as_etcdctl_reads_them() {
        for (line, expected) in [
            (
                r#"mod("key1") > "0""#,
                Compare::mod_revision("key1", Relation::Greater, 0),
            ),
            (
                r#"m( "a b" ) = "7""#,
                Compare::mod_revision("a b", Relation::Equal, 7),
            ),
            (
                r#"value("k") != "v\x00""#,
                Compare::value("k", Relation::NotEqual, "v\0"),
            ),
            (
                r#"ver(`k`) < "2" and what follows"#,
                Compare::version("k", Relation::Less, 2),
            ),
            (
                r#"create("k")  =  "-1""#,
                Compare::create_revision("k", Relation::Equal, -1),
            ),
            (
                r#"lease("k") = "ff""#,
                Compare::lease("k", Relation::Equal, 255),
            ),
        ] {
            // Go's scanner lets white space stand before a quoted word, and not behind it.
            let read = compare(&line.replace("\" )", "\")"));
            assert_eq!(read.expect("it is one"), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_compare_is_refused() {
        for line in [
            "mod",
            r#"mod("k")"#,
            r#"mod(k) > "0""#,
            r#"mod("k") > 0"#,
            r#"mod("k") >= "0""#,
            r#"mod("k")>"0""#,
            r#"mod("k") > "many""#,
            r#"size("k") > "0""#,
            r#"lease("k") = "xyz""#,
        ] {
            assert!(compare(line).is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn operations_are_commands_with_their_options() {
        let lines = [
            r#"put key1 "over write" --lease=1f"#,
            "get key --prefix",
            "del 'a b' --prev-kv",
        ];
        let read = operations(&lines.map(str::to_owned))
            .await
            .expect("they are some");
        let expected = [
            Op::Put(client::Put {
                lease: 31,
                ..client::Put::new("key1", "over write")
            }),
            Op::Range(Range::new(KeyRange::prefix("key"))),
            Op::Delete(Delete {
                prev_kv: true,
                ..Delete::new(KeyRange::key("a b"))
            }),
        ];
        assert_eq!(read, expected);
        for line in [
            "get",
            "put k",
            "move a b",
            "get k --no-such",
            "put k \"\\q\"",
        ] {
            assert!(operation(line).await.is_err(), "{line}");
        }
    }

    #[test]
    fn a_list_ends_with_an_empty_line() {
        let mut input = "one\n  two \n \nthree".as_bytes();
        assert_eq!(
            paragraph(&mut input).expect("it has an end"),
            ["one", "two"]
        );
        assert!(paragraph(&mut input).is_err());
    }
}
