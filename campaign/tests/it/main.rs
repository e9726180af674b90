//! Short campaigns, and the faults that need to be looked at one by one.

mod cuts;
mod frozen;
mod kafka;
mod reader;
mod short;
mod stopped;
mod store;
mod views;
