//! The client against servers that do exactly what a script says: every way in which a call can end, and what the client
//! makes of it. `fake` breaks frames, `member` answers methods; the other files are the tests.

mod connection;
mod fake;
mod lock;
mod member;
mod outcomes;
mod property;
mod scan;
mod session;
