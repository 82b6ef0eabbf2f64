//! The one HTTP client of all REST backends: bounded in time and size, without redirects, and only to addresses that
//! the cluster admin lets pass. Nothing of an answer's text leaves the backend's module.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, Proxy, Url, header};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::settings::StoreSettings;
use super::{Stage, StoreError};
use crate::api::Connection;
use crate::secret::SecretValue;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a whole call may take.
const WHOLE: Duration = Duration::from_secs(10);
/// The largest body that is read.
const LARGEST_BODY: usize = 1024 * 1024;
/// The longest wait that a server may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A client for one server.
#[derive(Clone)]
pub struct Http {
    client: Client,
    base: Url,
    /// The address as its store writes it, for messages.
    shown: String,
    /// The header `Host`, where the URL bears the certificate's name instead.
    host: Option<String>,
}

/// A question.
pub struct Request<'a> {
    /// The method. Not only the standard ones: Vault has `LIST`.
    pub method: &'a str,
    /// The path, segment by segment. Each is escaped, so that none can hold more than itself.
    pub path: &'a [&'a str],
    /// The query.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers. Their values are kept out of every log.
    pub headers: Vec<(&'static str, SecretValue)>,
    /// The body.
    pub body: Body,
}

/// A question's body. It may hold a value, so it is wiped after use.
#[derive(Clone, Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// JSON.
    Json(Zeroizing<Vec<u8>>),
    /// A form.
    Form(Zeroizing<Vec<u8>>),
}

impl Body {
    /// JSON of anything. What is serialized should own no copy that outlives it.
    pub fn json(value: &impl Serialize) -> Self {
        // Our own types always serialize.
        Self::Json(Zeroizing::new(serde_json::to_vec(value).unwrap_or_default()))
    }

    /// A form of these fields.
    pub fn form(fields: &[(&str, &str)]) -> Self {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        Self::Form(Zeroizing::new(form.finish().into_bytes()))
    }
}

impl<'a> Request<'a> {
    /// A question by `GET`.
    pub fn get(path: &'a [&'a str]) -> Self {
        Self::new("GET", path)
    }

    /// A question by any method.
    pub fn new(method: &'a str, path: &'a [&'a str]) -> Self {
        Self { method, path, query: &[], headers: Vec::new(), body: Body::Empty }
    }

    /// The same with a query.
    #[must_use]
    pub fn query(mut self, query: &'a [(&'a str, &'a str)]) -> Self {
        self.query = query;
        self
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: SecretValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same with `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &SecretValue) -> Self {
        let value = [b"Bearer ", token.expose()].concat();
        self.header("authorization", SecretValue::new(value))
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}

/// An answer.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The body as JSON of the expected shape; none where it is anything else. Never with the parser's words, which
    /// repeat parts of what they read.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether the status says that it went well.
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// What every backend says of these statuses alike; none where the backend's module has to look.
    pub fn common_trouble(&self) -> Option<StoreError> {
        trouble_of(self.status, self.retry_after)
    }

    /// The bytes themselves, for a library that reads them.
    pub fn into_body(self) -> Zeroizing<Vec<u8>> {
        self.body
    }
}

/// What a status says at every backend alike.
pub fn trouble_of(status: u16, retry_after: Option<Duration>) -> Option<StoreError> {
    match status {
        429 => Some(StoreError::Throttled { retry_after }),
        300..=399 => Some(StoreError::unavailable(
            Stage::Answer,
            "the backend redirects, and a token follows no redirect: set the store's address to where it ends",
        )),
        500..=599 => Some(StoreError::unavailable(Stage::Answer, format!("the backend answered {status}"))),
        _ => None,
    }
}

/// A store's proxy. With certificates of the store's own it could be any server, so it goes where stores may go.
fn proxy_of(proxy: &str, guard: &Guard, settings: &StoreSettings) -> Result<Proxy, StoreError> {
    let wrong = |why: String| StoreError::unavailable(Stage::Address, why);
    let url = Url::parse(proxy).map_err(|_| wrong("connection.proxy is no URL".into()))?;
    let host = url.host_str().unwrap_or_default();
    guard.check_literal(host)?;
    if !settings.allows_host(host) {
        return Err(wrong(format!(
            "the proxy's host {host:?} is not allowed: the cluster admin allows hosts in the operator's configuration, \
             stores.allowedHosts"
        )));
    }
    Proxy::all(url).map_err(|_| wrong("connection.proxy cannot be used".into()))
}

impl Http {
    /// A client for the server of a store.
    ///
    /// # Errors
    /// The address or its connection cannot be used: the text names the field.
    pub fn of_store(
        address: &str,
        connection: Option<&Connection>,
        settings: &StoreSettings,
    ) -> Result<Self, StoreError> {
        let none = Connection::default();
        let connection = connection.unwrap_or(&none);
        let wrong = |why: String| StoreError::unavailable(Stage::Address, why);
        let mut base = Url::parse(address).map_err(|_| wrong(format!("the store's address {address:?} is no URL")))?;
        let host = base.host_str().unwrap_or_default().to_owned();
        if base.scheme() != "https" && !(base.scheme() == "http" && connection.insecure) {
            return Err(wrong(format!(
                "the store's address {address:?} must be https (connection.insecure lets http pass, and sends values \
                 in clear)"
            )));
        }
        if !settings.allows_host(&host) {
            return Err(wrong(format!(
                "the host {host:?} is not allowed: the cluster admin allows hosts in the operator's configuration, \
                 stores.allowedHosts"
            )));
        }
        let guard = Guard { allow_local: settings.allow_local_addresses, alias: None };
        guard.check_literal(&host)?;
        let mut builder = builder();
        if let Some(bundle) = &connection.ca_bundle {
            let wrong = || {
                StoreError::unavailable(Stage::Tls, "connection.caBundle holds no certificate (PEM) that can be read")
            };
            let certificates = Certificate::from_pem_bundle(bundle.as_bytes()).map_err(|_| wrong())?;
            if certificates.is_empty() {
                return Err(wrong());
            }
            builder = builder.tls_certs_only(certificates);
        }
        builder = match &connection.proxy {
            Some(_) if connection.server_name.is_some() => {
                return Err(wrong("connection.proxy and connection.serverName do not go together".into()));
            }
            Some(proxy) => builder.proxy(proxy_of(proxy, &guard, settings)?),
            None => builder.no_proxy(),
        };
        let mut header_host = None;
        let mut guard = guard;
        if let Some(name) = &connection.server_name {
            header_host = Some(base.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")));
            let name = name.to_ascii_lowercase();
            let set = base.set_host(Some(&name));
            // An address, or a name that the URL writes in another way, would be asked for as such: past the guard.
            if set.is_err() || base.domain() != Some(name.as_str()) {
                return Err(wrong("connection.serverName is no host's name, such as vault.example.com".into()));
            }
            guard.alias = Some((name, host));
        }
        let client = builder
            .dns_resolver(Arc::new(guard))
            .build()
            .map_err(|_| StoreError::unavailable(Stage::Tls, "the operator has no certificates to trust servers by"))?;
        Ok(Self { client, base, shown: address.to_owned(), host: header_host })
    }

    /// A client for a server that the cluster admin names: any address passes, plain HTTP too. `proxy` is the store's, and
    /// goes where stores may go.
    ///
    /// # Errors
    /// The address is no URL, the proxy may not be used, or there are no certificates to trust.
    pub fn of_cluster(address: &str, proxy: Option<&str>, settings: &StoreSettings) -> Result<Self, StoreError> {
        let wrong = || {
            StoreError::unavailable(
                Stage::Address,
                format!("the operator's configuration, stores.endpoints: {address:?} cannot be used"),
            )
        };
        let base = Url::parse(address).map_err(|_| wrong())?;
        let builder = match proxy {
            Some(proxy) => {
                // Only the proxy's name is looked up here: the server's own is the proxy's to find.
                let guard = Guard { allow_local: settings.allow_local_addresses, alias: None };
                builder().proxy(proxy_of(proxy, &guard, settings)?).dns_resolver(Arc::new(guard))
            }
            None => builder().no_proxy(),
        };
        let client = builder.build().map_err(|_| wrong())?;
        Ok(Self { client, base, shown: address.to_owned(), host: None })
    }

    /// Whether the URL is one of this server's own, as the store writes its address: a page of a list must not lead
    /// elsewhere.
    pub fn is_own(&self, url: &str) -> bool {
        let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
        origin(url).is_some_and(|own| origin(&self.shown) == Some(own))
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: no answer. Every answer, whatever its status, is the caller's to judge.
    pub async fn ask(&self, request: Request<'_>) -> Result<Answer, StoreError> {
        let mut url = self.base.clone();
        {
            let Ok(mut path) = url.path_segments_mut() else {
                return Err(StoreError::unavailable(Stage::Address, "the store's address can hold no path"));
            };
            path.pop_if_empty();
            for segment in request.path {
                // The URL's writer drops these two without a word, and the path would be another.
                if segment.is_empty() || matches!(*segment, "." | "..") {
                    return Err(StoreError::NotFound("a name made a path that leads elsewhere".into()));
                }
                path.push(segment);
            }
        }
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query);
        }
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| StoreError::Malformed("no such method".into()))?;
        let body = match request.body {
            Body::Empty => None,
            Body::Json(body) => Some(("application/json", body)),
            Body::Form(body) => Some(("application/x-www-form-urlencoded", body)),
        };
        let mut headers = header::HeaderMap::new();
        for (name, value) in &request.headers {
            headers.insert(*name, sensitive(value.expose())?);
        }
        if let Some((kind, _)) = &body {
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        }
        self.exchange(method, url, headers, body.map(|(_, body)| body.to_vec())).await
    }

    /// Asks with what another library has written for this server, and for no other.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: no answer, or the question is for another server.
    pub async fn forward(
        &self,
        method: &str,
        url: &str,
        headers: impl Iterator<Item = (&str, &[u8])>,
        body: Vec<u8>,
    ) -> Result<Answer, StoreError> {
        let asked = Url::parse(url).ok().zip(Url::parse(&self.shown).ok());
        let (asked, _) = asked.filter(|(asked, shown)| asked.origin() == shown.origin()).ok_or_else(|| {
            StoreError::unavailable(Stage::Address, format!("{} is asked, and no other server", self.shown))
        })?;
        let mut url = self.base.clone();
        url.set_path(asked.path());
        url.set_query(asked.query());
        let unreadable = || StoreError::Malformed("the question is none that HTTP can carry".into());
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| unreadable())?;
        let mut map = header::HeaderMap::new();
        for (name, value) in headers {
            let name = header::HeaderName::from_bytes(name.as_bytes()).map_err(|_| unreadable())?;
            // These two are written with the request.
            if name != header::HOST && name != header::CONTENT_LENGTH {
                map.append(name, sensitive(value)?);
            }
        }
        self.exchange(method, url, map, Some(body)).await
    }

    async fn exchange(
        &self,
        method: Method,
        url: Url,
        headers: header::HeaderMap,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, StoreError> {
        let mut call = self.client.request(method, url).headers(headers);
        if let Some(host) = &self.host {
            call = call.header(header::HOST, host);
        }
        if let Some(body) = body {
            call = call.body(body);
        }
        let mut answer = call.send().await.map_err(|error| self.failure(&error))?;
        let status = answer.status().as_u16();
        let retry_after = answer
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len() + chunk.len() > LARGEST_BODY {
                return Err(StoreError::Malformed("the backend's answer is larger than 1 MiB".into()));
            }
            if body.capacity() - body.len() < chunk.len() {
                // Grown by hand: what the buffer leaves behind is wiped.
                let mut larger = Zeroizing::new(Vec::with_capacity((body.len() + chunk.len()) * 2));
                larger.extend_from_slice(&body);
                body = larger;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after, body })
    }

    /// Our own words for a call that had no answer.
    fn failure(&self, error: &reqwest::Error) -> StoreError {
        let shown = &self.shown;
        let mut causes = Causes::default();
        causes.look(error);
        let Causes { tls, refused, guarded } = causes;
        let (stage, why) = if let Some(Unresolved::Local) = guarded {
            (Stage::Address, local(shown))
        } else if guarded.is_some() {
            (Stage::Address, format!("the name in {shown} does not resolve: correct the store's address"))
        } else if tls {
            (
                Stage::Tls,
                format!(
                    "the certificate of {shown} is not trusted: set connection.caBundle (or serverName) to what it bears"
                ),
            )
        } else if refused {
            (Stage::Address, format!("{shown} refuses connections: is the server running?"))
        } else if error.is_connect() && error.is_timeout() {
            (Stage::Address, format!("{shown} takes no connection within {} s", CONNECT.as_secs()))
        } else if error.is_timeout() {
            (Stage::Answer, format!("{shown} gave no whole answer in time"))
        } else if error.is_connect() {
            (Stage::Address, format!("{shown} cannot be reached"))
        } else {
            (Stage::Answer, format!("the connection to {shown} broke off"))
        };
        StoreError::unavailable(stage, why)
    }
}

/// A header's value that stays out of every log.
fn sensitive(value: &[u8]) -> Result<header::HeaderValue, StoreError> {
    let mut value = header::HeaderValue::from_bytes(value).map_err(|_| {
        StoreError::unavailable(Stage::SignIn, "the store's own credential holds what no header can carry")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// What of our own interest lies below a client's error.
#[derive(Default)]
struct Causes {
    tls: bool,
    refused: bool,
    guarded: Option<Unresolved>,
}

impl Causes {
    fn look(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.tls |= error.is::<rustls::Error>();
        self.guarded = self.guarded.or_else(|| error.downcast_ref().copied());
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            self.refused |= io.kind() == std::io::ErrorKind::ConnectionRefused;
            // The source of such an error is that of what it wraps, not what it wraps.
            if let Some(wrapped) = io.get_ref() {
                self.look(wrapped);
            }
        }
        if let Some(source) = error.source() {
            self.look(source);
        }
    }
}

fn builder() -> reqwest::ClientBuilder {
    // Tests and the CLI's library use come without `main`; a second call only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .timeout(WHOLE)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .pool_idle_timeout(Duration::from_secs(60))
        .user_agent(concat!("daypass/", env!("CARGO_PKG_VERSION")))
}

fn local(address: &str) -> String {
    format!(
        "{address} is on loopback or a link-local network, where the operator's own node is: the cluster admin allows \
         such addresses in the operator's configuration, stores.allowLocalAddresses"
    )
}

/// Resolves names, and refuses what they must not lead to. A name that leads to several places may lead to none of
/// these: the next question for it could be answered with that one.
struct Guard {
    allow_local: bool,
    /// The name that stands in the URL, and the host that it stands for.
    alias: Option<(String, String)>,
}

/// Why a name is not used.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Unresolved {
    #[error("no address")]
    Unknown,
    #[error("a local address")]
    Local,
}

impl Guard {
    /// An address instead of a name is never resolved, so it is looked at here.
    fn check_literal(&self, host: &str) -> Result<(), StoreError> {
        let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        match address {
            Some(address) if !self.allow_local && is_local(address) => {
                Err(StoreError::unavailable(Stage::Address, local(host)))
            }
            _ => Ok(()),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let host = match &self.alias {
            Some((alias, host)) if alias.eq_ignore_ascii_case(name.as_str()) => host.clone(),
            _ => name.as_str().to_owned(),
        };
        let allow_local = self.allow_local;
        Box::pin(async move {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host, 0)).await.map_err(|_| Unresolved::Unknown)?.collect();
            if found.is_empty() {
                return Err(Unresolved::Unknown.into());
            }
            if !allow_local && found.iter().any(|address| is_local(address.ip())) {
                return Err(Unresolved::Local.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Loopback, link-local (where clouds serve a node's credentials) and what stands for this host.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped().or_else(|| v6.to_ipv4().filter(|_| !v6.is_loopback())) {
            Some(v4) => is_local(v4.into()),
            None => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_unicast_link_local()
                    // The address of AWS' metadata server.
                    || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(error: Result<Http, StoreError>) -> String {
        error.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn addresses_are_refused_by_the_field_that_mends_them() {
        let settings = StoreSettings { allowed_hosts: vec!["ok.example.com".into()], ..StoreSettings::default() };
        let open = StoreSettings::default();
        let insecure = Connection { insecure: true, ..Connection::default() };
        assert!(why(Http::of_store("http://ok.example.com", None, &open)).contains("connection.insecure"));
        assert!(why(Http::of_store("https://no.example.com", None, &settings)).contains("stores.allowedHosts"));
        assert!(Http::of_store("http://ok.example.com", Some(&insecure), &settings).is_ok());
        for local in ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[fe80::1]", "127.1"] {
            let address = format!("https://{local}:8200");
            assert!(why(Http::of_store(&address, None, &open)).contains("allowLocalAddresses"), "{local}");
        }
        for name in
            ["127.0.0.1", "2130706433", "169.254.169.254", "evil.example.com:1", "a/b", "[::1]", "ev%69l.example"]
        {
            let connection = Connection { server_name: Some(name.into()), ..Connection::default() };
            assert!(
                why(Http::of_store("https://ok.example.com", Some(&connection), &open)).contains("serverName"),
                "{name}"
            );
        }
        let proxy = Connection { proxy: Some("https://evil.example.com".into()), ..Connection::default() };
        assert!(why(Http::of_store("https://ok.example.com", Some(&proxy), &settings)).contains("stores.allowedHosts"));
        // The way to a server of the cluster admin's is the store's own all the same.
        let by = |proxy: &str| why(Http::of_cluster("https://api.wandb.ai", Some(proxy), &settings));
        assert!(by("https://evil.example.com").contains("stores.allowedHosts"));
        let local = |proxy: &str| why(Http::of_cluster("https://api.wandb.ai", Some(proxy), &StoreSettings::default()));
        for proxy in ["http://169.254.169.254", "http://127.0.0.1:10250", "http://[::1]:1"] {
            assert!(local(proxy).contains("local"), "{proxy}: {}", local(proxy));
        }
        let bundle = Connection { ca_bundle: Some("no certificate".into()), ..Connection::default() };
        assert!(why(Http::of_store("https://ok.example.com", Some(&bundle), &open)).contains("caBundle"));
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_host_is_refused() {
        let http = Http::of_store("https://localhost:1", None, &StoreSettings::default()).ok().unwrap();
        let error = http.ask(Request::get(&["x"])).await.err().unwrap();
        assert!(error.to_string().contains("allowLocalAddresses"), "{error}");
    }

    #[tokio::test]
    async fn a_segment_stays_one() {
        let settings = StoreSettings { allow_local_addresses: true, ..StoreSettings::default() };
        let http = Http::of_store("https://127.0.0.1:1/base/", None, &settings).ok().unwrap();
        for segment in ["..", ".", ""] {
            assert!(matches!(http.ask(Request::get(&["v1", segment])).await, Err(StoreError::NotFound(_))));
        }
        assert!(http.is_own("https://127.0.0.1:1/next?page=2"));
        assert!(!http.is_own("https://127.0.0.1:2/next"));
        let named = Connection { server_name: Some("vault.internal".into()), ..Connection::default() };
        let http = Http::of_store("https://vault.example.com", Some(&named), &settings).ok().unwrap();
        assert!(http.is_own("https://vault.example.com/next") && !http.is_own("https://vault.internal/next"));
    }
}
