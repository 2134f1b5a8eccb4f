//! Running code in kernels of a real Jupyter kernel gateway, which `./test` installs.

use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::api::{Api, Bounds, Code, Error, Handlers, Jupyter};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::AccountId;
use dialtone_hub::kernels::{Gateway, Limits, SiteGateways, Unreachable};
use dialtone_hub::store::Store;
use dialtone_testkit::KernelServer;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::stored::Site;

const TOKEN: &str = "swordfish-of-the-gateway";

/// The functions on a site whose gateway is this one.
async fn site(url: &str) -> (Site, Jupyter, Api<Store>) {
    let site = Site::sqlite().await;
    site.set("jupyter_gateway_url", url).await;
    site.set("jupyter_gateway_token", TOKEN).await;
    site.set("jupyter_api_enabled", "yes").await;
    let gateways = Arc::new(SiteGateways::new(site.entry.settings.clone()));
    let jupyter = Jupyter::new(site.store.clone(), gateways);
    let handlers = jupyter.install(Handlers::new());
    let api = Api::new(Arc::clone(&site.authority), handlers, Bounds::default());
    (site, jupyter, api)
}

async fn call(api: &Api<Store>, by: AccountId, name: &str, options: Json) -> Result<Json, Error> {
    let request = json!({"name": name, "args": [options]});
    let request = serde_json::from_value(request).unwrap();
    api.call(Caller::Account(by), request).await
}

async fn running(url: &str) -> usize {
    let client = reqwest::Client::new();
    let answer = client
        .get(format!("{url}/api/kernels"))
        .header("Authorization", format!("token {TOKEN}"))
        .send()
        .await
        .unwrap();
    let kernels: Vec<Json> = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    kernels.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_runs_after_other_code_and_leaves_nothing_behind() {
    let Some(server) = KernelServer::gateway(TOKEN) else {
        return;
    };
    let url = server.url();
    let (site, jupyter, api) = site(url).await;
    let ada = site.account("ada", &[]).await;
    let kernels = call(&api, ada, "jupyter.kernels", json!({})).await.unwrap();
    let python = kernels
        .as_array()
        .unwrap()
        .iter()
        .find(|kernel| kernel["name"] == "python3");
    assert_eq!(python.unwrap()["language"], "python");

    let run = json!({"kernel": "python3", "history": ["x = 6"], "input": "print('hi'); x * 7"});
    let done = call(&api, ada, "jupyter.execute", run.clone())
        .await
        .unwrap();
    let output = done["output"].as_array().unwrap();
    assert_eq!(output.len(), 2, "{output:?}");
    assert_eq!(output[0], json!({"name": "stdout", "text": "hi\n"}));
    assert_eq!(output[1]["data"]["text/plain"], "42");
    // The same again is not run again, and is found by its hash.
    let again = call(&api, ada, "jupyter.execute", run).await.unwrap();
    assert_eq!(again, done);
    let by_hash = json!({"hash": done["hash"]});
    assert_eq!(
        call(&api, ada, "jupyter.execute", by_hash).await.unwrap(),
        done
    );
    let unknown = call(&api, ada, "jupyter.execute", json!({"hash": "x"})).await;
    assert_eq!(unknown.unwrap(), Json::Null);
    let fresh = json!({"kernel": "python3", "input": "'x' in globals()"});
    let fresh = call(&api, ada, "jupyter.execute", fresh).await.unwrap();
    assert_eq!(fresh["output"][0]["data"]["text/plain"], "False");
    let failed = json!({"kernel": "python3", "input": "1/0"});
    let failed = call(&api, ada, "jupyter.execute", failed).await.unwrap();
    assert_eq!(failed["output"][0]["ename"], "ZeroDivisionError");
    let none = json!({"kernel": "fortran77", "input": "x"});
    let none = call(&api, ada, "jupyter.execute", none).await.unwrap_err();
    assert_eq!(none.code, Code::NotFound);
    jupyter.end().await;
    assert_eq!(running(url).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_or_says_too_much_is_ended() {
    let Some(server) = KernelServer::gateway(TOKEN) else {
        return;
    };
    let url = server.url();
    let gateway = Gateway::new(url, Some(TOKEN.to_owned())).unwrap();
    let limits = Limits {
        total: Duration::from_mins(1),
        cell: Duration::from_secs(3),
        output: 10_000,
    };
    let run = |code: &str| {
        let (gateway, cells) = (gateway.clone(), [code.to_owned()]);
        async move {
            gateway
                .run("python3", &cells, limits, std::future::pending())
                .await
        }
    };
    let slow = run("while True: pass").await.unwrap_err();
    assert!(matches!(slow, Unreachable::Time(_)), "{slow}");
    let loud = run("print('x' * 20_000)").await.unwrap_err();
    assert!(matches!(loud, Unreachable::Output(_)), "{loud}");
    // Nobody waits any more.
    let cells = ["while True: pass".to_owned()];
    let dropped = gateway
        .run("python3", &cells, limits, std::future::ready(()))
        .await;
    assert!(dropped.is_err());
    assert_eq!(running(url).await, 0);
    let stranger = Gateway::new(url, Some("wrong".to_owned())).unwrap();
    let refused = stranger.kernels().await.unwrap_err();
    assert!(
        matches!(
            refused,
            Unreachable::Refused {
                status: 401 | 403,
                ..
            }
        ),
        "{refused}"
    );
    assert!(Gateway::new("ftp://x", None).is_err());
}

/// A server of a project asks for no token, and so for proof that no other page asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_a_project_runs_code() {
    let Some(server) = KernelServer::of_project("/6a9ad7b6/port/jupyter/") else {
        return;
    };
    let gateway = Gateway::new(server.url(), None).unwrap();
    let limits = Limits {
        total: Duration::from_mins(1),
        cell: Duration::from_mins(1),
        output: 10_000,
    };
    let cells = ["6 * 7".to_owned()];
    let done = gateway.run("python3", &cells, limits, std::future::pending());
    let output = done.await.unwrap();
    assert_eq!(output[0]["data"]["text/plain"], "42");
}

/// Where a gateway sends somebody may be inside the site.
#[tokio::test]
async fn where_a_gateway_leads_is_not_followed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let gateway = Gateway::new(&url, None).unwrap();
    let asked = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer =
            format!("HTTP/1.1 302 Found\r\nlocation: {url}/elsewhere\r\ncontent-length: 0\r\n\r\n");
        let mut request = [0; 4_096];
        let _len = stream.read(&mut request).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream
    };
    let (kernels, _stream) = tokio::join!(gateway.kernels(), asked);
    let refused = kernels.unwrap_err();
    assert!(
        matches!(refused, Unreachable::Refused { status: 302, .. }),
        "{refused}"
    );
}
