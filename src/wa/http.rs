//! The HTTP client of WhatsApp's library, kept to the network of its instance.
//!
//! Owns one rule: whatever address a message or a server names, an instance of the sandbox calls the sandbox and
//! nobody else. It does so without TLS, which the sandbox can't prove itself by; what goes over it is encrypted
//! by the message that names it, and checked.

use async_trait::async_trait;
use wacore::net::{HttpClient, HttpRequest, HttpResponse, StreamingHttpResponse, UploadBody};
use whatsapp_rust::http::UreqHttpClient;

/// The client of one instance.
#[derive(Clone)]
pub(super) struct Http {
    inner: UreqHttpClient,
    /// Host and port of the sandbox, for its instances.
    sandbox: Option<String>,
}

impl Http {
    pub(super) fn whatsapp(inner: UreqHttpClient) -> Self {
        Self {
            inner,
            sandbox: None,
        }
    }

    /// For a sandbox whose WebSocket is at this address.
    pub(super) fn sandbox(inner: UreqHttpClient, url: &str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        Self {
            inner,
            sandbox: Some(authority.to_owned()),
        }
    }

    fn directed(&self, mut request: HttpRequest) -> HttpRequest {
        if let Some(sandbox) = &self.sandbox {
            let url = &request.url;
            let rest = url.split_once("://").map_or(&**url, |(_, rest)| rest);
            let path = rest.find(['/', '?', '#']).map_or("", |at| &rest[at..]);
            request.url = format!("http://{sandbox}{path}");
        }
        request
    }
}

#[async_trait]
impl HttpClient for Http {
    async fn execute(&self, request: HttpRequest) -> anyhow::Result<HttpResponse> {
        self.inner.execute(self.directed(request)).await
    }

    fn supports_streaming(&self) -> bool {
        self.inner.supports_streaming()
    }

    fn execute_streaming(&self, request: HttpRequest) -> anyhow::Result<StreamingHttpResponse> {
        self.inner.execute_streaming(self.directed(request))
    }

    fn supports_upload_streaming(&self) -> bool {
        self.inner.supports_upload_streaming()
    }

    fn execute_upload(
        &self,
        request: HttpRequest,
        body: UploadBody,
        length: u64,
    ) -> anyhow::Result<HttpResponse> {
        self.inner
            .execute_upload(self.directed(request), body, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_of_the_sandbox_calls_nobody_else() {
        let http = Http::sandbox(UreqHttpClient::new(), "ws://127.0.0.1:7600/ws/chat");
        for (url, called) in [
            (
                "https://127.0.0.1:1/v/x?a=b",
                "http://127.0.0.1:7600/v/x?a=b",
            ),
            ("https://mmg.whatsapp.net/v/x", "http://127.0.0.1:7600/v/x"),
            ("https://evil.example?x", "http://127.0.0.1:7600?x"),
            ("http://a@b/c", "http://127.0.0.1:7600/c"),
        ] {
            let request = http.directed(HttpRequest::get(url));
            assert_eq!(request.url, called);
        }
        let http = Http::whatsapp(UreqHttpClient::new());
        let request = http.directed(HttpRequest::get("https://mmg.whatsapp.net/v/x"));
        assert_eq!(request.url, "https://mmg.whatsapp.net/v/x");
    }
}
