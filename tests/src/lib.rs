//! What the tests of the whole member share: servers that live as long as a test, and sessions that write down every
//! answer so that two servers' answers can be compared. Nothing here judges; the tests do.

mod random;
mod server;
mod session;
mod unary;
mod watch;

pub use random::Random;
pub use server::{Kind, Server, oracle};
pub use session::{Session, on_both};
pub use unary::Unary;
pub use watch::WatchStream;
