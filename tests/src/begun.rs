//! A request that is under way for as long as a test wants it to be.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Answer;

/// The longest that the server may take for a part of its answer.
const LIMIT: Duration = Duration::from_secs(60);

/// What the server says when it has begun with a request and wants the body (RFC 9110, section 10.1.1).
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

/// A request that the server has begun with, and whose body is still to be sent.
#[derive(Debug)]
#[must_use = "finish it"]
pub struct Begun {
    shown: String,
    connection: TcpStream,
    body: String,
}

impl Begun {
    pub(crate) async fn new(base_url: &str, token: Option<&str>, path: &str, body: &Value) -> Self {
        let address = base_url.strip_prefix("http://").expect("the server is asked without TLS");
        let mut connection = TcpStream::connect(address).await.expect("the server listens");
        let body = body.to_string();
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\n{token}content-type: application/json\r\n\
             content-length: {}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
            body.len(),
        );
        connection.write_all(head.as_bytes()).await.expect("the server reads");
        let mut begun = vec![0; CONTINUE.len()];
        timeout(LIMIT, connection.read_exact(&mut begun)).await.expect("in time").expect("the server answers");
        assert_eq!(String::from_utf8_lossy(&begun), CONTINUE, "POST {path}");
        Self { shown: format!("POST {path}"), connection, body }
    }

    /// Sends the body.
    ///
    /// # Panics
    ///
    /// When no whole answer comes.
    pub async fn finish(mut self) -> Answer {
        let shown = self.shown;
        let mut answer = String::new();
        let exchange = async {
            self.connection.write_all(self.body.as_bytes()).await?;
            self.connection.read_to_string(&mut answer).await
        };
        let end = timeout(LIMIT, exchange).await.unwrap_or_else(|_| panic!("{shown} was not answered"));
        end.unwrap_or_else(|error| panic!("{shown} was not answered: {error}"));
        parse(&answer, &shown).unwrap_or_else(|| panic!("{shown} was answered {answer:?}"))
    }
}

/// Takes an answer apart whose body goes up to the end of the connection.
fn parse(answer: &str, request: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let (status_line, fields) = head.split_once("\r\n")?;
    let mut headers = HeaderMap::new();
    for field in fields.lines() {
        let (name, value) = field.split_once(':')?;
        headers.insert(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.trim()).ok()?);
    }
    Some(Answer {
        request: request.to_owned(),
        status: status_line.split(' ').nth(1)?.parse().ok()?,
        headers,
        body: body.to_owned(),
    })
}
