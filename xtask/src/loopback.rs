//! The loopback interface, where all our servers listen.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context;

/// Ports that nobody listens on, each another one.
///
/// # Errors
///
/// When there are none.
pub(crate) fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    // All are held until the last one is found.
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on the loopback interface")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
