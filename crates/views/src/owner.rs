//! What a process is called where it holds something. It says where that process reads the newest events, so that everybody
//! sees it who sees the name.

use uuid::Uuid;

use crate::Settings;

/// What stands before the source's name.
const READING: &str = " reading ";

/// What it is called when it is the log.
const LOG: &str = "log";

/// The name of this start of this process.
pub(crate) fn name(settings: &Settings) -> String {
    let id = Uuid::new_v4();
    match &settings.source {
        None => format!("{} {id}", settings.process),
        Some(source) => format!("{}{READING}{} {id}", settings.process, source.name()),
    }
}

/// Where a process of this name reads.
pub(crate) fn source(name: &str) -> &str {
    let reading = name.rsplit_once(READING).and_then(|(_, rest)| rest.split_once(' '));
    reading.map_or(LOG, |(source, _)| source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_it_reads() {
        let settings = Settings { process: "host process 7".into(), ..Settings::default() };
        assert_eq!(source(&name(&settings)), "log");
        assert_eq!(source("host process 7 reading kafka 018f"), "kafka");
    }
}
