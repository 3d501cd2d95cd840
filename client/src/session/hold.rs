//! One session from within: its state, its task, and the names that are taken by it. Guards, jobs and the handles of users share it; when
//! the last reference goes, so does the lease.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keystead_proto::etcdserverpb::LeaseRevokeRequest;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tonic::Code;

use super::names::Names;
use super::renewal::Renewing;
use super::tenure::{Loss, Tenure};
use crate::channel::{Channel, rpc};
use crate::error::{Error, Kind, Result};
use crate::options::CallOptions;

/// What runs in a session's task: an acquisition, a release.
type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What every user of a session shares.
pub(crate) struct Hold {
    tenure: Arc<Tenure>,
    names: Names,
    /// The task's. At most one order for each acquisition and each guard there is, so its length is bounded by theirs.
    orders: UnboundedSender<Order>,
    /// Somebody here wants its end.
    closed: AtomicBool,
}

enum Order {
    Run(Job),
    Close(oneshot::Sender<Result<()>>),
}

impl Hold {
    /// Starts the task of a session.
    pub(crate) fn new(
        tenure: Arc<Tenure>,
        renewing: Renewing,
        channel: Channel,
        options: CallOptions,
    ) -> Arc<Hold> {
        let (orders, taken) = unbounded_channel();
        let task = Task {
            tenure: tenure.clone(),
            channel,
            options,
        };
        tokio::spawn(async move {
            task.run(taken).await;
            drop(renewing);
        });
        Arc::new(Hold {
            tenure,
            names: Names::default(),
            orders,
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    /// The names that are taken by it.
    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// Runs `job` to its end, whoever waits for it. It holds a reference to the session for as long as it needs it. Never blocks; without
    /// a runtime there is no task, and the lease's end does what the job would have.
    pub(crate) fn run(&self, job: impl Future<Output = ()> + Send + 'static) {
        let _ = self.orders.send(Order::Run(Box::pin(job)));
    }

    /// # Errors
    /// `LeaseNotFound`: it is lost.
    pub(crate) fn usable(&self) -> Result<()> {
        self.tenure
            .state()
            .loss()
            .map_or(Ok(()), |loss| Err(over(loss)))
    }

    /// Whether its loss is meant: it was closed here.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub(crate) async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Relaxed);
        let (reply, closed) = oneshot::channel();
        let _ = self.orders.send(Order::Close(reply));
        closed.await.unwrap_or_else(|_| Err(over(Loss::Revoked)))
    }
}

/// The error of whoever needs a session that is lost.
pub(crate) fn over(loss: Loss) -> Error {
    let message = format!("the session is over: {loss}");
    Error::local(Kind::LeaseNotFound, Code::NotFound, message)
}

struct Task {
    tenure: Arc<Tenure>,
    channel: Channel,
    options: CallOptions,
}

impl Task {
    /// Ends when the last reference to the session has gone; then no job runs either, for each has one.
    async fn run(self, mut orders: UnboundedReceiver<Order>) {
        let mut jobs = JoinSet::new();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Run(job)) => {
                        jobs.spawn(job);
                    }
                    Some(Order::Close(reply)) => {
                        let _ = reply.send(self.revoke().await);
                    }
                    None => break,
                },
                Some(_) = jobs.join_next() => {}
            }
        }
        if let Err(error) = self.revoke().await {
            tracing::debug!(%error, "the lease of a session was left to end by itself");
        }
    }

    /// Gives the lease back, unless the server does not have it any more. Revoking is safe to repeat, so it is tried until the deadline.
    async fn revoke(&self) -> Result<()> {
        let gone = matches!(
            self.tenure.state().loss(),
            Some(Loss::Revoked | Loss::Forgotten)
        );
        if gone {
            return Ok(());
        }
        self.tenure.revoked();
        let request = LeaseRevokeRequest {
            id: self.tenure.lease(),
        };
        let revoked = self
            .channel
            .call(&rpc::LEASE_REVOKE, &request, &self.options);
        match revoked.await {
            Err(error) if error.kind != Kind::LeaseNotFound => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
