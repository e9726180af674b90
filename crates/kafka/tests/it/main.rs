//! The relay, against brokers that librdkafka plays and against real ones, on both databases.

mod fixture;
mod mocked;
mod real;
mod source;
