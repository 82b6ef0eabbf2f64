//! The backend `vault`, and with it the client of all REST backends, against servers that fail or lie.

use std::time::Duration;

use anyhow::Result;
use daypass::api::{Connection, VaultBackend};
use daypass::secret::SecretValue;
use daypass::stores::sign_in::OwnToken;
use daypass::stores::vault::VaultStore;
use daypass::stores::{Stage, StoreError};

use crate::contract::get;
use crate::support::{Canned, Reply};
use crate::vault::{backend, settings};

/// Stands in every body, and must stand nowhere else.
const CANARY: &str = "canary-from-the-server";

fn store(spec: &VaultBackend) -> VaultStore {
    let token = OwnToken(std::sync::Arc::new(SecretValue::new(b"canary-token".to_vec())));
    VaultStore::with_own_token("team", spec, &settings(), Box::new(token)).unwrap()
}

async fn ask(replies: Vec<Reply>) -> Result<StoreError> {
    let server = Canned::start(replies).await?;
    let error = get(&store(&backend(server.address())), "KEY", None).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
    Ok(error)
}

fn answer(status: u16, headers: &'static str, body: &str) -> Reply {
    Reply::Answer(status, headers, body.replace("CANARY", CANARY).into_bytes())
}

#[tokio::test]
async fn servers_that_lie_are_malformed_and_their_text_stays_with_them() -> Result<()> {
    for body in [
        "<html>CANARY</html>",
        "",
        "null",
        "{\"data\":{\"data\":{\"value\":\"CANARY",
        "{\"data\":{\"data\":null,\"metadata\":{\"version\":1}}}",
        "{\"data\":{\"data\":{\"value\":\"CANARY\"}}}",
        "{\"data\":{\"data\":[\"CANARY\"],\"metadata\":{\"version\":1}}}",
        "{\"errors\":[\"CANARY\"]}",
    ] {
        let error = ask(vec![answer(200, "", body)]).await?;
        assert!(matches!(error, StoreError::Malformed(_)), "{body}: {error:?}");
    }
    let large = Reply::Answer(200, "", vec![b' '; 1024 * 1024 + 1]);
    assert!(matches!(ask(vec![large]).await?, StoreError::Malformed(_)));
    Ok(())
}

#[tokio::test]
async fn servers_that_fail_are_unavailable() -> Result<()> {
    for reply in [
        answer(500, "", "CANARY"),
        answer(503, "", "CANARY"),
        answer(472, "", "CANARY"),
        answer(302, "location: http://127.0.0.1:1/CANARY\r\n", ""),
        Reply::Close,
        Reply::Bytes(CANARY.into()),
        Reply::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{CANARY}").into_bytes()),
    ] {
        let error = ask(vec![reply]).await?;
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> Result<()> {
    let elsewhere = Canned::start(vec![answer(200, "", "{}")]).await?;
    let location: &'static str = Box::leak(format!("location: {}/v1/x\r\n", elsewhere.address()).into_boxed_str());
    ask(vec![answer(307, location, "")]).await?;
    assert_eq!(elsewhere.asked(), 0, "the token went nowhere else");
    Ok(())
}

#[tokio::test]
async fn retry_after_is_read() -> Result<()> {
    let error = ask(vec![answer(429, "retry-after: 7\r\n", "CANARY")]).await?;
    assert_eq!(error, StoreError::Throttled { retry_after: Some(Duration::from_secs(7)) });
    let error = ask(vec![answer(429, "retry-after: 99999999\r\n", "CANARY")]).await?;
    assert_eq!(error, StoreError::Throttled { retry_after: Some(Duration::from_secs(300)) });
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_refused_twice_is_the_stores_trouble() -> Result<()> {
    let error = ask(vec![answer(403, "", "{\"errors\":[\"CANARY permission denied\"]}")]).await?;
    assert!(matches!(error, StoreError::Unavailable { stage: Stage::SignIn, .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_before_the_time_of_a_whole_call_is_over() -> Result<()> {
    let error = tokio::time::timeout(Duration::from_secs(9), ask(vec![Reply::Hang])).await??;
    let StoreError::Unavailable { stage: Stage::Answer, why } = error else { panic!("{error:?}") };
    assert!(why.contains("in time"), "{why}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_drips_is_given_up() -> Result<()> {
    let error = tokio::time::timeout(Duration::from_secs(18), ask(vec![Reply::Drip])).await??;
    let StoreError::Unavailable { stage: Stage::Answer, why } = error else { panic!("{error:?}") };
    assert!(why.contains("in time"), "{why}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_takes_no_connection_is_told_by_the_address() -> Result<()> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(1)?;
    let address = listener.local_addr()?;
    // Nobody takes those that wait, until no more may wait.
    let mut waiting = Vec::new();
    while let Ok(connection) =
        tokio::time::timeout(Duration::from_millis(500), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(connection?);
    }
    let error = get(&store(&backend(&format!("http://{address}"))), "KEY", None).await.unwrap_err();
    let StoreError::Unavailable { stage: Stage::Address, why } = error else { panic!("{error:?}") };
    assert!(why.contains("takes no connection"), "{why}");
    Ok(())
}

#[tokio::test]
async fn nobody_there_is_told_by_the_address() -> Result<()> {
    let free = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?;
    let error = get(&store(&backend(&format!("http://{free}"))), "KEY", None).await.unwrap_err();
    let StoreError::Unavailable { stage: Stage::Address, why } = error else { panic!("{error:?}") };
    assert!(why.contains("refuses connections"), "{why}");
    let spec = backend("http://no-such-host.invalid");
    let error = get(&store(&spec), "KEY", None).await.unwrap_err();
    let StoreError::Unavailable { stage: Stage::Address, why } = error else { panic!("{error:?}") };
    assert!(why.contains("does not resolve"), "{why}");
    Ok(())
}

#[tokio::test]
async fn a_server_without_tls_proves_nothing() -> Result<()> {
    let server = Canned::start(vec![Reply::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())]).await?;
    let address = server.address().replace("http", "https");
    let spec = VaultBackend { connection: None, ..backend(&address) };
    let error = get(&store(&spec), "KEY", None).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { stage: Stage::Tls, .. }), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_trusted_by_its_bundle_and_its_name_alone() -> Result<()> {
    // The API server is a TLS server with an authority of its own: it answers, though not as Vault would.
    let cluster = daypass_testcluster::Cluster::shared().await?;
    let bundle = std::fs::read_to_string(cluster.ca())?;
    let reached = async |connection: Connection| {
        let spec = VaultBackend { connection: Some(connection), ..backend(&cluster.server_url()) };
        match get(&store(&spec), "KEY", None).await.unwrap_err() {
            StoreError::Unavailable { stage, .. } => Some(stage),
            _ => None,
        }
    };
    let trusted = |name: Option<&str>| Connection {
        ca_bundle: Some(bundle.clone()),
        server_name: name.map(str::to_owned),
        ..Connection::default()
    };
    assert_eq!(reached(Connection::default()).await, Some(Stage::Tls), "an unknown authority");
    // It takes no token of Vault's.
    assert_eq!(reached(trusted(None)).await, Some(Stage::SignIn));
    assert_eq!(reached(trusted(Some("vault.example.com"))).await, Some(Stage::Tls));
    assert_eq!(reached(trusted(Some("kubernetes"))).await, Some(Stage::SignIn));
    Ok(())
}
