//! Who may do what: whether anybody is asked who it is, users, and roles. One file for each. What a role permits is said in whole keys, as the
//! server has them: the client's namespace is no part of it.

pub(crate) mod roles;
pub(crate) mod status;
pub(crate) mod users;
