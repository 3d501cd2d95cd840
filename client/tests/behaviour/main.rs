//! The client against servers that do exactly what a script says: every way in which a call can end, and what the client
//! makes of it. `fake` breaks frames, `member` answers methods, `puppet` has streams that the test plays;
//! the other files are the tests.

mod alone;
mod auth;
mod cache;
mod connection;
mod discovery;
mod fake;
mod lock;
mod loops;
mod member;
mod once;
mod outcomes;
mod property;
mod puppet;
mod queue;
mod registry;
mod scan;
mod session;
mod telemetry;
mod watch;
