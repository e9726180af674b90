//! The same views, written by hand: nothing but the work. What the projectors are compared with.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::ensure;
use clap::{ArgMatches, Command};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::{FilledView, store};
use crate::row_stream::{EVENTS, Event, read_all};
use crate::{arguments, process};

/// How many events a page has: as many as the projectors' have.
const PAGE: i64 = 1_000;

/// How many bytes of rows are sent at a time.
const CHUNK_BYTES: usize = 256 << 10;

pub(crate) fn commands() -> [Command; 2] {
    [
        Command::new("rebuild-by-hand").about("Folds a filled log into a table by hand").args(store()),
        Command::new("project-by-hand").about("Projects a filled log page by page by hand").args(store()),
    ]
}

async fn connect(arguments: &ArgMatches) -> anyhow::Result<(PgConnection, PgConnection)> {
    let log = PgConnection::connect(arguments::text(arguments, "url")?).await?;
    Ok((log, PgConnection::connect(arguments::text(arguments, "views-url")?).await?))
}

/// A row stream into a map, two COPY streams into a table without an index, and then its key.
pub(crate) async fn rebuild(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let (mut log, mut one) = connect(arguments).await?;
    let mut other = PgConnection::connect(arguments::text(arguments, "views-url")?).await?;
    sqlx::raw_sql(
        "DROP TABLE IF EXISTS by_hand; CREATE TABLE by_hand (key text COLLATE \"C\" NOT NULL, body jsonb)",
    )
    .execute(&mut one)
    .await?;
    let begun = Instant::now();
    let mut documents: HashMap<String, FilledView> = HashMap::new();
    let head = read_all(&mut log, |Event { stream, event, .. }| {
        let Some(event) = event else { return Ok(()) };
        let (_, id) = stream.split_once('-').unwrap_or_default();
        match documents.get_mut(id) {
            Some(document) => document.apply(&event),
            None => documents.entry(id.to_owned()).or_default().apply(&event),
        }
        Ok(())
    })
    .await?;
    let folded = begun.elapsed();
    let mut documents: Vec<_> = documents.into_iter().collect();
    let rest = documents.split_off(documents.len() / 2);
    let copying = tokio::spawn(async move { copy(&mut other, &rest).await });
    copy(&mut one, &documents).await?;
    copying.await??;
    let copied = begun.elapsed();
    sqlx::raw_sql("ALTER TABLE by_hand ADD PRIMARY KEY (key)").execute(&mut one).await?;
    Ok(json!({
        "per_second": head as f64 / begun.elapsed().as_secs_f64(),
        "folded_s": folded.as_secs_f64(),
        "copied_s": copied.as_secs_f64(),
        "peak_mib": process::memory_mib(None, "VmHWM"),
    }))
}

async fn copy(connection: &mut PgConnection, documents: &[(String, FilledView)]) -> anyhow::Result<()> {
    let mut sink = connection.copy_in_raw("COPY by_hand (key, body) FROM STDIN").await?;
    let mut rows = String::new();
    for (key, document) in documents {
        // JSON has no raw control characters; all that is special to COPY in it is the backslash.
        let body = serde_json::to_string(document)?.replace('\\', "\\\\");
        rows.extend([key, "\t", &body, "\n"]);
        if rows.len() >= CHUNK_BYTES {
            sink.send(rows.as_bytes()).await?;
            rows.clear();
        }
    }
    sink.send(rows.as_bytes()).await?;
    Ok(sink.finish().await.map(drop)?)
}

/// Page by page, the next one read while documents and checkpoint are written in one statement. What a page changes is read
/// first: a log is longer than what fits into memory.
pub(crate) async fn project(arguments: &ArgMatches) -> anyhow::Result<Value> {
    let (mut log, mut views) = connect(arguments).await?;
    sqlx::raw_sql(
        "CREATE TABLE by_hand (key text COLLATE \"C\" PRIMARY KEY, body jsonb); \
         CREATE TABLE reached (position bigint NOT NULL); INSERT INTO reached VALUES (0)",
    )
    .execute(&mut views)
    .await?;
    let begun = Instant::now();
    let (mut position, mut page) = (0, page(&mut log, 0).await?);
    while let Some(last) = page.last().map(|event| event.position) {
        let events: Vec<_> = page
            .iter()
            .filter_map(|Event { stream, event, .. }| Some((stream.split_once('-')?.1, event.as_ref()?)))
            .collect();
        let keys: Vec<_> = events.iter().map(|(key, _)| *key).collect();
        let stored: Vec<(String, String)> =
            sqlx::query_as("SELECT key, body::text FROM by_hand WHERE key = ANY($1)")
                .bind(keys)
                .fetch_all(&mut views)
                .await?;
        let parsed = |(key, body): &(String, String)| anyhow::Ok((key.clone(), serde_json::from_str(body)?));
        let mut documents: HashMap<String, FilledView> = stored.iter().map(parsed).collect::<Result<_, _>>()?;
        for (key, event) in events {
            documents.entry(key.to_owned()).or_default().apply(event);
        }
        let bodies = documents.values().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = documents.into_keys().collect();
        let write = sqlx::query(
            "WITH written AS (INSERT INTO by_hand SELECT key, body::jsonb FROM unnest($1::text[], $2::text[]) \
             AS new (key, body) ON CONFLICT (key) DO UPDATE SET body = excluded.body) \
             UPDATE reached SET position = $3 WHERE position = $4",
        )
        .bind(keys)
        .bind(bodies)
        .bind(last)
        .bind(position);
        let (next, written) = tokio::join!(self::page(&mut log, last), write.execute(&mut views));
        ensure!(written?.rows_affected() == 1, "somebody else projects it");
        (position, page) = (last, next?);
    }
    Ok(json!({"per_second": position as f64 / begun.elapsed().as_secs_f64()}))
}

async fn page(log: &mut PgConnection, mut last: i64) -> anyhow::Result<Vec<Event>> {
    let mut page = Vec::with_capacity(PAGE as usize);
    let mut rows = sqlx::query(EVENTS).bind(last).bind(PAGE).fetch(log);
    while let Some(row) = rows.try_next().await? {
        let event = Event::of(&row, last)?;
        last = event.position;
        page.push(event);
    }
    Ok(page)
}
