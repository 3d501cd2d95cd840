//! The member.

pub mod config;
pub mod error;
pub mod lease;
pub mod net;
pub mod watch;

pub use config::{Config, REPORTED_VERSION};
