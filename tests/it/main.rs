//! Black-box tests: the real binary, on each store, through its HTTP interface and its command line.

mod architecture;
mod audit;
mod backup;
mod bad_input;
mod crash;
mod deployment;
mod fill;
mod forgetting;
mod idempotency;
mod live;
mod operations;
mod outage;
mod overload;
mod past;
mod projections;
mod queries;
mod readers;
mod relay;
mod roles;
mod rollback;
mod scarcity;
mod schemas;
mod sessions;
mod source;
mod tour;
