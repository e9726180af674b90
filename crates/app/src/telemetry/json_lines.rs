//! The log's lines as JSON.
//!
//! They are what `tracing-subscriber` makes of an event, to the byte. It writes each piece of a line on its own, and each is
//! checked to be text and formatted; here the pieces are bytes until the line is whole. Every request has a line.

use std::fmt;

use serde::ser::{SerializeMap, Serializer};
use tracing::{Event, Subscriber};
use tracing_serde::{AsSerde, SerdeMapVisitor};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// What most lines fit into.
const LINE_BYTES: usize = 512;

/// Formats an event as one object, its own fields beside its time, level and target.
pub(super) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let line = line(&time, event).map_err(|_| fmt::Error)?;
        writer.write_str(str::from_utf8(&line).map_err(|_| fmt::Error)?)
    }
}

fn line(time: &str, event: &Event<'_>) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(LINE_BYTES);
    let mut json = serde_json::Serializer::new(&mut line);
    let mut object = json.serialize_map(None)?;
    object.serialize_entry("timestamp", time)?;
    object.serialize_entry("level", &event.metadata().level().as_serde())?;
    let mut fields = SerdeMapVisitor::new(object);
    event.record(&mut fields);
    let mut object = fields.take_serializer()?;
    object.serialize_entry("target", event.metadata().target())?;
    object.end()?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        /// The lines, without the time that they begin with.
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().expect("nobody panicked").clone()).expect("text");
            assert!(text.ends_with('\n'));
            let timeless = |line: &str| {
                let (time, rest) = line.split_once("Z\"").expect("a time in UTC");
                assert!(time.starts_with("{\"timestamp\":\"2"), "{line}");
                rest.to_owned()
            };
            text.lines().map(timeless).collect()
        }
    }

    fn log() {
        let nobody: Option<&str> = None;
        tracing::info!(target: "some::where", path = "/a\"b\\\u{1}ü", nobody, status = 200_u16, took = 1.5, "well");
        let error = io::Error::other("away");
        let cause: &dyn std::error::Error = &error;
        tracing::error!(cause, %error, ?nobody, is_left = true, count = -1, big = u128::MAX, nan = f64::NAN);
        tracing::info_span!("a span", of = 1).in_scope(|| tracing::warn!("{} of {}", 1, 2));
    }

    #[test]
    fn lines_are_those_of_the_usual_formatter() {
        let (ours, usual) = (Written::default(), Written::default());
        let (our_writer, usual_writer) = (ours.clone(), usual.clone());
        let subscriber = fmt().with_writer(move || our_writer.clone()).event_format(JsonLines).finish();
        tracing::subscriber::with_default(subscriber, log);
        let json = fmt().with_writer(move || usual_writer.clone()).json();
        let json = json.flatten_event(true).with_current_span(false).with_span_list(false).finish();
        tracing::subscriber::with_default(json, log);
        assert_eq!(ours.lines().len(), 3);
        assert_eq!(ours.lines(), usual.lines());
    }
}
