//! `?at=`: a document as it was.

use std::fmt;

use actix_web::http::StatusCode;
use chrono::{DateTime, Datelike, Utc};
use daybook_core::Position;
use daybook_views::Document;

use crate::{Backend, Problem};

/// A moment that somebody names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// Behind the event at this position.
    Position(Position),
    /// Behind the last event recorded by this time.
    Time(DateTime<Utc>),
}

impl At {
    /// Reads the parameter.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        match DateTime::parse_from_rfc3339(text) {
            Ok(time) if (0..=9_999).contains(&time.to_utc().year()) => Ok(Self::Time(time.to_utc())),
            _ => Err(Problem::parameter("at", "`at` is a position, or a time as in 2026-01-31T09:15:00Z.")),
        }
    }

    /// The document as it was then, and the position that this was at. Nobody is told of what the view, which is at
    /// `reached`, does not tell of yet.
    pub(super) async fn read(
        self,
        backend: &Backend,
        view: &str,
        key: &str,
        reached: Position,
    ) -> Result<(Option<Document>, Position), Problem> {
        let position = match self {
            Self::Position(position) => position,
            Self::Time(time) if time > Utc::now() => return Err(self.not_yet(reached)),
            Self::Time(time) => backend.log.end_at(time).await?,
        };
        if position > reached {
            return Err(self.not_yet(reached));
        }
        Ok((backend.views.as_of(view, key, position).await?, position))
    }

    fn not_yet(self, reached: Position) -> Problem {
        let detail = format!("The view is at position {reached}, and has not come to {self} yet.");
        Problem::new(StatusCode::CONFLICT, "not_happened", detail).position(reached)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => write!(f, "{position}"),
            Self::Time(time) => write!(f, "{}", time.to_rfc3339()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_position_or_a_time() {
        let parsed = |text| At::parse(text).ok();
        assert_eq!(parsed("7"), Some(At::Position(Position::new(7))));
        let time = DateTime::from_timestamp(1_769_850_900, 0).expect("a time");
        assert_eq!(parsed("2026-01-31T09:15:00Z"), Some(At::Time(time)));
        assert_eq!(parsed("2026-01-31T10:15:00+01:00"), Some(At::Time(time)));
        for bad in ["", "-1", "1.5", "yesterday", "2026-01-31", "2026-01-31T09:15:00", "99999999999999999999"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
