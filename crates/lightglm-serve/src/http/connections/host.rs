//! `HostRule`: under which names a server answers.
//!
//! A page on `evil.example` can have its name point to 127.0.0.1 and then read what a server on the visitor's own
//! machine says, for to the browser it is the page's own (DNS rebinding). The name in `Host` gives it away.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{Request, Version, header};

use super::gate::Refusal;
use crate::http::keys::auth::OPEN;
use crate::http::shorten::shortened;

/// A name that a server answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) enum AllowedHost {
    /// Every name.
    Any,
    /// A name, with any port or one.
    Name(String, Option<u16>),
    /// A name and those below it: `*.example.com`.
    Below(String),
}

impl AllowedHost {
    /// A host as a configuration has it: `name`, `name:port`, `*.name`, or `*`.
    pub(in crate::http) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let below = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let (name, port) = parsed(below.unwrap_or(text))?;
        match (below, port) {
            (None, port) => Some(Self::Name(name, port)),
            (Some(_), None) => Some(Self::Below(name)),
            (Some(_), Some(_)) => None,
        }
    }

    fn takes(&self, name: &str, port: Option<u16>) -> bool {
        match self {
            Self::Any => true,
            Self::Name(own, own_port) => own == name && (own_port.is_none() || *own_port == port),
            Self::Below(own) => {
                let above = name.strip_suffix(own.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        }
    }
}

/// Under which names a listener answers; that there is exactly one is asked of every request.
pub(in crate::http) struct HostRule {
    /// `None` is every name.
    allowed: Option<Vec<AllowedHost>>,
    /// It is the listener for probes and metrics.
    admin: bool,
}

impl HostRule {
    /// For a listener on `address`: names are checked where somebody named them, and where the address is this
    /// machine's own and no key is asked for.
    pub(in crate::http) fn new(
        allowed: Vec<AllowedHost>,
        address: Option<SocketAddr>,
        has_keys: bool,
        admin: bool,
    ) -> Self {
        let own = address.is_some_and(|address| address.ip().to_canonical().is_loopback());
        let checked = !allowed.is_empty() || (own && !has_keys);
        Self { allowed: checked.then_some(allowed), admin }
    }

    /// # Errors
    /// Why the request is refused.
    pub(super) fn check<T>(&self, request: &Request<T>) -> Result<(), Refusal> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(_), Some(_)) => return Err(Refusal::Host("there are several".into())),
            (Some(host), None) => Some(host),
            (None, _) if request.version() >= Version::HTTP_11 => {
                return Err(Refusal::Host("it is missing".into()));
            }
            (None, _) => None,
        };
        let path = request.uri().path();
        if let Some(host) = host {
            let text = host.to_str().ok();
            let Some((name, port)) = text.and_then(parsed) else {
                let said = shortened(&String::from_utf8_lossy(host.as_bytes()));
                return Err(Refusal::Host(format!("`{said}` is no host")));
            };
            self.check_name(&name, port, path)?;
        }
        // A proxy's form of the path, which says the host again.
        match request.uri().authority().map(|authority| parsed(authority.as_str())) {
            Some(Some((name, port))) => self.check_name(&name, port, path),
            Some(None) => Err(Refusal::Host("the one in the request's line is none".into())),
            None => Ok(()),
        }
    }

    fn check_name(&self, name: &str, port: Option<u16>, path: &str) -> Result<(), Refusal> {
        let Some(allowed) = &self.allowed else { return Ok(()) };
        // Probes name a container or a machine, which has no dot, or an address: no page on the internet is called
        // so. Nothing but a probe is trusted to that.
        let probe = self.admin || OPEN.contains(&path.strip_suffix('/').unwrap_or(path));
        let probe = probe && (!name.contains('.') || address(name).is_some());
        if probe || is_own(name) || allowed.iter().any(|allowed| allowed.takes(name, port)) {
            return Ok(());
        }
        Err(Refusal::ForeignHost(shortened(name)))
    }
}

/// This machine, seen from itself.
fn is_own(name: &str) -> bool {
    match address(name) {
        Some(address) => address.to_canonical().is_loopback(),
        None => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// The address that a name is.
fn address(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Name, in lower case and without a last dot, and port of a `Host` header.
fn parsed(text: &str) -> Option<(String, Option<u16>)> {
    // An authority may have a user before the host, which a `Host` may not.
    if text.contains('@') {
        return None;
    }
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let rest = text.strip_prefix(host)?;
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        // A colon without a port means the usual one.
        Some("") => None,
        Some(port) => Some(port.parse().ok()?),
        None => return None,
    };
    (!name.is_empty()).then_some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allowed: &[&str], listener: &str, has_keys: bool) -> HostRule {
        let allowed = allowed.iter().map(|text| AllowedHost::parse(text).unwrap()).collect();
        HostRule::new(allowed, Some(listener.parse().unwrap()), has_keys, false)
    }

    fn passes(rule: &HostRule, path: &str, host: &str) -> bool {
        let request = Request::get(path).header(header::HOST, host).body(()).unwrap();
        rule.check(&request).is_ok()
    }

    #[test]
    fn this_machine_answers_to_its_own_names() {
        let own = rule(&[], "127.0.0.1:80", false);
        let good = [
            "localhost",
            "LOCALHOST:1",
            "localhost.:80",
            "127.0.0.1",
            "127.0.0.1:9",
            "[::1]",
            "[::1]:8080",
            "a.localhost",
            "[::ffff:127.0.0.1]:1",
            "localhost:",
        ];
        for host in good {
            assert!(passes(&own, "/v1/models", host), "{host}");
        }
        let bad = [
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[2001:db8::1]",
            "0.0.0.0",
            "evillocalhost",
            "lightglm",
            "",
            "a b",
            "a/b",
            "a@localhost",
            "localhost:99999",
            "localhost:x",
            "[::1",
        ];
        for host in bad {
            assert!(!passes(&own, "/v1/models", host), "{host}");
        }
        assert!(
            passes(&own, "/health", "lightglm:8080") && !passes(&own, "/health", "evil.example")
        );
        assert!(passes(&own, "/ready/", "10.0.0.1:80") && passes(&own, "/ready", "[2001:db8::1]"));
        let admin = HostRule { admin: true, ..rule(&[], "127.0.0.1:80", false) };
        assert!(passes(&admin, "/metrics", "10.0.0.1") && passes(&admin, "/metrics", "lightglm"));
        assert!(!passes(&admin, "/metrics", "evil.example"));
        let six = rule(&[], "[::1]:80", false);
        assert!(passes(&six, "/", "[::1]:80") && !passes(&six, "/", "evil.example"));
        // Others decide by keys, or not at all.
        for (listener, has_keys) in [("127.0.0.1:80", true), ("0.0.0.0:80", false)] {
            let open = rule(&[], listener, has_keys);
            assert!(passes(&open, "/", "evil.example") && !passes(&open, "/", "a b"));
        }
    }

    #[test]
    fn other_names_are_named() {
        let named = rule(&["llm.example.com", "*.corp", "box:8443"], "0.0.0.0:80", true);
        for host in ["llm.example.com:1", "a.b.corp", "corp", "box:8443", "localhost"] {
            assert!(passes(&named, "/", host), "{host}");
        }
        for host in ["example.com", "x.llm.example.com", "acorp", "box", "box:1"] {
            assert!(!passes(&named, "/", host), "{host}");
        }
        assert!(passes(&rule(&["*"], "127.0.0.1:80", false), "/", "evil.example"));
        for wrong in ["", "http://a", "a/b", "*.a:1", "a b", "a:b", "*."] {
            assert_eq!(AllowedHost::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn there_is_one_host() {
        let open = rule(&[], "0.0.0.0:80", false);
        let ask = |version, hosts: &[&str]| {
            let mut request = Request::get("/").version(version);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            open.check(&request.body(()).unwrap()).is_ok()
        };
        assert!(ask(Version::HTTP_11, &["a"]) && ask(Version::HTTP_10, &[]));
        assert!(!ask(Version::HTTP_11, &[]) && !ask(Version::HTTP_11, &["a", "a"]));
        assert!(!ask(Version::HTTP_10, &["a", "b"]));
        let own = rule(&[], "127.0.0.1:80", false);
        let absolute = Request::get("http://evil.example/").header(header::HOST, "localhost");
        assert!(own.check(&absolute.body(()).unwrap()).is_err());
    }
}
