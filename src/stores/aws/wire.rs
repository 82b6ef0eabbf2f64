//! The SDK's questions over our own HTTP client: the bounds, addresses, certificates and proxy of every other backend,
//! and a server that is fixed before the first question.

use std::fmt;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

use crate::stores::StoreError;
use crate::stores::http::Http;

/// What the SDK sends its questions by.
#[derive(Clone)]
pub(super) struct Wire(pub(super) Http);

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Wire")
    }
}

impl HttpClient for Wire {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self(http) = self.clone();
        HttpConnectorFuture::new(async move {
            exchange(&http, &request).await.map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

async fn exchange(http: &Http, request: &HttpRequest) -> Result<HttpResponse, StoreError> {
    // Secrets Manager and STS have no streams.
    let body = request.body().bytes().unwrap_or_default().to_vec();
    let answer = http.forward(request.method(), request.uri(), request.headers().iter_bytes(), body).await?;
    let unread = || StoreError::Malformed("the answer is none of HTTP's".into());
    let status = answer.status.try_into().map_err(|_| unread())?;
    let retry_after = answer.retry_after;
    let mut response = HttpResponse::new(status, SdkBody::from(answer.into_body().to_vec()));
    if let Some(after) = retry_after {
        response.headers_mut().insert("retry-after", after.as_secs().to_string());
    }
    Ok(response)
}
