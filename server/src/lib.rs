//! The member.

pub mod config;
pub mod error;
pub mod net;

pub use config::{Config, REPORTED_VERSION};
