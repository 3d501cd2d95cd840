//! The client against servers that do exactly what a script says: every way in which a call can end, and what the client
//! makes of it. `fake` is that server; the other files are the tests.

mod connection;
mod fake;
mod outcomes;
mod property;
mod scan;
