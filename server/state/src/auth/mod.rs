//! Users, roles and permissions: what is replicated of them, and what they make the state refuse.
//!
//! The applier changes them, one record after another; services read [`Auth`], which never changes once it is made. A
//! change makes another one and puts it in its place. How a password becomes a hash, and a token a user, is the
//! server's business: no password is ever known here.
//!
//! ```text
//! manage ──► users, roles ──► tables ──► Auth ──► Live ◄── services
//!   ▲                                     │
//! request                    gate ◄── grants, ranges: what may be done
//! ```

mod gate;
mod grants;
mod live;
mod manage;
mod ranges;
mod request;
mod roles;
mod tables;
mod users;
mod view;

pub(crate) use gate::Gate;
pub(crate) use live::Live;
pub use manage::AuthChange;
pub(crate) use manage::{log_in, manage};
pub(crate) use request::AuthRequest;
pub(crate) use tables::{FIRST_REVISION, Fact, decode_fact};
pub use view::{Auth, Caller};

/// The user that must exist, and the role that it must have, before authentication can be enabled. The role permits
/// everything, whether it was ever made or not.
const ROOT: &str = "root";
