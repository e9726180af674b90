//! The least that a server can do: plain actix, with the bytes in memory. What `query.key` is compared with.

use std::net::SocketAddr;
use std::process::Stdio;

use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer};
use anyhow::Context;
use clap::{Arg, ArgMatches, Command};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::arguments;

pub(crate) fn command() -> Command {
    Command::new("plain")
        .about("Answers every request with the same bytes, until it is killed")
        .arg(Arg::new("body").long("body").value_name("TEXT").required(true))
}

/// Serves, with as many workers as Daybook has; says where on its standard output.
pub(crate) fn serve(arguments: &ArgMatches) -> anyhow::Result<()> {
    let body = Bytes::from(arguments::text(arguments, "body")?.to_owned());
    actix_web::rt::System::new().block_on(async {
        let answer = move || {
            let body = body.clone();
            async move { HttpResponse::Ok().content_type("application/json").body(body) }
        };
        let server =
            HttpServer::new(move || App::new().default_service(web::to(answer.clone()))).bind(("127.0.0.1", 0))?;
        println!("{}", server.addrs().first().context("it listens somewhere")?);
        Ok(server.run().await?)
    })
}

/// Such a server, as a process of its own. It is killed when this is dropped.
pub(super) struct Plain {
    _child: Child,
    address: SocketAddr,
}

impl Plain {
    pub(super) async fn start(body: &[u8]) -> anyhow::Result<Self> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(["plain", "--body", str::from_utf8(body)?]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("its output is ours")?).lines();
        let address = lines.next_line().await?.context("it says where it listens")?.parse()?;
        Ok(Self { _child: child, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}
