//! The web pages that may call a server through a browser.
//!
//! A server on a loopback address is reachable for every page that its user opens. The browser
//! names the page in `Origin`, and in `Host` the name under which the page reached the server. A
//! page that points a name of its own at a loopback address (DNS rebinding) is recognised by that
//! name.

use std::net::IpAddr;

/// The web pages that may call a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Pages {
    /// Headers are not checked, and browsers keep answers from pages of other origins: for servers
    /// that authenticate every request, or that have neither secrets nor methods.
    #[default]
    Unchecked,
    /// No page may call, not even one of this machine: for servers of programs other than browsers,
    /// which also reach them under these names in `Host`, as [`Access::hosts`].
    Refused { hosts: Vec<String> },
    /// Pages of this machine, browser extensions, and the pages that [`Access`] lists.
    Allowed(Access),
}

impl Pages {
    /// `host` is the value of the header; it is absent in requests of simple clients.
    pub(super) fn allow_host(&self, host: Option<&str>) -> bool {
        match self {
            Pages::Unchecked => true,
            Pages::Refused { hosts } => allows_host(hosts, host),
            Pages::Allowed(access) => access.allows_host(host),
        }
    }

    /// `origin` is the value of the header. Programs other than browsers send none.
    pub(super) fn allow_origin(&self, origin: &str) -> bool {
        match self {
            Pages::Unchecked => true,
            Pages::Refused { .. } => false,
            Pages::Allowed(access) => access.allows_origin(origin),
        }
    }

    /// True if pages of other origins may read the answers.
    pub(super) fn may_read(&self) -> bool {
        matches!(self, Pages::Allowed(_))
    }
}

/// Names and origins that are allowed in addition to those of this machine. `*` allows all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Names in `Host`, without a port. Addresses and `localhost` are always allowed.
    pub hosts: Vec<String>,
    /// Values of `Origin`, such as `https://wallet.example`. Pages of this machine and browser
    /// extensions are always allowed.
    pub origins: Vec<String>,
}

/// Schemes of extensions, which the user has installed.
const EXTENSIONS: [&str; 3] = ["chrome-extension", "moz-extension", "safari-web-extension"];

impl Access {
    /// `host` is the value of the header; it is absent in requests of simple clients.
    pub(super) fn allows_host(&self, host: Option<&str>) -> bool {
        allows_host(&self.hosts, host)
    }

    /// `origin` is the value of the header. Programs other than browsers send none, and are always
    /// allowed. `null` is the origin of sandboxed frames, which every page can create.
    pub(super) fn allows_origin(&self, origin: &str) -> bool {
        if is_listed(&self.origins, origin) {
            return true;
        }
        let Some((scheme, host)) = origin.split_once("://") else {
            return false;
        };
        if EXTENSIONS.contains(&scheme) {
            return true;
        }
        let name = without_port(host);
        matches!(scheme, "http" | "https") && (is_loopback(name) || is_localhost(name))
    }
}

/// True for addresses, names of this machine and those in `hosts`, or without the header.
fn allows_host(hosts: &[String], host: Option<&str>) -> bool {
    let Some(host) = host else {
        return true;
    };
    let name = without_port(host);
    is_address(name) || is_localhost(name) || is_listed(hosts, name)
}

fn is_listed(list: &[String], value: &str) -> bool {
    list.iter()
        .any(|listed| listed == "*" || listed.eq_ignore_ascii_case(value))
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.split(':').next().unwrap_or(host)
}

fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

fn is_loopback(name: &str) -> bool {
    name.parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback())
}

/// `localhost` and the names below it, which resolve to loopback addresses (RFC 6761).
fn is_localhost(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_localhost_or_listed() {
        let listed = Access {
            hosts: vec!["rpc.example".to_owned()],
            origins: Vec::new(),
        };
        for (host, by_default, by_list) in [
            ("127.0.0.1:8545", true, true),
            ("10.1.2.3", true, true),
            ("[::1]:8545", true, true),
            ("localhost:8545", true, true),
            ("dapp.localhost", true, true),
            ("rpc.example", false, true),
            ("RPC.example:8545", false, true),
            ("evil.example", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("", false, false),
        ] {
            let found = [Access::default(), listed.clone()].map(|a| a.allows_host(Some(host)));
            assert_eq!(found, [by_default, by_list], "{host}");
        }
        assert!(Access::default().allows_host(None));
        let all = Access {
            hosts: vec!["*".to_owned()],
            ..Access::default()
        };
        assert!(all.allows_host(Some("evil.example")));
    }

    #[test]
    fn origins_are_pages_of_this_machine_extensions_or_listed() {
        let listed = Access {
            hosts: Vec::new(),
            origins: vec!["https://wallet.example".to_owned()],
        };
        for (origin, by_default, by_list) in [
            ("http://localhost:3000", true, true),
            ("http://127.0.0.1:5173", true, true),
            ("http://[::1]", true, true),
            (
                "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn",
                true,
                true,
            ),
            ("https://wallet.example", false, true),
            ("http://wallet.example", false, false),
            ("https://evil.example", false, false),
            ("http://localhost.evil.example", false, false),
            ("file://localhost", false, false),
            ("null", false, false),
            ("", false, false),
        ] {
            let found = [Access::default(), listed.clone()].map(|a| a.allows_origin(origin));
            assert_eq!(found, [by_default, by_list], "{origin}");
        }
    }
}
