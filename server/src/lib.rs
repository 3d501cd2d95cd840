//! The member.

pub mod config;

pub use config::{Config, REPORTED_VERSION};
