//! Every failure as a problem document (RFC 9457), and nowhere else.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use daybook_core::{FieldError, InputError, Position, Rejection, RejectionKind};
use daybook_dispatch::DispatchError;
use daybook_identity::IdentityError;
use daybook_keys::KeyError;
use daybook_log::LogError;
use daybook_views::ViewError;
use serde::Serialize;

/// A failure, as the client is told of it. The middleware adds the correlation id and writes it out.
#[derive(Debug, Clone, Serialize)]
pub struct Problem(Box<Document>);

/// The document itself: a failure as a problem document (RFC 9457).
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Document {
    /// `urn:daybook:error:` and the code. Explained in `docs/errors.md`.
    #[serde(rename = "type")]
    kind: String,
    /// The meaning of the status.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Stable: what programs tell failures apart by.
    code: String,
    /// What happened, for people.
    detail: String,
    /// The offending field; the first one when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Every offending field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// `not_yet`, `not_happened`: the position that the view has reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// `precondition_failed`: the revision that the aggregate is at.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// The request's correlation id, which the server's own log bears too.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
    #[serde(skip)]
    allow: Option<&'static str>,
    /// What happened inside. Goes to the log, never to the client.
    #[serde(skip)]
    cause: Option<String>,
}

impl Problem {
    /// A failure with a status, a code and a sentence.
    pub fn new(status: StatusCode, code: impl Into<String>, detail: impl Into<String>) -> Self {
        let code = code.into();
        Self(Box::new(Document {
            kind: format!("urn:daybook:error:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            field: None,
            errors: Vec::new(),
            position: None,
            revision: None,
            correlation_id: None,
            retry_after_s: None,
            allow: None,
            cause: None,
        }))
    }

    fn with(mut self, set: impl FnOnce(&mut Document)) -> Self {
        set(&mut self.0);
        self
    }

    /// A header or a query parameter that cannot be used.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", detail).field(name)
    }

    /// There is no such thing, or not for this actor.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// Signing in is needed first.
    pub fn sign_in() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "This needs an access token: sign in first.")
    }

    /// The actor may not do this.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Your roles do not allow this.")
    }

    /// Something that is needed does not answer just now.
    pub fn unavailable(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).with(|document| document.retry_after_s = Some(1))
    }

    /// No answer was found in time. A command may have been carried out all the same.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        let detail = "This took too long. If it was a command, whether it was carried out is not known; trying again \
                      with the same idempotency key is safe.";
        Self::unavailable("timed_out", detail).because(format_args!("no answer within {limit:?}"))
    }

    /// The method is not one of those allowed here.
    pub fn method(allow: &'static str) -> Self {
        let detail = format!("This address answers {allow} only.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
            .with(|document| document.allow = Some(allow))
    }

    /// A failure of the program. What happened goes to the log, not to the client.
    pub fn internal(cause: &dyn fmt::Display) -> Self {
        let detail = "Something went wrong on our side. The correlation id helps to find out what.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).because(cause)
    }

    /// The problem behind an error, whoever found it.
    pub(crate) fn of(error: &actix_web::Error) -> Self {
        let status = error.as_response_error().status_code();
        match error.as_error::<Self>() {
            Some(problem) => problem.clone(),
            None if status.is_client_error() => Self::new(status, "invalid_request", error.to_string()),
            None => Self::internal(error),
        }
    }

    /// Remembers what happened inside, for the log.
    fn because(self, cause: impl fmt::Display) -> Self {
        self.with(|document| document.cause = Some(cause.to_string()))
    }

    /// What happened inside.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// Names the offending field.
    #[must_use]
    pub fn field(self, field: impl Into<String>) -> Self {
        self.with(|document| document.field = Some(field.into()))
    }

    /// Says how far the view is.
    pub(crate) fn position(self, reached: Position) -> Self {
        self.with(|document| document.position = Some(reached.get()))
    }

    /// Names all the offending fields.
    fn fields(self, errors: Vec<FieldError>) -> Self {
        self.with(|document| {
            document.field = errors.first().map(|error| error.field.clone());
            document.errors = errors;
        })
    }

    /// Its code.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// Bears the correlation id of the request that failed.
    pub(crate) fn correlated(self, id: &str) -> Self {
        self.with(|document| document.correlation_id = Some(id.to_owned()))
    }

    /// The whole answer, with the correlation id that the middleware knows.
    pub(crate) fn to_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut response = HttpResponse::build(status);
        if let Some(seconds) = self.0.retry_after_s {
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if let Some(methods) = self.0.allow {
            response.insert_header((ALLOW, methods));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        response.content_type("application/problem+json").body(body)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.to_response()
    }
}

impl From<InputError> for Problem {
    fn from(error: InputError) -> Self {
        let detail = error.to_string();
        match error {
            InputError::Malformed(_) => Self::new(StatusCode::BAD_REQUEST, "malformed_json", detail),
            InputError::Shape(error) => {
                Self::new(StatusCode::BAD_REQUEST, "invalid_body", detail).fields(vec![error])
            }
            InputError::Invalid(errors) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail).fields(errors)
            }
        }
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let status = match rejection.kind {
            RejectionKind::Rule => StatusCode::UNPROCESSABLE_ENTITY,
            RejectionKind::Conflict => StatusCode::CONFLICT,
            RejectionKind::NotFound => StatusCode::NOT_FOUND,
        };
        Self::new(status, rejection.code, rejection.message).with(|document| document.field = rejection.field)
    }
}

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Self {
        let detail = error.to_string();
        match error {
            DispatchError::Input(error) => error.into(),
            DispatchError::SignIn => Self::sign_in(),
            DispatchError::Denied => Self::forbidden(),
            DispatchError::NotTheirs => Self::not_found("There is no such thing, or it is not yours."),
            DispatchError::Rejected(rejection) => rejection.into(),
            DispatchError::Precondition { actual, .. } => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "precondition_failed",
                format!("It has changed meanwhile: {detail}."),
            )
            .with(|document| document.revision = Some(actual.get())),
            DispatchError::Conflict => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                "Others kept changing what this decides over until the time for it was up. Try again.",
            ),
            DispatchError::InFlight => Self::new(
                StatusCode::CONFLICT,
                "in_flight",
                "The same command with the same idempotency key is being worked on.",
            )
            .with(|document| document.retry_after_s = Some(1)),
            DispatchError::KeyReused => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "This idempotency key was used before, with another body.",
            ),
            DispatchError::Log(error) => error.into(),
            DispatchError::Keys(error) => error.into(),
            DispatchError::Unrecorded(cause) => match &*cause {
                DispatchError::Log(LogError::Busy) => LogError::Busy.into(),
                DispatchError::Log(
                    LogError::Unavailable(_) | LogError::Closed | LogError::Unknown | LogError::History(_),
                ) => {
                    let told = "What became of this could not be recorded. Nothing came of it. Try again.";
                    Self::unavailable("unavailable", told).because(detail)
                }
                _ => Self::internal(&detail),
            },
            DispatchError::Internal(cause) => Self::internal(&cause),
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unavailable(_) | KeyError::UnknownMaster { .. } | KeyError::Master(_) => {
                Self::unavailable("unavailable", "The keys of personal data are not available. Try again.")
                    .because(error)
            }
            KeyError::Damaged(_) | KeyError::Database(_) | KeyError::Cipher => Self::internal(&error),
        }
    }
}

impl From<LogError> for Problem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Busy => Self::unavailable("busy", "Too much is being written just now. Try again."),
            LogError::Unavailable(cause) => {
                Self::unavailable("unavailable", "The log is not available. Nothing was written. Try again.")
                    .because(cause)
            }
            LogError::Closed => Self::unavailable("unavailable", "This server is shutting down."),
            LogError::Unknown => Self::unavailable(
                "outcome_unknown",
                "The connection to the log broke in the middle. Whether this was written is not known; trying again \
                 with the same idempotency key is safe.",
            ),
            LogError::History(_) => Self::unavailable(
                "unavailable",
                "The log was restored. This server ends. Nothing was written. Try again.",
            )
            .because(error),
            error => Self::internal(&error),
        }
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Refused(reason) => Self::new(StatusCode::CONFLICT, "not_possible", reason),
            ViewError::Unknown(view) => Self::not_found(format!("There is no view `{view}`.")),
            ViewError::NotYet { reached } => {
                Self::unavailable("not_yet", "The view has not reached `min_position` yet. Try again.")
                    .position(reached)
            }
            ViewError::NotReady { .. } => Self::unavailable("view_not_ready", format!("{error}.")),
            ViewError::TooLong => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "history_too_long", format!("{error}."))
            }
            ViewError::Busy => Self::unavailable("busy", "The log is being read for somebody else. Try again."),
            ViewError::Unavailable(cause) => {
                Self::unavailable("unavailable", "The views are not available. Try again.").because(cause)
            }
            ViewError::Log(error) => error.into(),
            error => Self::internal(&error),
        }
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Invalid(errors) => InputError::Invalid(errors).into(),
            IdentityError::InvalidCredentials => Self::new(
                StatusCode::UNAUTHORIZED,
                "invalid_credentials",
                "The e-mail address or the password is wrong.",
            ),
            IdentityError::InvalidToken => {
                Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "The token is not valid, or not any more.")
            }
            IdentityError::Busy => Self::unavailable("busy", "Too many are signing in just now. Try again."),
            IdentityError::Unavailable(cause) => {
                Self::unavailable("unavailable", "Signing in is not possible just now. Try again.").because(cause)
            }
            IdentityError::Dispatch(error) => error.into(),
            IdentityError::Internal(cause) => Self::internal(&cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use daybook_log::HistoryError;

    use super::*;

    /// Whether something was written is known or it is not, and never is the answer a "no" that could be wrong.
    #[test]
    fn what_the_log_could_not_say_is_503_and_can_be_tried_again() {
        let told = |error: LogError| {
            let answer = Problem::from(DispatchError::from(error)).to_response();
            let retry = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok().map(str::to_owned));
            (answer.status().as_u16(), retry.as_deref() == Some("1"))
        };
        let history = HistoryError::OtherEvent(Position::new(1));
        let errors = [
            LogError::Unknown,
            LogError::Busy,
            LogError::Closed,
            LogError::Unavailable("away".into()),
            history.into(),
        ];
        for error in errors {
            let shown = error.to_string();
            assert_eq!(told(error), (503, true), "{shown}");
        }
        assert_eq!(Problem::from(LogError::Unknown).code(), "outcome_unknown");
        assert_eq!(Problem::timed_out(Duration::from_secs(1)).to_response().status().as_u16(), 503);
    }
}
