//! Just enough of PostgreSQL's protocol to know what is going by: messages, and which of them write to the log.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::collections::HashSet;

/// What a client says before anything else has no type byte. This one asks for TLS, and is answered with one byte.
pub(super) const TLS_REQUEST: u32 = 80_877_103;

/// The length of the first message of a connection, and its code, once both are in `bytes`.
pub(super) fn first(bytes: &[u8]) -> Option<(usize, u32)> {
    let word = |from: usize| Some(u32::from_be_bytes(bytes.get(from..from + 4)?.try_into().ok()?));
    Some((word(0)? as usize, word(4)?))
}

/// The length of the first whole message in `bytes`, its type byte included.
pub(super) fn message(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize + 1;
    (bytes.len() >= length).then_some(length)
}

/// Where a write is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// A statement that writes and commits by itself.
    Statement,
    /// A statement that writes, in a transaction.
    InTransaction,
    /// COMMIT.
    Commit,
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Statement => "statement",
            Self::InTransaction => "in a transaction",
            Self::Commit => "COMMIT",
        })
    }
}

/// What a connection's client has said so far, as far as it matters.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// The prepared statements that write, by their names.
    statements: HashSet<Vec<u8>>,
    commits: HashSet<Vec<u8>>,
    /// Whether the server said that a transaction is open.
    pub(super) in_transaction: bool,
}

impl Listener {
    /// Takes in a client's message; what is written by it and all that comes up to the next [`ends`], if anything.
    pub(super) fn hear(&mut self, message: &[u8]) -> Option<Moment> {
        let (kind, body) = (message[0], &message[5..]);
        match kind {
            b'Q' => self.moment(writes(body), commits(body)),
            b'P' => {
                let (name, rest) = text(body);
                let (sql, _) = text(rest);
                for (names, is) in [(&mut self.statements, writes(sql)), (&mut self.commits, commits(sql))] {
                    if is {
                        names.insert(name.to_vec());
                    } else {
                        names.remove(name);
                    }
                }
                None
            }
            b'B' => {
                let (_portal, rest) = text(body);
                let (statement, _) = text(rest);
                self.moment(self.statements.contains(statement), self.commits.contains(statement))
            }
            _ => None,
        }
    }

    fn moment(&self, writes: bool, commits: bool) -> Option<Moment> {
        match (writes, commits) {
            (_, true) => Some(Moment::Commit),
            (true, false) if self.in_transaction => Some(Moment::InTransaction),
            (true, false) => Some(Moment::Statement),
            (false, false) => None,
        }
    }
}

/// Whether the server works off what came before this message: a query by itself, a Sync, or a Flush.
pub(super) fn ends(message: &[u8]) -> bool {
    matches!(message[0], b'Q' | b'S' | b'H')
}

/// Whether the server says that it is ready for the next query: the end of an answer. Says if a transaction is open.
pub(super) fn ready(message: &[u8]) -> Option<bool> {
    (message[0] == b'Z').then(|| message.get(5) == Some(&b'T'))
}

/// A text that ends with a zero byte, and what follows.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

fn writes(sql: &[u8]) -> bool {
    contains(sql, b"INSERT INTO EVENTS") || contains(sql, b"UPDATE LOG_IDENTITY")
}

fn commits(sql: &[u8]) -> bool {
    sql.trim_ascii_start().get(..6).is_some_and(|word| word.eq_ignore_ascii_case(b"COMMIT"))
}

fn contains(text: &[u8], upper: &[u8]) -> bool {
    text.windows(upper.len()).any(|part| part.eq_ignore_ascii_case(upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    #[test]
    fn a_message_is_cut_out_of_a_stream() {
        let bytes = [frame(b'Q', b"SELECT 1\0"), frame(b'X', b"")].concat();
        assert_eq!(message(&bytes), Some(14));
        assert_eq!(message(&bytes[..13]), None);
        assert_eq!(message(&bytes[14..]), Some(5));
        assert_eq!(first(&[0, 0, 0, 8, 4, 210, 22, 47]), Some((8, TLS_REQUEST)));
    }

    #[test]
    fn a_prepared_statement_that_writes_is_heard_when_it_is_bound() {
        let mut listener = Listener::default();
        assert_eq!(
            listener.hear(&frame(b'P', b"s1\0WITH x AS (UPDATE log_identity SET a = 1) SELECT\0\0\0")),
            None
        );
        assert_eq!(listener.hear(&frame(b'P', b"s2\0SELECT log_id FROM log_identity\0\0\0")), None);
        assert_eq!(listener.hear(&frame(b'B', b"\0s2\0")), None);
        assert_eq!(listener.hear(&frame(b'B', b"\0s1\0")), Some(Moment::Statement));
        listener.in_transaction = true;
        assert_eq!(listener.hear(&frame(b'B', b"\0s1\0")), Some(Moment::InTransaction));
        assert_eq!(listener.hear(&frame(b'P', b"s1\0SELECT 1\0\0\0")), None, "the name is used again");
        assert_eq!(listener.hear(&frame(b'B', b"\0s1\0")), None);
    }

    #[test]
    fn a_commit_is_heard_however_it_is_said() {
        let mut listener = Listener::default();
        assert_eq!(listener.hear(&frame(b'Q', b" commit\0")), Some(Moment::Commit));
        assert_eq!(listener.hear(&frame(b'P', b"\0COMMIT\0\0\0")), None);
        assert_eq!(listener.hear(&frame(b'B', b"\0\0")), Some(Moment::Commit));
        assert_eq!(listener.hear(&frame(b'Q', b"BEGIN; SELECT FROM log_identity FOR UPDATE\0")), None);
    }

    #[test]
    fn the_server_says_whether_a_transaction_is_open() {
        assert_eq!(ready(&frame(b'Z', b"T")), Some(true));
        assert_eq!(ready(&frame(b'Z', b"I")), Some(false));
        assert_eq!(ready(&frame(b'C', b"COMMIT\0")), None);
    }
}
