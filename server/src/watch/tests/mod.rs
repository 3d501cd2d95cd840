//! Tests of the hub on a model of the history.

mod checker;
mod model;
mod programs;
mod rules;
