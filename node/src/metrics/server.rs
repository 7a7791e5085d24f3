//! The HTTP server of `--metrics-addr`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use alys_actor_system::metrics::CONTENT_TYPE;
use alys_integrations::http::{HttpServer, Page, RpcError, RpcHandler, ServeError, ServerConfig};
use futures::future::join_all;
use serde_json::{Value, json};

use super::pages::{Monitor, merge};

/// The running nodes of this process. Empty while they start.
#[derive(Clone, Default)]
pub struct Monitors(Arc<Mutex<Vec<Arc<Monitor>>>>);

impl Monitors {
    pub fn add(&self, monitor: Monitor) {
        self.lock().push(Arc::new(monitor));
    }

    fn all(&self) -> Vec<Arc<Monitor>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Monitor>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metrics(&self) -> Page {
        let monitors = self.all();
        let texts = monitors.iter().map(|monitor| {
            let text = monitor.system.metrics().encode()?;
            Ok((monitor.label.clone(), text))
        });
        match texts.collect::<Result<Vec<_>, std::fmt::Error>>() {
            Ok(texts) => Page {
                status: 200,
                content_type: CONTENT_TYPE,
                body: merge(&texts),
            },
            Err(error) => Page {
                status: 500,
                content_type: "text/plain; charset=utf-8",
                body: format!("a metric cannot be encoded: {error}\n"),
            },
        }
    }

    /// 200 while every node makes progress.
    async fn health(&self) -> Page {
        let monitors = self.all();
        let faults = join_all(monitors.iter().map(|monitor| monitor.faults())).await;
        verdict("healthy", &monitors, faults)
    }

    /// 200 while every node is synced and votes.
    async fn ready(&self) -> Page {
        let monitors = self.all();
        let obstacles = join_all(monitors.iter().map(|monitor| monitor.obstacles())).await;
        verdict("ready", &monitors, obstacles)
    }
}

/// 200 and true without a reason against it, else 503 and the reasons.
fn verdict(name: &str, monitors: &[Arc<Monitor>], reasons: Vec<Vec<String>>) -> Page {
    let mut lines = Vec::new();
    for (monitor, reasons) in monitors.iter().zip(reasons) {
        let prefix = monitor.label.as_ref();
        let prefix = prefix.map_or(String::new(), |label| format!("validator {label}: "));
        lines.extend(reasons.iter().map(|reason| format!("{prefix}{reason}")));
    }
    if monitors.is_empty() {
        lines.push("the node is starting".to_owned());
    }
    let is_good = lines.is_empty();
    let mut body = json!({ name: is_good, "reasons": lines }).to_string();
    body.push('\n');
    Page {
        status: if is_good { 200 } else { 503 },
        content_type: "application/json",
        body,
    }
}

impl RpcHandler for Monitors {
    async fn handle(&self, method: &str, _: Value) -> Result<Value, RpcError> {
        Err(RpcError::method_not_found(method))
    }

    async fn page(&self, path: &str) -> Option<Page> {
        Some(match path {
            "/metrics" => self.metrics(),
            "/health" => self.health().await,
            "/ready" => self.ready().await,
            _ => Page {
                status: 404,
                content_type: "text/plain; charset=utf-8",
                body: "there are /metrics, /health and /ready\n".to_owned(),
            },
        })
    }
}

/// Serves the pages of [`Monitors`].
pub struct MetricsServer {
    server: HttpServer,
    monitors: Monitors,
}

impl MetricsServer {
    /// Listens on `addr`; port 0 picks a free one.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(addr: SocketAddr) -> Result<MetricsServer, ServeError> {
        let monitors = Monitors::default();
        let config = ServerConfig {
            max_body_bytes: 1 << 10,
            max_connections: 16,
            ..ServerConfig::new("metrics")
        };
        let server = HttpServer::bind(addr, config, Arc::new(monitors.clone())).await?;
        Ok(MetricsServer { server, monitors })
    }

    /// The nodes that are served; more can be added at any time.
    pub fn monitors(&self) -> Monitors {
        self.monitors.clone()
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }
}
