//! The client: what it was connected with, and the connection of this process, which is made anew in a child.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use keystead_client as client;
use keystead_client::bytes::Bytes;
use keystead_client::{CallOptions, ConnectOptions};

use crate::answer::Answer;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::fork::Mine;
use crate::runtime;

/// How long closing waits for leases to be given back.
const FAREWELL: Duration = Duration::from_secs(1);

/// A client of one cluster. A clone is the same client.
///
/// Safe to use from any thread. In a child of the process that made it it is a client with a connection of its own, made with the first call;
/// locks, sessions and watches that it had are its parent's, and lost there.
#[derive(Clone)]
pub struct Client(Arc<View>);

/// A client as one user sees it.
struct View {
    origin: Arc<Origin>,
    namespace: Bytes,
    call: CallOptions,
    made: Made,
}

/// What all views share.
struct Origin {
    options: ConnectOptions,
    closed: AtomicBool,
    made: Made,
}

/// The connection of this process, once it is needed.
type Made = ArcSwapOption<Mine<client::Client>>;

impl Client {
    /// Connects, when `eagerly`, or else with the first call. Answers `Client`.
    ///
    /// # Errors
    /// See [`client::Client::connect`].
    pub fn open(options: ConnectOptions, eagerly: bool) -> Call {
        Call::new(async move {
            let made = if eagerly {
                client::Client::connect(options.clone()).await?
            } else {
                client::Client::lazy(options.clone())?
            };
            let opened = Client::new(options);
            opened.0.origin.put(made)?;
            Ok(Answer::Client(opened))
        })
    }

    fn new(options: ConnectOptions) -> Client {
        Client(Arc::new(View {
            namespace: Bytes::new(),
            call: options.call,
            made: Made::empty(),
            origin: Arc::new(Origin {
                options,
                closed: AtomicBool::new(false),
                made: Made::empty(),
            }),
        }))
    }

    /// Connects now, where the first call would. Answers `Done`.
    ///
    /// # Errors
    /// `Unavailable`: every endpoint was tried and none answered.
    pub fn connect(&self) -> Call {
        self.call(
            |client| async move { client.ready().await },
            |()| Answer::Done,
        )
    }

    /// The same client with a view of the keys below `prefix` alone, within the namespace it has.
    pub fn namespace(&self, prefix: &[u8]) -> Client {
        let namespace = [&self.0.namespace, prefix].concat().into();
        self.view(namespace, self.0.call)
    }

    /// The same client with other options for its calls.
    pub fn with_options(&self, call: CallOptions) -> Client {
        self.view(self.0.namespace.clone(), call)
    }

    fn view(&self, namespace: Bytes, call: CallOptions) -> Client {
        Client(Arc::new(View {
            origin: self.0.origin.clone(),
            namespace,
            call,
            made: Made::empty(),
        }))
    }

    /// The options of its calls.
    pub fn call_options(&self) -> CallOptions {
        self.0.call
    }

    /// The endpoints it was connected with.
    pub fn endpoints(&self) -> &[String] {
        &self.0.origin.options.endpoints
    }

    /// A client of one endpoint alone, with its own connection and everything else as here. Answers `Client`.
    ///
    /// # Errors
    /// `InvalidArgument`: the endpoint cannot be read.
    pub fn at(&self, endpoint: String) -> Call {
        let options = ConnectOptions {
            endpoints: vec![endpoint],
            sync_interval: None,
            ..self.0.origin.options.clone()
        };
        let (namespace, call) = (self.0.namespace.clone(), self.0.call);
        Call::new(async move {
            let made = client::Client::lazy(options.clone())?;
            let there = Client::new(options);
            there.0.origin.put(made)?;
            Ok(Answer::Client(there.view(namespace, call)))
        })
    }

    /// Asks the members where clients are to connect, and has calls go there from now on. Answers `Names`.
    pub fn sync_endpoints(&self) -> Call {
        self.call(
            |client| async move { client.sync_endpoints().await },
            Answer::Names,
        )
    }

    /// It was closed.
    pub fn is_closed(&self) -> bool {
        self.0.origin.closed.load(Ordering::Relaxed)
    }

    /// Ends its sessions, waiting a second at most for their leases to be given back, and refuses every later call with `Closed`. Closing it
    /// again does nothing. Answers `Done`.
    pub fn close(&self) -> Call {
        let origin = self.0.origin.clone();
        Call::new(async move {
            if origin.closed.swap(true, Ordering::Relaxed) {
                return Ok(Answer::Done);
            }
            let made = origin.made.load_full();
            if let Some(client) = made.as_ref().and_then(|made| made.get()) {
                // A lease that can't be given back ends by itself.
                let _ = tokio::time::timeout(FAREWELL, client.end_sessions()).await;
                client.close();
            }
            Ok(Answer::Done)
        })
    }

    /// A call of one verb.
    pub(crate) fn call<T, F>(
        &self,
        verb: impl FnOnce(client::Client) -> F + Send + 'static,
        answer: impl FnOnce(T) -> Answer + Send + 'static,
    ) -> Call
    where
        F: Future<Output = client::Result<T>> + Send,
    {
        let this = self.clone();
        Call::new(async move { Ok(answer(verb(this.get()?).await?)) })
    }

    /// The same for a verb that is one request.
    pub(crate) fn request<T, F>(
        &self,
        verb: impl FnOnce(client::Client) -> F + Send + 'static,
        answer: impl FnOnce(T) -> Answer + Send + 'static,
    ) -> Call
    where
        F: Future<Output = client::Result<T>> + Send,
    {
        self.call(verb, answer).request()
    }

    /// The client of this process. Asked by calls, which run where the runtime is.
    pub(crate) fn get(&self) -> Result<client::Client> {
        let View {
            origin,
            namespace,
            call,
            made,
        } = &*self.0;
        if origin.closed.load(Ordering::Relaxed) {
            return Err(Error::closed());
        }
        if let Some(client) = made.load().as_ref().and_then(|made| made.get()) {
            return Ok(client.clone());
        }
        let client = origin.get()?.namespace(namespace.clone());
        let client = client.with_options(*call);
        made.store(Some(Arc::new(Mine::new(client.clone()))));
        Ok(client)
    }
}

impl Origin {
    fn get(&self) -> Result<client::Client> {
        if let Some(client) = self.made.load().as_ref().and_then(|made| made.get()) {
            return Ok(client.clone());
        }
        let client = client::Client::lazy(self.options.clone())?;
        self.put(client.clone())?;
        Ok(client)
    }

    fn put(&self, client: client::Client) -> Result<()> {
        let made = Arc::new(Mine::new(client));
        runtime::current()?.remember(&made);
        self.made.store(Some(made));
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.endpoints())
            .field("namespace", &self.0.namespace)
            .finish_non_exhaustive()
    }
}
