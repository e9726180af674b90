//! A client of HTTP/1.1 that does next to nothing: it shares the cores with the server.
//!
//! Requests are put together beforehand, an answer's head is parsed, and its body taken as it is. One connection, one
//! request at a time.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// The most header fields of an answer.
const FIELDS_MAX: usize = 32;

/// A request, all but what differs from one sending to the next.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    head: String,
    body: String,
}

impl Request {
    /// A POST of JSON, by whoever the token belongs to.
    pub(crate) fn post(path: &str, token: Option<&str>, body: &Value) -> Self {
        let body = body.to_string();
        let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) \
             Gecko/20100101 Firefox/140.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             {authorization}"
        );
        Self { head, body }
    }

    /// A GET, by nobody in particular.
    pub(crate) fn get(path: &str) -> Self {
        Self { head: format!("GET {path} HTTP/1.1\r\nhost: bench\r\n"), body: String::new() }
    }

    /// The same, answered once it can be, as long as a server waits for that.
    pub(crate) fn waiting(mut self) -> Self {
        self.head.push_str("prefer: wait=60\r\n");
        self
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The body, when all went well.
    pub(crate) fn success(&self) -> anyhow::Result<&'a [u8]> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        bail!("answered {}: {}", self.status, String::from_utf8_lossy(self.body));
    }

    /// The body as JSON, when all went well.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(self.success()?)?)
    }
}

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    /// What came in; behind `held` bytes there is room.
    buffer: Vec<u8>,
    held: usize,
    /// How much of it the last answer took.
    taken: usize,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, out: Vec::new(), buffer: vec![0; 4_096], held: 0, taken: 0 })
    }

    /// Sends a request, with an idempotency key of its own if it is to have one, and waits for the answer.
    pub(crate) async fn send(&mut self, request: &Request, key: bool) -> anyhow::Result<Answer<'_>> {
        self.out.clear();
        self.out.extend_from_slice(request.head.as_bytes());
        if key {
            let key = Uuid::new_v4();
            self.out.extend_from_slice(format!("idempotency-key: {key}\r\n").as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(request.body.as_bytes());
        self.stream.write_all(&self.out).await?;
        self.buffer.copy_within(self.taken..self.held, 0);
        self.held -= self.taken;
        self.taken = 0;
        loop {
            if let Some((status, body)) = parse(&self.buffer[..self.held])? {
                self.taken = body.end;
                return Ok(Answer { status, body: &self.buffer[body] });
            }
            if self.held == self.buffer.len() {
                self.buffer.resize(2 * self.held, 0);
            }
            match self.stream.read(&mut self.buffer[self.held..]).await? {
                0 => bail!("the server closed the connection"),
                count => self.held += count,
            }
        }
    }
}

/// The status of an answer and where its body is; `None` when it is not all there yet.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<(u16, std::ops::Range<usize>)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    let status = response.code.context("an answer has a status")?;
    let length = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let length = length.with_context(|| format!("an answer ({status}) without a content-length"))?;
    let end = head + str::from_utf8(length.value)?.parse::<usize>()?;
    Ok((bytes.len() >= end).then_some((status, head..end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_last_byte() {
        let bytes = b"HTTP/1.1 409 Conflict\r\nContent-Length: 3\r\n\r\nnoX";
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]).expect("well-formed"), None, "{end} bytes");
        }
        let (status, body) = parse(bytes).expect("well-formed").expect("complete");
        let answer = Answer { status, body: &bytes[body] };
        assert_eq!(answer.success().expect_err("not a success").to_string(), "answered 409: noX");
    }

    #[test]
    fn what_is_no_http_is_no_answer() {
        assert!(parse(b"SSH-2.0-OpenSSH\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
