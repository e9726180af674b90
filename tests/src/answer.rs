//! What the server answered.

use reqwest::header::HeaderMap;
use serde_json::Value;

/// The page that explains every code.
const ERRORS: &str = include_str!("../../docs/errors.md");

/// What the server answered to one request.
#[derive(Debug)]
pub struct Answer {
    /// The request, for the messages of failed tests.
    pub request: String,
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: String,
}

impl Answer {
    /// A header's value; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    /// The body as JSON, of an answer with this status.
    ///
    /// # Panics
    ///
    /// When the status is another.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// The problem document of a failure with this status, checked for what every one has (RFC 9457).
    ///
    /// # Panics
    ///
    /// When the status is another, or something is missing.
    #[track_caller]
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self}");
        let problem = self.json();
        for member in ["type", "title", "code", "correlation_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "no `{member}`: {self}");
        }
        assert_eq!(problem["status"], status, "{self}");
        let row = format!("| `{}` | {status} |", problem["code"].as_str().unwrap_or_default());
        assert!(ERRORS.contains(&row), "docs/errors.md does not explain it: {self}");
        problem
    }

    /// The same, with this code.
    ///
    /// # Panics
    ///
    /// When the code is another.
    #[track_caller]
    pub fn problem_code(&self, status: u16, code: &str) -> Value {
        let problem = self.problem(status);
        assert_eq!(problem["code"], code, "{self}");
        problem
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was answered {}: {}", self.request, self.status, self.body)
    }
}
