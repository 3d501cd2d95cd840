//! The client: the one object that users hold. Its verbs are in the folders beside it, one file each, as `impl Client`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::channel::{Channel, Rpc};
use crate::error::Result;
use crate::namespace::Namespace;
use crate::options::{CallOptions, ConnectOptions};
use crate::session::shared::Sessions;
use crate::txn::once::Slots;
use crate::watch::line::Lines;

/// A client of one cluster. A clone is the same client: it costs two reference counts and shares the connection.
///
/// Every verb takes `&self` and may be called from any number of tasks at once. All of them need a tokio runtime around them.
///
/// ```no_run
/// # async fn tour() -> keystead_client::Result<()> {
/// use keystead_client::{Client, ConnectOptions};
///
/// let client = Client::connect(ConnectOptions::new(["http://127.0.0.1:2379"])).await?;
/// client.put("greeting", "hello").await?;
/// let greeting = client.get("greeting").await?;
/// assert_eq!(greeting.map(|kv| kv.value), Some("hello".into()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    /// What it was connected with.
    connect: Arc<ConnectOptions>,
    namespace: Arc<Namespace>,
    call: CallOptions,
    sessions: Arc<Sessions>,
    watches: Arc<Lines>,
    slots: Arc<Slots>,
}

impl Client {
    /// Connects to one of the endpoints, chosen by chance, so that many clients spread over the members.
    ///
    /// # Errors
    /// `InvalidArgument`: an endpoint cannot be read. `Unavailable`: every endpoint was tried and none answered.
    pub async fn connect(options: ConnectOptions) -> Result<Client> {
        let client = Client::lazy(options)?;
        client.ready().await?;
        Ok(client)
    }

    /// Connects if there is no connection, which the next call would do else.
    ///
    /// # Errors
    /// `Unavailable`: every endpoint was tried and none answered.
    pub async fn ready(&self) -> Result<()> {
        self.channel.connect(&self.call).await
    }

    /// The same without any input or output: the first call connects.
    ///
    /// # Errors
    /// `InvalidArgument`: an endpoint cannot be read, or there is none.
    pub fn lazy(options: ConnectOptions) -> Result<Client> {
        let channel = Channel::new(&options)?;
        Ok(Client {
            sessions: Arc::new(Sessions::new(channel.clone(), options.call)),
            watches: Arc::new(Lines::new(&channel, &options)),
            slots: Arc::default(),
            channel,
            namespace: Arc::new(Namespace::new(options.namespace.clone())),
            call: options.call,
            connect: Arc::new(options),
        })
    }

    /// A client of one endpoint alone, with its own connection and everything else as here: to ask a certain member. Connects with
    /// its first call.
    ///
    /// # Errors
    /// `InvalidArgument`: the endpoint cannot be read.
    pub fn at(&self, endpoint: impl Into<String>) -> Result<Client> {
        let connect = ConnectOptions {
            endpoints: vec![endpoint.into()],
            sync_interval: None,
            ..ConnectOptions::clone(&self.connect)
        };
        Ok(Client {
            namespace: self.namespace.clone(),
            call: self.call,
            ..Client::lazy(connect)?
        })
    }

    /// Asks the members where clients are to connect, and has calls go there from now on, as `ConnectOptions::sync_interval` does by itself.
    /// Gives the endpoints that are used then.
    ///
    /// # Errors
    /// Those of every read; the endpoints stay as they were.
    pub async fn sync_endpoints(&self) -> Result<Vec<String>> {
        self.channel.sync(&self.call).await
    }

    /// The endpoints it was connected with.
    pub fn endpoints(&self) -> &[String] {
        &self.connect.endpoints
    }

    /// The same client with a view of the keys below `prefix` alone, within the namespace it has.
    pub fn namespace(&self, prefix: impl Into<Bytes>) -> Client {
        Client {
            namespace: Arc::new(self.namespace.inner(prefix.into())),
            ..self.clone()
        }
    }

    /// The same client with another deadline for its calls.
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        self.with_options(CallOptions {
            deadline,
            ..self.call
        })
    }

    /// The same client with other options for its calls.
    pub fn with_options(&self, call: CallOptions) -> Client {
        Client {
            call,
            ..self.clone()
        }
    }

    /// The options of its calls.
    pub fn call_options(&self) -> CallOptions {
        self.call
    }

    /// Ends every session of this client and its clones, also those by which locks and registrations are held, and waits until their leases
    /// are revoked. For who is about to close it, so that nobody has to wait for the leases' ends. What was registered is not registered again.
    ///
    /// # Errors
    /// A lease could not be revoked; it ends by itself after its TTL.
    pub async fn end_sessions(&self) -> Result<()> {
        self.sessions.end().await
    }

    /// Refuses every later call of this client and its clones with kind `Closed`, and ends its watches with that. Calls under
    /// way end by themselves, and so do the leases of its sessions: see [`Client::end_sessions`].
    pub fn close(&self) {
        self.channel.close();
        self.watches.close();
    }

    /// The way to the cluster, for streams.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The streams that its watches share.
    pub(crate) fn watches(&self) -> &Lines {
        &self.watches
    }

    /// What remembers which transactions have run.
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// What stands before every key.
    pub(crate) fn keys(&self) -> &Namespace {
        &self.namespace
    }

    /// The sessions that its clones share.
    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// One call with this client's options.
    pub(crate) async fn call<Q: Message, A: Message + Default>(
        &self,
        rpc: &Rpc<Q, A>,
        request: &Q,
    ) -> Result<A> {
        self.channel.call(rpc, request, &self.call).await
    }
}
