//! `daybook status`

use daybook_core::Domain;
use daybook_views::{Building, Status};
use serde_json::json;

use crate::config::Config;
use crate::engine::LogAndViews;
use crate::terminal;

/// Prints how far the log, each projection and the relay are.
pub(crate) async fn status(domain: Domain, config: &Config, as_json: bool) -> anyhow::Result<()> {
    let opened = LogAndViews::open(domain, config).await?;
    let head = opened.log.head().await?;
    let projections = opened.views.status().await?;
    let relays = daybook_kafka::status(&opened.databases.log, &opened.log).await?;
    opened.close().await;
    if as_json {
        return terminal::json(&json!({
            "log": {"id": head.log_id, "epoch": head.epoch, "position": head.position, "at": config.log.to_string()},
            "projections": projections,
            "relays": relays,
        }));
    }
    terminal::line(format_args!("log          {}", config.log))?;
    terminal::line(format_args!("  id         {}", head.log_id))?;
    terminal::line(format_args!("  epoch      {}", head.epoch))?;
    terminal::line(format_args!("  position   {}", head.position))?;
    terminal::line("projections")?;
    projections.iter().try_for_each(|one| terminal::line(format_args!("  {}", line(one))))?;
    if !relays.is_empty() {
        terminal::line("relays")?;
    }
    relays.iter().try_for_each(|one| terminal::line(format_args!("  {}", relay_line(one))))
}

/// How far the log was published to a topic, in a line.
fn relay_line(one: &daybook_kafka::Status) -> String {
    let owner = match &one.owner {
        Some(owner) => format!("published by {owner}"),
        None => "nobody publishes".to_owned(),
    };
    let problem = one.problem.as_ref().map(|problem| format!("  last error: {problem}")).unwrap_or_default();
    format!(
        "{}  position {}  lag {} events, {:.1} s  {owner}{problem}",
        one.topic, one.position, one.lag_events, one.lag_seconds
    )
}

/// How far a projection is, in a line.
pub(super) fn line(one: &Status) -> String {
    let newer = one.building.as_ref().map(|building| building.version).or(one.given_up);
    let state = match (&one.stopped, one.owners.len()) {
        (Some(stopped), _) => format!("stopped at {}: {}", stopped.position, stopped.reason),
        (None, 1..) => match one.sources.iter().find(|source| *source != "log") {
            None => "running".to_owned(),
            Some(source) => format!("running, reads {source}"),
        },
        // The program that feeds it is not there any more.
        (None, 0) if newer.is_some_and(|newer| newer > one.version) => "served as it is".to_owned(),
        (None, 0) => "nobody runs it".to_owned(),
    };
    let generation = one.generation.map_or_else(|| "none".to_owned(), |number| number.to_string());
    let mut line = format!(
        "{:10} version {}  generation {generation}  position {}  lag {} events, {:.1} s  {state}",
        one.name, one.version, one.position, one.lag_events, one.lag_seconds,
    );
    if let Some(building) = &one.building {
        line += &format!("  building {}", building_line(building, one));
    }
    if let Some(version) = one.given_up {
        line += &format!("  version {version} is given up: `daybook projection rebuild {}` builds it", one.name);
    }
    if one.dead_letters > 0 {
        line += &format!("  {} dead letters", one.dead_letters);
    }
    line
}

/// What is built beside the one that is served, and how far it is.
fn building_line(building: &Building, served: &Status) -> String {
    let newer = (building.version != served.version).then(|| format!("version {} as ", building.version));
    let head = served.position.get() + served.lag_events;
    let state = match &building.stopped {
        Some(stopped) => format!(", stopped at {}: {}", stopped.position, stopped.reason),
        None if building.paused => ", paused".to_owned(),
        None if building.owners.is_empty() => ", nobody works on it".to_owned(),
        None => String::new(),
    };
    let letters = match building.dead_letters {
        0 => String::new(),
        count => format!(", {count} dead letters of its own"),
    };
    let Building { generation, phase, position, .. } = building;
    let newer = newer.unwrap_or_default();
    format!("{newer}generation {generation}: {phase}{state}, {position} of {head} events{letters}")
}

#[cfg(test)]
mod tests {
    use daybook_core::Position;
    use daybook_views::{Phase, Stopped};

    use super::*;

    #[test]
    fn a_line_says_who_publishes_and_what_is_in_the_way() {
        let mut status = daybook_kafka::Status {
            topic: "daybook.events".to_owned(),
            partitions: Some(12),
            position: Position::new(90),
            lag_events: 10,
            lag_seconds: 0.5,
            owner: Some("host process 7".to_owned()),
            problem: None,
        };
        let plain = "daybook.events  position 90  lag 10 events, 0.5 s";
        assert_eq!(relay_line(&status), format!("{plain}  published by host process 7"));
        (status.owner, status.problem) = (None, Some("no broker answers".to_owned()));
        assert_eq!(relay_line(&status), format!("{plain}  nobody publishes  last error: no broker answers"));
    }

    #[test]
    fn a_line_says_what_is_built_and_what_is_dead() {
        let mut status = Status {
            name: "orders",
            version: 2,
            generation: Some(3),
            building: None,
            given_up: None,
            position: Position::new(90),
            lag_events: 10,
            lag_seconds: 0.5,
            owners: ["a process".to_owned()].into(),
            sources: ["log".to_owned()].into(),
            stopped: None,
            dead_letters: 0,
        };
        let plain = "orders     version 2  generation 3  position 90  lag 10 events, 0.5 s  running";
        assert_eq!(line(&status), plain);
        let mut building = Building {
            generation: 4,
            version: 2,
            phase: Phase::Replay,
            paused: true,
            position: Position::new(7),
            owners: ["a process".to_owned()].into(),
            stopped: None,
            dead_letters: 3,
        };
        status.building = Some(building.clone());
        status.dead_letters = 2;
        let beside =
            "  building generation 4: replay, paused, 7 of 100 events, 3 dead letters of its own  2 dead letters";
        assert_eq!(line(&status), format!("{plain}{beside}"));
        status.sources.insert("kafka".to_owned());
        assert!(line(&status).contains("running, reads kafka"));

        // A newer version: whoever fed the older one may be gone.
        building.dead_letters = 0;
        (building.version, building.paused, status.dead_letters) = (3, false, 0);
        status.building = Some(building.clone());
        status.owners.clear();
        let plain = plain.replace("running", "served as it is");
        let beside = "  building version 3 as generation 4: replay, 7 of 100 events";
        assert_eq!(line(&status), format!("{plain}{beside}"));
        building.stopped = Some(Stopped { position: Position::new(8), reason: "unknown".to_owned() });
        status.building = Some(building);
        let beside = "  building version 3 as generation 4: replay, stopped at 8: unknown, 7 of 100 events";
        assert_eq!(line(&status), format!("{plain}{beside}"));
        (status.building, status.given_up) = (None, Some(3));
        let beside = "  version 3 is given up: `daybook projection rebuild orders` builds it";
        assert_eq!(line(&status), format!("{plain}{beside}"));
    }
}
