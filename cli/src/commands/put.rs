//! `put`: writes one key.

use std::ffi::OsString;
use std::io::{Read, stdin};

use clap::Args;
use keystead_client::bytes::Bytes;
use keystead_client::{self as client};

use crate::context::{Context, bytes, lease_id, warn_of_surplus};
use crate::failure::{Failure, Result};
use crate::output::answer::Answer;

const USAGE: &str = "put command needs 1 argument and input from stdin or 2 arguments";

/// Writes a key; without a value, what stands on the standard input
#[derive(Args)]
#[command(
    after_help = "A value that begins with a dash stands behind `--`: keystead put greeting -- -hello\n\
                        Example: keystead put greeting hello --prev-kv"
)]
pub struct Put {
    /// The key and its value
    #[arg(value_names = ["KEY", "VALUE"], num_args = 0..)]
    words: Vec<OsString>,
    /// The lease to attach the key to, in hexadecimal
    #[arg(long, value_name = "LEASE", default_value = "0")]
    lease: String,
    /// Print the key as it was before
    #[arg(long)]
    prev_kv: bool,
    /// Keep the value that is there
    #[arg(long)]
    ignore_value: bool,
    /// Keep the lease that is there
    #[arg(long)]
    ignore_lease: bool,
}

impl Put {
    pub async fn run(self, context: Context) -> Result<()> {
        let put = self.put(read_value)?;
        let result = context.client.put_with(put).await?;
        context.print(&Answer::Put(&result))
    }

    /// What to write. `missing` gives the value where there is none.
    ///
    /// # Errors
    /// The arguments contradict each other, or there is no value.
    pub fn put(&self, missing: impl FnOnce() -> Result<Bytes>) -> Result<client::Put> {
        let Some(key) = self.words.first() else {
            return Err(Failure::arguments(USAGE));
        };
        if self.ignore_value && self.words.len() > 1 {
            return Err(Failure::arguments(
                "put command needs only 1 argument when 'ignore-value' is set",
            ));
        }
        warn_of_surplus(&self.words, 2);
        let value = match self.words.get(1) {
            _ if self.ignore_value => Bytes::new(),
            Some(value) => bytes(value),
            None => missing()?,
        };
        let lease = lease_id(&self.lease).map_err(|why| {
            Failure::arguments(format!("bad lease ID ({why}), expecting ID in Hex"))
        })?;
        Ok(client::Put {
            key: bytes(key),
            value,
            lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }
}

/// The whole standard input, which must not be empty.
fn read_value() -> Result<Bytes> {
    let mut value = Vec::new();
    match stdin().lock().read_to_end(&mut value) {
        Ok(1..) => Ok(value.into()),
        _ => no_value(),
    }
}

/// Where there is no input to read a value from.
pub fn no_value() -> Result<Bytes> {
    Err(Failure::arguments(USAGE))
}
