//! Socket.IO as one path of a web server that has others, under a base path.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use dialtone_conat::gateway::Peer;
use dialtone_conat::{Config, Gateway};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::site::Site;

/// The page of the web server at every other path.
const PAGE: &str = "a page of the site";

fn answer(
    gateway: &Gateway,
    request: Request<Incoming>,
    remote: SocketAddr,
) -> Response<Full<Bytes>> {
    if gateway.is_at(request.uri().path()) {
        let peer = Peer {
            remote,
            local: None,
            encrypted: false,
        };
        return gateway.handle(request, peer);
    }
    Response::new(Full::from(PAGE))
}

async fn serve(listener: TcpListener, gateway: Gateway, tasks: tokio_util::task::TaskTracker) {
    while let Ok((stream, remote)) = listener.accept().await {
        let gateway = gateway.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let response = answer(&gateway, request, remote);
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let http = hyper::server::conn::http1::Builder::new();
            // A client may leave in the middle.
            drop(
                http.serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await,
            );
        });
    }
}

/// The answer to a plain request.
async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_server_has_clients_under_its_base_path() {
    let mut site = Site::open().await;
    let config = Config {
        base_path: "/app".to_owned(),
        ..Config::default()
    };
    let gateway = site.gateway(config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    site.tasks
        .spawn(serve(listener, gateway.clone(), site.tasks.clone()));

    for path in ["/conat/", "/app", "/app/conat/more", "/app/conatx/"] {
        let page = get(address, path).await;
        assert!(page.ends_with(PAGE), "{path}: {page}");
    }
    for (path, code) in [
        ("/app/conat/?EIO=4&transport=polling", 0),
        ("/app/conat/?EIO=4&transport=websocket", 0),
        ("/app/conat?EIO=3&transport=websocket", 5),
    ] {
        let refused = get(address, path).await;
        let status = StatusCode::BAD_REQUEST.as_u16().to_string();
        assert!(refused.contains(&status), "{path}: {refused}");
        assert!(
            refused.contains(&format!("\"code\":{code}")),
            "{path}: {refused}"
        );
    }

    site.address = format!("http://{address}/app");
    let parts = ["subscribe, publish, deliver", "a request is answered"];
    site.run_parts("events.mjs", &parts).await;
    gateway.ended().await;
    assert!(gateway.registry().is_empty());
}
