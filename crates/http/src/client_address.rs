//! Whose address a request comes from, whoever passed it on.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use actix_web::dev::ServiceRequest;
use actix_web::http::header::X_FORWARDED_FOR;
use ipnet::{IpNet, Ipv4Net};

/// The proxies that are believed when they say whom a request comes from. Whoever else says so is not: anybody can send
/// such a header.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl FromStr for TrustedProxies {
    type Err = ipnet::AddrParseError;

    /// Networks (`10.0.0.0/8`) and addresses, with commas between them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let network =
            |one: &str| one.parse().or_else(|error| one.parse::<IpAddr>().map(IpNet::from).map_err(|_| error));
        named.map(|one| network(one).map(canonical)).collect::<Result<_, _>>().map(Self)
    }
}

impl TrustedProxies {
    /// The address of the client that sent a request.
    pub(crate) fn client(&self, request: &ServiceRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        // A proxy adds the address that it sees to the end.
        let said = request.headers().get_all(X_FORWARDED_FOR);
        // What the client wrote into it may be no text at all, and what our proxies wrote behind that counts all the same.
        let said: Vec<_> = said.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        Some(self.client_of(peer, &said))
    }

    /// Goes from the peer back along what each proxy says it was sent by, for as long as that is a proxy of ours. What is
    /// further to the left is said by the client.
    fn client_of<L: AsRef<str>>(&self, peer: IpAddr, said: &[L]) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut before = said.iter().rev().flat_map(|line| line.as_ref().rsplit(',')).map(address);
        while self.contain(client) {
            let Some(Some(sender)) = before.next() else { break };
            client = sender;
        }
        client
    }

    fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// An address as a proxy writes it: some add the port, and some write brackets around one of IPv6 without it.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let plain = || text.parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    plain().or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}

/// A network of IPv4 in the clothes of IPv6 is one of IPv4, as its addresses are.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else { return network };
    let v4 = mapped.addr().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(96));
    v4.and_then(|(address, bits)| Ipv4Net::new(address, bits).ok()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn client(trusted: &str, peer: &str, said: &[&str]) -> String {
        let trusted: TrustedProxies = trusted.parse().expect("networks");
        trusted.client_of(peer.parse().expect("an address"), said).to_string()
    }

    #[test]
    fn nobody_is_believed_who_is_not_named() {
        assert_eq!(client("", "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("10.0.0.0/8", "192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("10.0.0.0/8", "10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn it_is_the_last_address_that_is_no_proxy() {
        let trusted = "10.0.0.0/8, 203.0.113.9";
        assert_eq!(client(trusted, "10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(trusted, "10.1.2.3", &["6.6.6.6, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client(trusted, "10.1.2.3", &["6.6.6.6, 198.51.100.7,203.0.113.9, 10.9.9.9"]), "198.51.100.7");
        assert_eq!(client(trusted, "10.1.2.3", &["6.6.6.6", "198.51.100.7", "10.9.9.9"]), "198.51.100.7");
        assert_eq!(client(trusted, "203.0.113.9", &["10.9.9.9"]), "10.9.9.9", "a proxy that asks for itself");
        assert_eq!(client(trusted, "203.0.113.9", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(client(trusted, "203.0.113.9", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(client(trusted, "203.0.113.9", &["[2001:db8::7]"]), "2001:db8::7");
        assert_eq!(client(trusted, "203.0.113.9", &["\t198.51.100.7 ", "  10.9.9.9\t"]), "198.51.100.7");
    }

    #[test]
    fn what_is_no_text_ends_the_search_where_it_stands() {
        let request = actix_web::test::TestRequest::default()
            .peer_addr("10.1.2.3:4711".parse().expect("an address"))
            .insert_header((X_FORWARDED_FOR, HeaderValue::from_bytes(b"\xff, 198.51.100.7").expect("a header")));
        let trusted: TrustedProxies = "10.0.0.0/8".parse().expect("networks");
        let client = trusted.client(&request.to_srv_request());
        assert_eq!(client.map(|client| client.to_string()).as_deref(), Some("198.51.100.7"));
    }

    #[test]
    fn what_is_no_address_ends_the_search() {
        let none = [
            "unknown",
            "",
            " ",
            "198.51.100",
            "_hidden",
            "198.51.100.7 6.6.6.6",
            "198.51.100.7:",
            "198.51.100.7:65536",
            "198.51.100.7:-1",
            "198.051.100.007",
            "0xc6336407",
            "198.51.100.7/32",
            "[198.51.100.7]",
            "[[2001:db8::7]]",
            "[2001:db8::7",
            "2001:db8::7]",
            "[]",
            "[2001:db8::7]:",
            "[2001:db8::7]:65536",
            "[ 2001:db8::7 ]",
            "fe80::7%eth0",
            "[fe80::7%eth0]",
            "\"[2001:db8::7]\"",
        ];
        for wrong in none {
            assert_eq!(
                client("10.0.0.0/8", "10.1.2.3", &[&format!("198.51.100.7, {wrong}")]),
                "10.1.2.3",
                "{wrong}"
            );
            let behind = format!("198.51.100.7, {wrong}, 10.9.9.9");
            assert_eq!(client("10.0.0.0/8", "10.1.2.3", &[&behind]), "10.9.9.9", "{wrong}");
        }
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        assert_eq!(client("10.0.0.0/8", "::ffff:10.1.2.3", &["::ffff:198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.0/104", "10.1.2.3", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("", "::ffff:192.0.2.1", &[]), "192.0.2.1");
        assert_eq!(client("2001:db8::/32", "2001:db8::1", &["2001:db9::1"]), "2001:db9::1");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in ["10.0.0.0/33", "proxy.example", "10.0.0", "10.0.0.0/8;10.0.0.0/8"] {
            assert!(wrong.parse::<TrustedProxies>().is_err(), "{wrong}");
        }
        assert!(" 10.0.0.0/8 ,, ::1,".parse::<TrustedProxies>().is_ok_and(|trusted| trusted.0.len() == 2));
    }
}
