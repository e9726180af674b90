//! A business rule said no.

use std::borrow::Cow;
use std::fmt;

/// A rule's "no": a stable code that programs can tell apart, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Stable and documented: `out_of_stock`.
    pub code: Cow<'static, str>,
    /// One sentence for the person who sent the command. It is recorded, so it holds nothing personal.
    pub message: String,
    /// Which kind of no this is.
    pub kind: RejectionKind,
    /// The field of the command that it is about.
    pub field: Option<String>,
}

/// The kinds of "no" that an answer tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionKind {
    /// A rule does not allow it.
    Rule,
    /// It clashes with what is there already: a taken name, a thing made before.
    Conflict,
    /// What the command is about does not exist.
    NotFound,
}

impl Rejection {
    /// A rule does not allow it.
    pub fn rule(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), kind: RejectionKind::Rule, field: None }
    }

    /// It clashes with what is there already.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: RejectionKind::Conflict, ..Self::rule(code, message) }
    }

    /// What the command is about does not exist.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self { kind: RejectionKind::NotFound, ..Self::rule("not_found", format!("There is no such {what}.")) }
    }

    /// Names the field that it is about (`lines[1].product_id`).
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
