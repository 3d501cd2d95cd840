//! Serves a call with a service that tonic generated: request and response bodies between h2 and `http_body`.
//! For the calls that need no speed of their own. Deadlines and cancellation end the service's future by dropping it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tonic::body::Body;
use tower_service::Service;

use super::call::{Call, Reply};
use super::grpc::{Closed, Incoming, Outgoing, PREFIX_BYTES, put_prefix};
use crate::error::GrpcStatus;

/// A request body for tonic: whole messages whose size and form have been checked.
pub struct RequestBody {
    incoming: Incoming,
    /// The payload whose prefix was just handed out.
    payload: Option<Bytes>,
}

impl Call {
    /// Serves the call with `service`, in a task of its own. Its requests have the call's [`Metadata`](super::grpc::Metadata)
    /// among their extensions.
    pub fn serve_with<S>(self, mut service: S)
    where
        S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible> + 'static,
    {
        let Self {
            metadata,
            mut parts,
            incoming,
            mut reply,
        } = self;
        let timeout = metadata.timeout;
        parts.extensions.insert(metadata);
        let request = Request::from_parts(
            parts,
            RequestBody {
                incoming,
                payload: None,
            },
        );
        tokio::task::spawn_local(async move {
            let answer = async {
                let Ok(response) = service.call(request).await;
                response
            };
            match within(timeout, answer, &mut reply).await {
                Some(Ok(response)) => drop(send(response, reply).await),
                Some(Err(status)) => reply.refuse(&status),
                None => {}
            }
        });
    }
}

/// Runs `answer` while the client waits for it: none when the client has gone.
async fn within<T>(
    timeout: Option<std::time::Duration>,
    answer: impl Future<Output = T>,
    reply: &mut Reply,
) -> Option<Result<T, GrpcStatus>> {
    let mut answer = pin!(answer);
    let deadline = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        answer = &mut answer => Some(Ok(answer)),
        () = deadline => Some(Err(GrpcStatus::deadline_exceeded())),
        _gone = poll_fn(|cx| reply.poll_closed(cx)) => None,
    }
}

async fn send(response: Response<Body>, mut reply: Reply) -> Result<(), Closed> {
    let (parts, mut body) = response.into_parts();
    let ended = body.is_end_stream();
    let mut outgoing = reply.open_with(Response::from_parts(parts, ()), ended)?;
    if ended {
        return Ok(());
    }
    while let Some(frame) = poll_fn(|cx| poll_frame(&mut body, &mut outgoing, cx)).await? {
        match frame.into_data() {
            Ok(data) => {
                outgoing.queue(data);
                outgoing.ready().await?;
            }
            Err(frame) => {
                outgoing.end(frame.into_trailers().unwrap_or_default());
                break;
            }
        }
    }
    Ok(())
}

/// The next frame of the response, as long as the client waits for it.
fn poll_frame(
    body: &mut Body,
    outgoing: &mut Outgoing,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Frame<Bytes>>, Closed>> {
    match Pin::new(body).poll_frame(cx) {
        Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Some(frame))),
        // tonic turns a service's errors into trailers: a body has none of its own.
        Poll::Ready(Some(Err(_)) | None) => Poll::Ready(Ok(None)),
        Poll::Pending => outgoing.poll_closed(cx).map(Err),
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        if let Some(payload) = self.payload.take() {
            return Poll::Ready(Some(Ok(Frame::data(payload))));
        }
        match ready!(self.incoming.poll_message(cx)) {
            Ok(Some(payload)) => {
                let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
                put_prefix(&mut prefix, payload.len());
                self.payload = Some(payload);
                Poll::Ready(Some(Ok(Frame::data(prefix.freeze()))))
            }
            Ok(None) => Poll::Ready(None),
            Err(status) => Poll::Ready(Some(Err(status.into()))),
        }
    }
}
