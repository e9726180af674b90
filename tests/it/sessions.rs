//! Accounts and sessions.

use daybook_tests::{Answer, Backend, Client, Customer, Daybook, on_both};
use reqwest::Method;
use serde_json::{Value, json};

on_both!(accounts_and_sessions_keep_their_rules);

const OWN_AGENT: &str = "a browser";

async fn accounts_and_sessions_keep_their_rules(backend: Backend) {
    let daybook = Daybook::demo(backend).await;
    a_refresh_token_is_good_for_one_use(&daybook).await;
    logout_ends_the_session(&daybook).await;
    an_address_has_one_account(&daybook).await;
}

async fn a_refresh_token_is_good_for_one_use(daybook: &Daybook) {
    let client = daybook.client();
    let first = login(daybook).await;
    assert_eq!(first["token_type"], "Bearer");
    assert!(first["expires_in"].as_u64().is_some_and(|seconds| (60..=3_600).contains(&seconds)), "{first}");

    let second = refresh(&client, &first, OWN_AGENT).await.expect(200);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    let customer = client.with_token(second["access_token"].as_str().expect("an access token"));
    customer.get("/v1/views/orders").await.expect(200);

    // Two requests of the same client that crossed: one use is enough, and the session goes on.
    refresh(&client, &first, OWN_AGENT).await.problem(401);
    let third = refresh(&client, &second, OWN_AGENT).await.expect(200);
    // Another client with a used token has stolen it, so the session ends for both.
    refresh(&client, &second, "a thief").await.problem(401);
    refresh(&client, &third, OWN_AGENT).await.problem(401);
    customer.get("/v1/views/orders").await.problem(401);
}

async fn logout_ends_the_session(daybook: &Daybook) {
    let client = daybook.client();
    let session = login(daybook).await;
    let token = json!({"refresh_token": session["refresh_token"]});
    client.post("/v1/auth/logout", &token).await.expect(204);
    refresh(&client, &session, OWN_AGENT).await.problem(401);
}

async fn an_address_has_one_account(daybook: &Daybook) {
    let customer = Customer::register(&daybook.client()).await;
    for email in [customer.email.clone(), customer.email.to_uppercase()] {
        let account = json!({"email": email, "password": "three-lions-on-a-hill", "name": "Another"});
        daybook.client().post("/v1/auth/register", &account).await.problem(409);
    }
}

async fn login(daybook: &Daybook) -> Value {
    let user = daybook.demo_users().remove(0);
    let credentials = json!({"email": user.email, "password": user.password});
    let login = daybook.client().request(Method::POST, "/v1/auth/login").header("user-agent", OWN_AGENT);
    login.json(&credentials).send().await.expect(200)
}

async fn refresh(client: &Client, tokens: &Value, agent: &str) -> Answer {
    let body = json!({"refresh_token": tokens["refresh_token"]});
    client.request(Method::POST, "/v1/auth/refresh").header("user-agent", agent).json(&body).send().await
}
