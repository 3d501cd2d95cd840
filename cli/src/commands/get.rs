//! `get`: reads keys.

use std::ffi::OsString;

use clap::Args;
use keystead_client::{KeyRange, Order, Range, Sort, SortBy};

use crate::context::{Context, bytes, warn_of_surplus};
use crate::failure::{Exit, Failure, Result};
use crate::output::Form;
use crate::output::answer::Answer;

/// Reads a key, or a range of keys
#[derive(Args)]
#[command(after_help = "Example: keystead get users/ --prefix --limit 10")]
pub struct Get {
    /// The key, and the first one after the range
    #[arg(value_names = ["KEY", "RANGE_END"], num_args = 0..)]
    words: Vec<OsString>,
    /// Read as a quorum has it (l), or as the member that is asked (s)
    #[arg(long, value_name = "l|s", default_value = "l")]
    consistency: String,
    /// ASCEND or DESCEND
    #[arg(long, default_value = "", hide_default_value = true)]
    order: String,
    /// CREATE, KEY, MODIFY, VALUE or VERSION
    #[arg(
        long,
        value_name = "TARGET",
        default_value = "",
        hide_default_value = true
    )]
    sort_by: String,
    /// The most keys to read; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: i64,
    /// Read every key that begins so
    #[arg(long)]
    pub prefix: bool,
    /// Read every key from this one on
    #[arg(long)]
    from_key: bool,
    /// The revision to read at; 0 for the newest
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// Leave out the values
    #[arg(long)]
    pub keys_only: bool,
    /// Read the count alone, with -w fields
    #[arg(long)]
    count_only: bool,
    /// Print the values alone, in the simple form
    #[arg(long)]
    print_value_only: bool,
    /// Leave out keys created before this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    min_create_rev: i64,
    /// Leave out keys created after this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    max_create_rev: i64,
    /// Leave out keys written last before this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    min_mod_rev: i64,
    /// Leave out keys written last after this revision
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    max_mod_rev: i64,
}

impl Get {
    pub async fn run(self, mut context: Context) -> Result<()> {
        let result = context.client.range(self.range()?).await?;
        if self.count_only && context.printer.form != Form::Fields {
            return Err(Failure::arguments(
                "--count-only is only for `--write-out=fields`",
            ));
        }
        if self.print_value_only && context.printer.form != Form::Simple {
            return Err(Failure::arguments(
                "print-value-only is only for `--write-out=simple`",
            ));
        }
        context.printer.value_only = self.print_value_only;
        context.print(&Answer::Range(&result))
    }

    /// What to read.
    ///
    /// # Errors
    /// The arguments contradict each other.
    pub fn range(&self) -> Result<Range> {
        let Some(key) = self.words.first() else {
            return Err(Failure::arguments(
                "get command needs one argument as key and an optional argument as range_end",
            ));
        };
        if self.keys_only && self.count_only {
            return Err(Failure::arguments(
                "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
            ));
        }
        warn_of_surplus(&self.words, 2);
        let keys = key_range(key, self.words.get(1), self.prefix, self.from_key)?;
        check_bounds("CreateRev", self.min_create_rev, self.max_create_rev)?;
        check_bounds("ModRev", self.min_mod_rev, self.max_mod_rev)?;
        Ok(Range {
            keys,
            limit: self.limit,
            revision: self.rev.max(0),
            sort: self.sort()?,
            serializable: serializable(&self.consistency)?,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_rev.max(0),
            max_mod_revision: self.max_mod_rev.max(0),
            min_create_revision: self.min_create_rev.max(0),
            max_create_revision: self.max_create_rev.max(0),
        })
    }

    fn sort(&self) -> Result<Option<Sort>> {
        let order = match self.order.to_ascii_uppercase().as_str() {
            "" => None,
            "ASCEND" => Some(Order::Ascending),
            "DESCEND" => Some(Order::Descending),
            _ => {
                let sentence = format!("bad sort order {}", self.order);
                return Err(Failure::new(Exit::BadFeature, sentence));
            }
        };
        let by = match self.sort_by.to_ascii_uppercase().as_str() {
            "" | "KEY" => SortBy::Key,
            "CREATE" => SortBy::CreateRevision,
            "MODIFY" => SortBy::ModRevision,
            "VALUE" => SortBy::Value,
            "VERSION" => SortBy::Version,
            _ => {
                let sentence = format!("bad sort target {}", self.sort_by);
                return Err(Failure::new(Exit::BadFeature, sentence));
            }
        };
        // Servers answer in the order of the keys by themselves, and take any other target without an order for an ascending one.
        Ok(match (by, order) {
            (SortBy::Key, None) => None,
            (by, order) => Some(Sort {
                by,
                order: order.unwrap_or(Order::Ascending),
            }),
        })
    }
}

/// The keys that `get`, `del` and the like are about.
///
/// # Errors
/// The arguments contradict each other.
pub fn key_range(
    key: &OsString,
    end: Option<&OsString>,
    prefix: bool,
    from_key: bool,
) -> Result<KeyRange> {
    if prefix && from_key {
        return Err(Failure::arguments(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    let key = bytes(key);
    match end {
        Some(_) if prefix || from_key => Err(Failure::arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        )),
        Some(end) => Ok(KeyRange::between(key, bytes(end))),
        None if prefix => Ok(KeyRange::prefix(key)),
        None if from_key => Ok(KeyRange::from_key(key)),
        None => Ok(KeyRange::key(key)),
    }
}

/// Whether a read may be served by the member that is asked.
///
/// # Errors
/// The word is neither `l` nor `s`.
pub fn serializable(consistency: &str) -> Result<bool> {
    match consistency {
        "s" => Ok(true),
        "l" => Ok(false),
        other => {
            let sentence = format!("unknown consistency flag {other:?}");
            Err(Failure::new(Exit::BadFeature, sentence))
        }
    }
}

fn check_bounds(what: &str, least: i64, most: i64) -> Result<()> {
    if most > 0 && least > most {
        let sentence = format!("getMin{what}(={least}) > getMax{what}(={most})");
        return Err(Failure::new(Exit::BadFeature, sentence));
    }
    Ok(())
}
