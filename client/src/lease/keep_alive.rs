//! Keep alive, once: for who counts the time by himself. A session does it for as long as it lives.

use std::time::Duration;

use keystead_proto::etcdserverpb::LeaseKeepAliveRequest;
use tokio::time::timeout;
use tonic::Code;

use crate::channel::{RENEWALS, rpc};
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::header::Header;
use crate::lease::ttl;

/// The answer to a renewal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptAlive {
    /// Who answered.
    pub header: Header,
    /// How long the lease lives from then on without being kept alive.
    pub ttl: Duration,
}

impl Client {
    /// Gives a lease its whole TTL again, once, and says how long that is. It counts from a moment between the call and its
    /// answer, so whoever must not be late counts from the call.
    ///
    /// # Errors
    /// `LeaseNotFound`: its time was up, or it was revoked. Otherwise those of every call; trying again is safe.
    pub async fn keep_alive_once(&self, lease: i64) -> Result<Duration> {
        Ok(self.keep_alive_with_header(lease).await?.ttl)
    }

    /// The same, and who answered.
    ///
    /// # Errors
    /// See [`Client::keep_alive_once`].
    pub async fn keep_alive_with_header(&self, lease: i64) -> Result<KeptAlive> {
        let deadline = self.call_options().deadline;
        timeout(deadline, self.renew_with_another_token(lease))
            .await
            .unwrap_or_else(|_| {
                let message = format!("the lease was not renewed within {deadline:?}");
                Err(Error::local(
                    Kind::DeadlineExceeded,
                    Code::DeadlineExceeded,
                    message,
                ))
            })
    }

    /// Renews it, and again where the user's token was refused: the next stream has another one.
    async fn renew_with_another_token(&self, lease: i64) -> Result<KeptAlive> {
        let mut renewals = 0;
        loop {
            match self.renew(lease).await {
                Err(error)
                    if renewals < RENEWALS
                        && error.kind == Kind::Unauthenticated
                        && error.retryable =>
                {
                    renewals += 1;
                }
                done => return done,
            }
        }
    }

    async fn renew(&self, lease: i64) -> Result<KeptAlive> {
        let options = self.call_options();
        let opened = self.channel().open(&rpc::LEASE_KEEP_ALIVE, &options);
        let (mut sender, mut receiver) = opened.await?;
        sender.send(&LeaseKeepAliveRequest { id: lease });
        sender.finish();
        match receiver.next().await? {
            Some(answer) if answer.ttl > 0 => Ok(KeptAlive {
                header: answer.header.into(),
                ttl: ttl(answer.ttl),
            }),
            Some(_) => Err(Error::local(
                Kind::LeaseNotFound,
                Code::NotFound,
                "etcdserver: requested lease not found",
            )),
            None => Err(Error::garbled("a keepalive without an answer")),
        }
    }
}
