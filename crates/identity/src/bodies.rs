//! What comes in and goes out, in JSON.

use std::fmt;

use daybook_core::FieldError;
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{IdentityError, Secret};

/// The body of `register`.
#[derive(Debug, Clone, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The e-mail address to sign in with, at most 254 bytes. Upper and lower case are not told apart.
    #[garde(email, length(bytes, max = 254))]
    pub email: String,
    /// The password: 8 to 128 characters, none of the commonest.
    #[garde(custom(new_password))]
    pub password: Secret,
    /// The holder's name: 1 to 200 characters.
    #[garde(length(chars, min = 1, max = 200), custom(printable))]
    pub name: String,
}

/// The body of `login`.
#[derive(Debug, Clone, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The account's e-mail address.
    #[garde(length(bytes, max = 254))]
    pub email: String,
    /// Its password.
    #[garde(custom(bounded))]
    pub password: Secret,
}

/// The body of `refresh`.
#[derive(Debug, Clone, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The newest refresh token of the session.
    #[garde(custom(bounded))]
    pub refresh_token: Secret,
}

/// The body of `logout`.
#[derive(Debug, Clone, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Logout {
    /// A refresh token of the session.
    #[garde(custom(bounded))]
    pub refresh_token: Secret,
}

/// What `login` and `refresh` answer.
#[derive(Clone, Serialize, JsonSchema)]
pub struct Tokens {
    /// The token to send with each request, as `Authorization: Bearer …`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// How long the access token is good for, in seconds.
    pub expires_in: u64,
    /// The token to get the next tokens with, once.
    pub refresh_token: String,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// Passwords that are tried first everywhere.
const COMMONEST: [&str; 24] = [
    "password",
    "12345678",
    "123456789",
    "1234567890",
    "11111111",
    "00000000",
    "87654321",
    "88888888",
    "12341234",
    "123123123",
    "qwertyui",
    "qwertyuiop",
    "qwerty123",
    "1q2w3e4r",
    "1qaz2wsx",
    "asdfghjk",
    "password1",
    "password123",
    "passw0rd",
    "iloveyou",
    "sunshine",
    "football",
    "baseball",
    "princess",
];

fn new_password(password: &Secret, (): &()) -> garde::Result {
    let length = password.expose().chars().count();
    if !(8..=128).contains(&length) {
        return Err(garde::Error::new("must have 8 to 128 characters"));
    }
    if COMMONEST.contains(&password.expose().to_lowercase().as_str()) {
        return Err(garde::Error::new("is one of the commonest passwords"));
    }
    Ok(())
}

/// No password and no token is longer than this, in bytes.
const SECRET_BYTES_MAX: usize = 128 * 4;

fn bounded(secret: &Secret, (): &()) -> garde::Result {
    if secret.expose().len() > SECRET_BYTES_MAX { Err(garde::Error::new("is too long")) } else { Ok(()) }
}

fn printable(name: &str, (): &()) -> garde::Result {
    if name.trim().is_empty() {
        return Err(garde::Error::new("is blank"));
    }
    if name.chars().any(char::is_control) {
        return Err(garde::Error::new("holds a control character"));
    }
    Ok(())
}

/// An e-mail address in the one form that is compared.
pub(crate) fn normalized(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Validates a registration that did not come in as JSON.
pub(crate) fn validate(registration: &Registration) -> Result<(), IdentityError> {
    registration.validate().map_err(|report| {
        let field = |(path, error): &(garde::Path, garde::Error)| FieldError {
            field: path.to_string(),
            message: error.message().to_owned(),
        };
        IdentityError::Invalid(report.iter().map(field).collect())
    })
}

/// Validates a new password that did not come in as JSON.
pub(crate) fn validate_password(password: &Secret) -> Result<(), IdentityError> {
    new_password(password, &()).map_err(|error| {
        IdentityError::Invalid(vec![FieldError { field: "password".into(), message: error.message().to_owned() }])
    })
}

#[cfg(test)]
mod tests {
    use daybook_core::{InputError, decode_json};
    use serde_json::json;

    use super::*;

    fn register(email: &str, password: &str, name: &str) -> Result<Registration, InputError> {
        decode_json(json!({"email": email, "password": password, "name": name}).to_string().as_bytes())
    }

    #[track_caller]
    fn check_invalid(result: Result<Registration, InputError>, field: &str) {
        match result {
            Err(InputError::Invalid(errors)) => assert_eq!(errors[0].field, field),
            other => panic!("taken: {other:?}"),
        }
    }

    #[test]
    fn a_password_of_8_to_128_characters_is_taken_unmodified() {
        for password in ["a good one", &"\u{1F511}".repeat(64), &"é".repeat(128)] {
            let registration = register("a@example.com", password, "A").expect("valid");
            assert_eq!(registration.password.expose(), password);
        }
    }

    #[test]
    fn passwords_too_short_too_long_or_too_common_are_refused() {
        for password in ["7 chars", &"é".repeat(129), "PassWord123"] {
            check_invalid(register("a@example.com", password, "A"), "password");
        }
    }

    #[test]
    fn what_is_no_address_and_no_name_is_refused() {
        check_invalid(register("nobody", "a good one", "A"), "email");
        check_invalid(register(&format!("{}@example.com", "a".repeat(250)), "a good one", "A"), "email");
        for name in ["", "  ", "a\nb", "\u{1b}[31m", &"x".repeat(201)] {
            check_invalid(register("a@example.com", "a good one", name), "name");
        }
    }

    #[test]
    fn a_role_cannot_be_asked_for() {
        let body = json!({"email": "a@example.com", "password": "a good one", "name": "A", "role": "admin"});
        assert!(matches!(
            decode_json::<Registration>(body.to_string().as_bytes()),
            Err(InputError::Shape(error)) if error.field == "role"
        ));
    }

    #[test]
    fn secrets_are_not_printed() {
        let registration = register("a@example.com", "a good one", "A").expect("valid");
        assert!(!format!("{registration:?}").contains("a good one"));
    }
}
