//! Where a database is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// Where a database is. Its text is the URL of a PostgreSQL server.
#[derive(Debug, Clone)]
pub enum Location {
    /// `postgres://user:password@host:port/database?…`
    Postgres(Box<PgConnectOptions>),
    /// The path of a file.
    Sqlite(PathBuf),
}

/// Why a text is not a [`Location`].
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// It looks like a PostgreSQL URL and is none. What is said of it does not quote it: it may hold a password.
    #[error("not a PostgreSQL URL: {0}")]
    Postgres(sqlx::Error),
    /// It is not one at all.
    #[error("expected `postgres://…`; an embedded store is a folder, named with `--data`")]
    Scheme,
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let options: PgConnectOptions = text.parse().map_err(LocationError::Postgres)?;
            Ok(Self::Postgres(Box::new(options.application_name("daybook"))))
        } else {
            Err(LocationError::Scheme)
        }
    }
}

/// Without the password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(options) => write!(
                f,
                "postgres://{}@{}:{}/{}",
                options.get_username(),
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_else(|| options.get_username()),
            ),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_shown_without_its_password() {
        let location: Location = "postgres://me:secret@localhost:5433/shop".parse().expect("valid");
        assert_eq!(location.to_string(), "postgres://me@localhost:5433/shop");
    }

    #[test]
    fn what_is_no_location_is_refused() {
        for text in ["", "mysql://a/b", "shop.db", "sqlite:shop.db"] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for rest in ["host:notaport/db", "ho st/db", "h/db?sslmode=no", "h/db?port=no", "[::/db"] {
            let error = format!("postgres://u:s3cret@{rest}").parse::<Location>().expect_err(rest);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
