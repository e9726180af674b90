//! What is measured, and what is good enough.
//!
//! Figures differ from machine to machine, so a goal is a ratio to a baseline that the same run measures on the same
//! server, in turn. Only times and memory, which people wait for and pay for, have limits of their own.

/// Things that are measured together.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    /// What is done, and what it is compared with.
    pub(crate) about: &'static str,
    /// Whether it takes Daybook's own binary.
    pub(crate) takes_daybook: bool,
    pub(crate) metrics: &'static [Metric],
}

/// A metric.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Its name, which begins with the bench's.
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    /// What limits it now.
    pub(crate) limited_by: &'static str,
}

/// What is good enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At least so many times the baseline.
    RatioAtLeast(f64),
    /// At most so many times the baseline.
    RatioAtMost(f64),
    /// At most so much.
    AtMost(f64),
}

impl Goal {
    /// The number in it.
    pub(crate) fn number(self) -> f64 {
        match self {
            Self::RatioAtLeast(number) | Self::RatioAtMost(number) | Self::AtMost(number) => number,
        }
    }
}

impl Metric {
    /// The bench that measures it.
    pub(crate) fn bench(&self) -> &'static str {
        let end = self.name.find(['.', '_']).unwrap_or(self.name.len());
        &self.name[..end]
    }

    /// Whether `asked`, a bench or the beginning of metrics' names, means this one.
    pub(crate) fn is_meant_by(&self, asked: &str) -> bool {
        asked == "all"
            || asked == self.bench()
            || self.name.strip_prefix(asked).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// All metrics, in the order in which they are printed.
pub(crate) fn metrics() -> impl Iterator<Item = &'static Metric> {
    BENCHES.iter().flat_map(|bench| bench.metrics)
}

const fn metric(name: &'static str, unit: &'static str, goal: Goal, limited_by: &'static str) -> Metric {
    Metric { name, unit, goal, limited_by }
}

use Goal::{AtMost, RatioAtLeast, RatioAtMost};

/// All benches.
pub(crate) const BENCHES: &[Bench] = &[
    Bench {
        name: "append",
        about: "\
Callers in one process append through `Log::append`, one event each with a verdict of its own, and send the next
when the one before was answered. An event has a payload of 200 bytes and the metadata of a signed-in customer's
command; its stream is expected at its revision; half of the appends begin a stream; every tenth has an
idempotency key, every twentieth a claim. At the end the log must have grown by exactly what was acknowledged.
The baseline is a bare `INSERT`, one in each transaction, of a row with as much payload and 120 bytes of
metadata, by `pgbench -n -M prepared` with 1 or 64 clients. On SQLite it is a bare writer in groups of 64: the same rows,
as many streams begun and gone on with. How much faster than single `INSERT`s groups can be depends on how long a flush takes, so `append.c64.by_hand`
and `append.c256.by_hand` compare with what this machine allows: as many callers, whose rows (the same, with metadata sealed
once) are written in groups, one statement for all that wait, by hand: no verdicts, claims or keys. `append.sealing` is compared with the same appends that have what is sealed, address and user agent, in
clear (in their correlation id), and `append.snapshot_open`, after it was open for a time, with the same appends without.",
        takes_daybook: false,
        metrics: &[
            metric(
                "append.c1",
                "events/s",
                RatioAtLeast(1.2),
                "Waking four threads and processes one after the other, and one flush: there is nothing to share them with.",
            ),
            metric(
                "append.c64",
                "events/s",
                RatioAtLeast(6.0),
                "PostgreSQL's core. What a group costs however small it is (a statement, a flush, wake-ups) is half of it at thirty events.",
            ),
            metric("append.c64.p99_ms", "ms", AtMost(4.0), "The commit of the group before, and one's own."),
            metric(
                "append.c64.by_hand",
                "events/s",
                RatioAtLeast(0.66),
                "What is done for each append beside its row: to seal, to decide, to keep keys and claims.",
            ),
            metric(
                "append.c256",
                "events/s",
                RatioAtLeast(9.0),
                "PostgreSQL's core, and the thread that prepares a group while it waits.",
            ),
            metric("append.c256.p99_ms", "ms", AtMost(8.0), "The commit of the group before, and one's own."),
            metric(
                "append.c256.by_hand",
                "events/s",
                RatioAtLeast(0.66),
                "What is done for each append beside its row: to seal, to decide, to keep keys and claims.",
            ),
            metric(
                "append.sealing",
                "events/s",
                RatioAtLeast(0.9),
                "Two short texts to encrypt for each append, and metadata that is longer for it: whose they are, where they belong, and base64.",
            ),
            metric(
                "append.sqlite.c64",
                "events/s",
                RatioAtLeast(0.8),
                "Pages: what claims, keys and streams change lies anywhere in its index, and each page is written whole.",
            ),
            metric(
                "append.snapshot_open",
                "events/s",
                RatioAtLeast(0.6),
                "Nothing of its own: an append leaves no old version of a row behind.",
            ),
        ],
    },
    Bench {
        name: "hot",
        about: "\
64 callers in one process send commands through `Dispatcher::run`, each of which decides on the newest state of
its stream; in the end every decision must have been made on the one before. Keys and claims as in `append`.
`hot.c64` has all of them on one stream; the baseline is the same with a stream for each. `hot.two_processes` is
one stream, half of the callers in each of two processes; the baseline is all of them in one.",
        takes_daybook: false,
        metrics: &[
            metric(
                "hot.c64",
                "commands/s",
                RatioAtLeast(0.7),
                "Commands on one stream are decided one after the other, however many ride in a commit.",
            ),
            metric(
                "hot.two_processes",
                "commands/s",
                RatioAtLeast(0.3),
                "Changing over: who lost reads what the other has written, and decides again.",
            ),
            metric("hot.two_processes.p99_ms", "ms", AtMost(100.0), "The other's turn: it lasts for some groups."),
        ],
    },
    Bench {
        name: "replay",
        about: "\
The whole of a log that `daybook bench fill` has written is read through `Log::scan` in its order, and each
event decoded into its contract. The baseline is written by hand: a row stream of `sqlx` over the same table,
the payload parsed into the same enum.",
        takes_daybook: true,
        metrics: &[metric(
            "replay",
            "events/s",
            RatioAtLeast(0.8),
            "Nine columns of each event instead of six: one core sends them, the other parses them, and JSON.",
        )],
    },
    Bench {
        name: "rebuild",
        about: "\
A view that is there is built anew from a log that `daybook bench fill` has written, a document of 300 bytes for each
stream and five events for each document, until its key is made and it has caught up with the log. (It is then compared
with the one that is served, and served: `served_s` of each measurement says when.) The baseline is written by hand:
a row stream of `sqlx` into a hash map, two `COPY` streams into a table without an index, and its key.
`rebuild.bounded` has memory for a quarter of the documents, and is compared with one that has enough.
`rebuild.while_serving` is `daybook projection rebuild` of 200,000 documents, until they are served, while 64 connections
send `stock.receive` in open loop, a quarter as many as the goal of `http.command` asks for, to a server that projects,
too; it is compared with the same alone. Each connection reads what every twentieth of its commands did, waiting for its
position, and again without: an earlier state than it has to be shown is an error, and where a read fails, or commands are
not answered at that rate, or it takes longer than four times as long as alone, the goal is missed.
`rebuild.while_serving.reached` is the same at a quarter of the rate that `http.command` reaches, or half of that, and so on,
until nothing fails.",
        takes_daybook: true,
        metrics: &[
            metric(
                "rebuild",
                "events/s",
                RatioAtLeast(0.75),
                "Reading nine columns of each event instead of six, and JSON, on one core and half of the other.",
            ),
            metric(
                "rebuild.bounded",
                "events/s",
                RatioAtLeast(0.3),
                "Behind the first part, documents are written into a table that has its key.",
            ),
            metric(
                "rebuild.while_serving",
                "documents/s",
                RatioAtLeast(0.4),
                "The two cores that server, generator and PostgreSQL share.",
            ),
            metric(
                "rebuild.while_serving.reached",
                "documents/s",
                RatioAtLeast(0.4),
                "The two cores that server, generator and PostgreSQL share.",
            ),
        ],
    },
    Bench {
        name: "project",
        about: "\
A view that is not there yet follows a log in which each event is another document's, in pages of 1,000 events as
always: documents, checkpoints and what changed in one transaction. The baseline is written by hand: pages of as many
events, the next one read while one statement writes documents and checkpoint.",
        takes_daybook: true,
        metrics: &[metric(
            "project.worst",
            "events/s",
            RatioAtLeast(0.9),
            "PostgreSQL's core: a row and an entry of the key's index for each event, and which documents changed.",
        )],
    },
    Bench {
        name: "lag",
        about: "\
256 callers append in open loop; each event is a new document's or changes one. For every twentieth append: how long it
takes from its receipt until a query with its position is answered, in the process that appends and projects.
`lag.p50_ms` and `lag.p99_ms` are with a quarter as many events a second as the goal of `append.c64` asks for, and
`lag.rate` is how many of these were appended, compared with how many were due: where it is less, nothing is known of the
lag at that rate, and its goals are not met. `lag.reached` is with a quarter of what `append.c64` reached just before.",
        takes_daybook: false,
        metrics: &[
            metric(
                "lag.rate",
                "events/s",
                RatioAtLeast(0.95),
                "The two cores that appends, projector, queries and PostgreSQL share.",
            ),
            metric("lag.p50_ms", "ms", AtMost(5.0), "The commit of the page before, and one's own."),
            metric("lag.p99_ms", "ms", AtMost(25.0), "The commit of the page before, and one's own."),
            metric("lag.reached.p50_ms", "ms", AtMost(5.0), "The commit of the page before, and one's own."),
            metric("lag.reached.p99_ms", "ms", AtMost(25.0), "The commit of the page before, and one's own."),
        ],
    },
    Bench {
        name: "relay",
        about: "\
The log is published to a new topic with 6 partitions of an Apache Kafka of its own, one node with its default
durability, started as its own scripts do. `relay.backlog` is a log that `daybook bench fill` has written, from the relay's start until its last event is
acknowledged, in transactions as always. The baseline is a bare producer of librdkafka, written by hand: the same messages
(keys, values, headers), which lie in memory, idempotent, `acks=all`, its settings else librdkafka's own, and no
transactions. For the others, 256 callers append in open loop in the process that relays, and each append is timed from its
receipt until the broker has acknowledged the transaction that holds it. `relay.p99_ms` is with a quarter as many
events a second as the goal of `append.c64` asks for, and `relay.rate` is how many of these were appended, compared with how
many were due: where it is less, nothing is known of that rate, and its goal is not met. `relay.reached.p99_ms` is with a
quarter of what `append.c64` reached just before.",
        takes_daybook: true,
        metrics: &[
            metric(
                "relay.backlog",
                "events/s",
                RatioAtLeast(0.7),
                "The two cores that reading the log, librdkafka, PostgreSQL and the broker share.",
            ),
            metric(
                "relay.rate",
                "events/s",
                RatioAtLeast(0.95),
                "The two cores that appends, relay, PostgreSQL and the broker share.",
            ),
            metric("relay.p99_ms", "ms", AtMost(50.0), "The transaction before, and one's own."),
            metric(
                "relay.reached.p99_ms",
                "ms",
                AtMost(50.0),
                "The transaction before, and one's own; most of each is waiting for one partition after the other, which a \
                 broker answers one at a time on a connection.",
            ),
        ],
    },
    Bench {
        name: "query",
        about: "\
Queries over 64 connections to a `daybook serve`. `query.key` asks for one of a thousand documents by its key; the
baseline is plain actix, which answers with as many bytes from memory. `query.list.p99_ms` asks for the first page of 20
of one of 500 parts of a catalogue of 1,000,000 documents, the cheapest first, in open loop at half the rate that was
reached in closed loop just before.",
        takes_daybook: true,
        metrics: &[
            metric(
                "query.key",
                "queries/s",
                RatioAtLeast(0.7),
                "What each request costs whatever it asks for: its log line, its metrics, its ids, and its tag.",
            ),
            metric("query.list.p99_ms", "ms", AtMost(10.0), "The two cores that server, generator and PostgreSQL share."),
        ],
    },
    Bench {
        name: "http",
        about: "\
Commands over 64 connections to a `daybook serve --roles api` with its default settings, its log lines going to
`/dev/null`: token, validation, authorization, decision, durable append, receipt. `http.command` is
`stock.receive` (two streams read, one event), `http.order_place` is `order.place` with two lines (six streams
read, three events), over 1,000 products and 64 customers; every tenth has an idempotency key. The generator is
our own: one thread, requests put together beforehand, answers hardly looked at. Baseline: the bare `INSERT` of
`append` with 64 clients.",
        takes_daybook: true,
        metrics: &[
            metric(
                "http.command",
                "commands/s",
                RatioAtLeast(2.5),
                "The two cores that server, generator and PostgreSQL share.",
            ),
            metric(
                "http.order_place",
                "commands/s",
                RatioAtLeast(1.2),
                "The two cores that server, generator and PostgreSQL share.",
            ),
        ],
    },
    Bench {
        name: "memory",
        about: "\
The resident memory of a `daybook serve --roles api` under `order.place` over 256 connections, as fast as they
are answered: the most while they last, and what is left ten seconds after.",
        takes_daybook: true,
        metrics: &[
            metric(
                "memory.peak_mib",
                "MiB",
                AtMost(250.0),
                "The program itself, a password that is hashed, and the streams that are remembered.",
            ),
            metric(
                "memory.rest_mib",
                "MiB",
                AtMost(60.0),
                "The program itself, and the streams that are remembered for a minute.",
            ),
        ],
    },
    Bench {
        name: "start",
        about: "\
From the start of a `daybook serve` on a store with a shop's history until `/health/ready` answers 200.",
        takes_daybook: true,
        metrics: &[metric(
            "start_ms",
            "ms",
            AtMost(300.0),
            "Connecting: each connection is a process that PostgreSQL begins. Entropy for the first key, gathered meanwhile.",
        )],
    },
    Bench {
        name: "size",
        about: "\
What `append` with 64 callers, loading a stream of ten events, and starting cost on a log of 10 million events,
compared with one of 10,000. Both were written by `daybook bench fill`, and half of the appends go on with
streams from all over it. Streams are named with UUIDs of version 7; with random ones where it says so.
`size.memory` is of the process that appends.",
        takes_daybook: true,
        metrics: &[
            metric("size.append", "events/s", RatioAtLeast(0.85), "Deeper indexes."),
            metric(
                "size.load",
                "loads/s",
                RatioAtLeast(0.85),
                "Deeper indexes, and pages that are not in memory.",
            ),
            metric(
                "size.start",
                "ms",
                RatioAtMost(1.2),
                "Nothing that depends on the log's length, but for a search for the time of twenty minutes ago.",
            ),
            metric("size.memory", "MiB", RatioAtMost(1.2), "Nothing that depends on the log's length."),
            metric(
                "size.random.append",
                "events/s",
                RatioAtLeast(0.6),
                "Each new stream stands somewhere else in the index, so whole pages go to the write-ahead log.",
            ),
            metric(
                "size.random.load",
                "loads/s",
                RatioAtLeast(0.6),
                "Deeper indexes, and pages that are not in memory.",
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_asked_for_by_its_bench_or_its_name() {
        let metric = metric("append.c64.p99_ms", "ms", AtMost(4.0), "");
        for asked in ["all", "append", "append.c64", "append.c64.p99_ms"] {
            assert!(metric.is_meant_by(asked), "{asked}");
        }
        for asked in ["app", "append.c6", "append.c64.p99_ms.x", "hot", ""] {
            assert!(!metric.is_meant_by(asked), "{asked}");
        }
    }

    #[test]
    fn every_metric_is_named_once_after_its_bench() {
        let mut seen = std::collections::BTreeSet::new();
        for bench in BENCHES {
            for metric in bench.metrics {
                assert_eq!(metric.bench(), bench.name);
                assert!(seen.insert(metric.name), "{}", metric.name);
            }
        }
    }
}
