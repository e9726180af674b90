//! How far somebody was told of a view.

use std::fmt;
use std::str::FromStr;

use daybook_core::Position;

/// How far somebody was told of a view, and of which generation: what another one differs in, nobody is told document by
/// document. Its text is `<position>-<generation>`; a position alone is known to be of none, so that whoever comes back with
/// one hears that they have to read everything anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Everything up to there was told.
    pub position: Position,
    /// The id of the generation.
    pub(crate) generation: i64,
}

/// What no database calls a generation.
const NONE: i64 = 0;

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.position, self.generation)
    }
}

impl FromStr for Mark {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (position, generation) = match text.split_once('-') {
            Some((position, generation)) => (position, generation.parse::<u32>()?.into()),
            None => (text, NONE),
        };
        Ok(Self { position: position.parse()?, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_is_written() {
        let mark = Mark { position: Position::new(123), generation: 4 };
        assert_eq!((mark.to_string().as_str(), "123-4".parse()), ("123-4", Ok(mark)));
        assert_eq!("123".parse(), Ok(Mark { generation: NONE, ..mark }));
        for bad in ["", "-", "1-", "-1", "1--1", "1-2-3", "a-1", "1-b", " 1-2", "1-99999999999"] {
            assert!(bad.parse::<Mark>().is_err(), "{bad}");
        }
    }
}
