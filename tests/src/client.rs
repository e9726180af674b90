//! An HTTP client as any frontend has one.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{Answer, Begun, Live};

/// What the tests call themselves.
const USER_AGENT: &str = "daybook-tests";

/// The longest that a request may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Somebody who talks to one server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    token: Option<String>,
}

impl Client {
    /// Somebody who is not signed in.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            http: built(reqwest::Client::builder().user_agent(USER_AGENT), 0),
            base_url: base_url.into(),
            token: None,
        }
    }

    /// The same, with another program and from another address of this machine (`127.0.0.77`).
    ///
    /// # Panics
    ///
    /// When it is no address.
    #[must_use]
    pub fn from(&self, user_agent: &str, address: &str) -> Self {
        let address: IpAddr = address.parse().expect("an address");
        let http = reqwest::Client::builder().user_agent(user_agent).local_address(address);
        Self { http: built(http, 0), ..self.clone() }
    }

    /// The same, over a connection that is kept while it is not used, as a proxy's are.
    #[must_use]
    pub fn keeping_its_connection(&self) -> Self {
        Self { http: built(reqwest::Client::builder().user_agent(USER_AGENT), 1), ..self.clone() }
    }

    /// The same, with this access token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The same person on another server (or the same one, started again).
    #[must_use]
    pub fn at(&self, base_url: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), ..self.clone() }
    }

    /// Where the server is.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Signs in.
    ///
    /// # Panics
    ///
    /// When that does not succeed.
    pub async fn login(&self, email: &str, password: &str) -> Self {
        let answer = self.post("/v1/auth/login", &json!({"email": email, "password": password})).await;
        let tokens = answer.expect(200);
        self.with_token(tokens["access_token"].as_str().expect("an access token"))
    }

    /// A request that is still to be sent.
    pub fn request(&self, method: Method, path: &str) -> Request {
        let builder = self.http.request(method.clone(), format!("{}{path}", self.base_url));
        let builder = match &self.token {
            Some(token) => builder.bearer_auth(token),
            None => builder,
        };
        Request { shown: format!("{method} {path}"), builder }
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).send().await
    }

    /// Follows a view, from now on or behind what was told with an `id`.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn follow(&self, path: &str, after: Option<&str>) -> Live {
        let Request { shown, mut builder } = self.request(Method::GET, path);
        if let Some(id) = after {
            builder = builder.header("last-event-id", id);
        }
        let response = builder.send().await.unwrap_or_else(|error| panic!("{shown} was not answered: {error}"));
        Live::new(shown, response)
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.request(Method::POST, path).json(body).send().await
    }

    /// A command that is still to be sent.
    pub fn command(&self, name: &str, body: &Value) -> Request {
        self.request(Method::POST, &format!("/v1/commands/{name}")).json(body)
    }

    /// Sends a command but for its body, and waits until the server asks for that.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn begin(&self, name: &str, body: &Value) -> Begun {
        Begun::new(&self.base_url, self.token.as_deref(), &format!("/v1/commands/{name}"), body).await
    }

    /// Sends a command and answers its receipt.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn receipt(&self, name: &str, body: &Value) -> Value {
        self.command(name, body).send().await.expect(200)
    }

    /// All events that a query finds (`stream=order-…`), page after page.
    ///
    /// # Panics
    ///
    /// When a page is not answered.
    pub async fn events(&self, query: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.get(&format!("/v1/events?{query}{after}")).await.expect(200);
            events.append(page["data"].as_array_mut().expect("a page has data"));
            match page["next"].as_u64() {
                None => return events,
                Some(next) => after = format!("&after={next}"),
            }
        }
    }
}

/// How many connections it keeps that it does not use. That is none where nothing is said: a server that is to end waits for
/// whoever may still ask it.
fn built(http: reqwest::ClientBuilder, kept: usize) -> reqwest::Client {
    http.timeout(TIMEOUT).no_proxy().pool_max_idle_per_host(kept).build().expect("the client needs nothing")
}

/// A request that is still to be sent.
#[derive(Debug)]
#[must_use = "send it"]
pub struct Request {
    shown: String,
    builder: reqwest::RequestBuilder,
}

impl Request {
    /// Adds a header.
    pub fn header(self, name: &str, value: &str) -> Self {
        Self { builder: self.builder.header(name, value), ..self }
    }

    /// Sets the body to JSON.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<String>) -> Self {
        Self { builder: self.builder.body(body.into()), ..self }
    }

    /// Makes the server believe that this was sent before, when it was.
    pub fn idempotency_key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// Sends it.
    ///
    /// # Panics
    ///
    /// When no answer comes.
    pub async fn send(self) -> Answer {
        let shown = self.shown.clone();
        self.try_send().await.unwrap_or_else(|error| panic!("{shown} was not answered: {error}"))
    }

    /// Sends it to a server that may go away meanwhile.
    ///
    /// # Errors
    ///
    /// When no answer comes, or only a part of one.
    pub async fn try_send(self) -> Result<Answer, reqwest::Error> {
        let response = self.builder.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { request: self.shown, status, headers, body: response.text().await? })
    }
}
