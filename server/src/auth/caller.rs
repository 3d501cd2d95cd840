//! Who makes a call. While authentication is not enabled that costs one load of a flag.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keystead_proto::internal::Record;
use keystead_state::{self as state, Auth, Reader, Refusal};

use crate::member::Member;
use crate::net::grpc::Metadata;

/// Somebody who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever it is: nobody was asked, since authentication was not enabled then.
    Anybody,
    /// Somebody who did not say who it is.
    Nobody,
    /// Somebody whose token was found to be good.
    User {
        /// The user's name.
        name: Arc<str>,
        /// Of users and roles, under which it was found to be that user.
        auth_revision: u64,
    },
}

impl Caller {
    /// As the state asks for it.
    pub(crate) fn view(&self) -> state::Caller<'_> {
        match self {
            Self::Anybody | Self::Nobody => state::Caller::NOBODY,
            Self::User {
                name,
                auth_revision,
            } => state::Caller {
                user: name,
                auth_revision: *auth_revision,
            },
        }
    }

    /// Says in a record who asks.
    pub(crate) fn sign(&self, record: &mut Record) {
        if let Self::User {
            name,
            auth_revision,
        } = self
        {
            record.user = name.to_string();
            record.auth_revision = *auth_revision;
        }
    }

    /// Makes a check of what the caller may do, where anybody is asked.
    ///
    /// # Errors
    /// Those of `check`.
    pub(crate) fn permit(
        &self,
        reader: &Reader,
        check: impl FnOnce(&Auth, state::Caller<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        match self {
            Self::Anybody => Ok(()),
            _ => check(&reader.auth(), self.view()),
        }
    }

    /// Whether what was read for the caller may be given to it: users and roles are those that it was permitted under.
    ///
    /// # Errors
    /// [`Refusal::OldAuthRevision`].
    pub(crate) fn still_permitted(&self, reader: &Reader) -> Result<(), Refusal> {
        self.permit(reader, |auth, caller| match caller.auth_revision {
            0 => Ok(()),
            revision if revision == auth.revision() => Ok(()),
            _ => Err(Refusal::OldAuthRevision),
        })
    }
}

impl Member {
    /// Who makes a call. None when its token may be of an entry of the log that is not applied here yet: [`Member::caller`]
    /// waits for it.
    pub(crate) fn caller_now(&self, metadata: &Metadata) -> Option<Result<Caller, Refusal>> {
        if !self.reader.auth_enabled() {
            return Some(Ok(Caller::Anybody));
        }
        let Some(token) = metadata.token.as_deref() else {
            return Some(Ok(Caller::Nobody));
        };
        let applied = self.consensus.applied();
        let found = self.tokens.read(token, self.reader.auth().revision());
        match (found, self.tokens.known_from(token)) {
            (Some(caller), _) => Some(Ok(caller)),
            (None, Some(position)) if position > applied => None,
            (None, _) => Some(Err(Refusal::InvalidAuthToken)),
        }
    }

    /// The same, after waiting for what is under way to be applied. A token that nobody was given is found out by that; etcd
    /// waits for it as long as the client does.
    ///
    /// # Errors
    /// [`Refusal::InvalidAuthToken`]; those of a read barrier.
    pub(crate) async fn caller(&self, metadata: &Metadata) -> Result<Caller, Refusal> {
        if let Some(caller) = self.caller_now(metadata) {
            return caller;
        }
        self.consensus.read_barrier().await?;
        self.caller_now(metadata)
            .unwrap_or(Err(Refusal::InvalidAuthToken))
    }

    /// Waits until this member has been current once since it started. A member that was away serves at once, and its users and
    /// roles may be those of long ago, when nobody was asked yet: what is permitted under them must not outlast them, as a
    /// watch would, nor reach the other members. etcd serves nobody before.
    ///
    /// # Errors
    /// Those of a read barrier.
    pub(crate) async fn once_current(&self) -> Result<(), Refusal> {
        if !self.was_current.load(Ordering::Acquire) {
            self.consensus.read_barrier().await?;
            self.was_current.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Who makes a call that anybody may make who has logged in.
    ///
    /// # Errors
    /// [`Refusal::InvalidAuthToken`], [`Refusal::UserNameEmpty`].
    pub(crate) async fn require_user(&self, metadata: &Metadata) -> Result<Caller, Refusal> {
        let caller = self.caller(metadata).await?;
        caller.permit(&self.reader, Auth::permit_user)?;
        Ok(caller)
    }

    /// Who makes a call that only root may make.
    ///
    /// # Errors
    /// Those of [`Member::require_user`], [`Refusal::UserNotFound`], [`Refusal::PermissionDenied`].
    pub(crate) async fn require_root(&self, metadata: &Metadata) -> Result<Caller, Refusal> {
        let caller = self.caller(metadata).await?;
        caller.permit(&self.reader, |auth, caller| auth.permit_admin(caller.user))?;
        Ok(caller)
    }

    /// The same for a call whose effects are not this member's alone, and that nobody holds against users and roles again.
    ///
    /// # Errors
    /// Those of [`Member::once_current`] and [`Member::require_root`].
    pub(crate) async fn require_root_for_all(
        &self,
        metadata: &Metadata,
    ) -> Result<Caller, Refusal> {
        self.once_current().await?;
        self.require_root(metadata).await
    }
}
