//! The unary calls of Lock and Election, which wait for others to act: how long their clients stay.

use std::future::poll_fn;
use std::time::Duration;

use prost::Message;

use super::contenders::as_told_by_sessions;
use super::decode;
use crate::error::GrpcStatus;
use crate::net::grpc::{Metadata, framed};
use crate::net::{Call, Reply};

/// A client that waits for its answer, until it goes away or its deadline passes.
pub(super) struct Patience {
    reply: Reply,
    deadline: Option<tokio::time::Instant>,
}

impl Patience {
    fn new(reply: Reply, timeout: Option<Duration>) -> Self {
        Self {
            reply,
            deadline: timeout.map(|timeout| tokio::time::Instant::now() + timeout),
        }
    }

    /// Runs `work` as long as the client waits for it.
    ///
    /// # Errors
    /// Those of `work`; CANCELLED or DEADLINE_EXCEEDED when the client waits no longer, with `work` dropped
    /// where it was.
    pub(super) async fn wait<T>(
        &mut self,
        work: impl Future<Output = Result<T, GrpcStatus>>,
    ) -> Result<T, GrpcStatus> {
        let deadline = self.deadline;
        let passed = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // What is finished for a client that has gone is not given to it.
        tokio::select! {
            biased;
            _ = poll_fn(|cx| self.reply.poll_closed(cx)) => Err(GrpcStatus::cancelled()),
            result = work => result,
            () = passed => Err(GrpcStatus::deadline_exceeded()),
        }
    }
}

/// Answers a unary call of Lock or Election with what `work` makes of its request, from a task of the call's own.
pub(super) fn answer_unary<Request, Response, Work>(call: Call, work: Work)
where
    Request: Message + Default + 'static,
    Response: Message,
    Work: AsyncFnOnce(Request, Metadata, &mut Patience) -> Result<Response, GrpcStatus> + 'static,
{
    call.unary(move |message, metadata, reply| {
        tokio::task::spawn_local(async move {
            let mut patience = Patience::new(reply, metadata.timeout);
            let answered = match decode(&message) {
                Ok(request) => work(request, metadata, &mut patience)
                    .await
                    .map_err(as_told_by_sessions),
                Err(status) => Err(status),
            };
            match answered {
                Ok(response) => patience.reply.answer(framed(&response)),
                Err(status) => patience.reply.refuse(&status),
            }
        });
    });
}
