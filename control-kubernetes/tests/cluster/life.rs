//! From nothing to a pod and back, with hubs that come and go.

use dialtone_control::machine::Observed;
use dialtone_hub::id::ProjectId;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::Api;
use kube::api::ListParams;

use crate::node::{IP, until};
use crate::site::{Site, spec, start};

macro_rules! site {
    () => {
        match Site::new().await {
            Some(site) => site,
            None => return,
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_starts_answers_and_ends() {
    let site = site!();
    let (hub, id) = (site.hub().await, ProjectId::random());
    assert_eq!(hub.observe(id, None, None).await.unwrap(), Observed::Absent);
    hub.end(id, None, None).await.unwrap();
    let run = start(&*hub, id).await;
    let reached = hub.reached(id, &run).await.unwrap();
    assert_eq!(reached.ip.to_string(), IP);
    assert_eq!(reached.ports["browser-server"], 6001);
    let seen = hub.observe(id, None, Some(&run)).await.unwrap();
    assert_eq!(seen, Observed::Ready);
    hub.end(id, None, Some(&run)).await.unwrap();
    let seen = hub.observe(id, None, Some(&run)).await.unwrap();
    assert_eq!(seen, Observed::Absent);
    let secrets: Api<Secret> = Api::namespaced(site.node.client(), &site.namespace);
    let left = secrets.list(&ListParams::default()).await.unwrap();
    assert!(left.items.is_empty(), "no secret outlives its project");
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(site.node.client(), &site.namespace);
    let homes = claims.list(&ListParams::default()).await.unwrap();
    assert_eq!(homes.items.len(), 1, "its home stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_opened_never_runs() {
    let site = site!();
    let (hub, id) = (site.hub().await, ProjectId::random());
    let gate = hub.prepare(&spec(id)).await.unwrap();
    let run = gate.run().clone();
    let seen = hub.observe(id, None, Some(&run)).await.unwrap();
    assert_eq!(seen, Observed::Absent);
    // Another hub ends the project while this one is slow.
    site.hub().await.end(id, None, Some(&run)).await.unwrap();
    let said = gate.open("the token".to_owned()).await.unwrap_err();
    assert!(said.contains("its secret"), "{said}");
    assert!(site.node.pods().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_goes_on_with_what_another_one_has_started() {
    let site = site!();
    let (first, id) = (site.hub().await, ProjectId::random());
    let run = start(&*first, id).await;
    first.reached(id, &run).await.unwrap();
    drop(first);
    let second = site.hub().await;
    let seen = second.observe(id, None, Some(&run)).await.unwrap();
    assert_eq!(seen, Observed::Ready);
    // What stands in the database is what counts: another run is not ours.
    let other = dialtone_control::run::Run {
        id: uuid::Uuid::new_v4(),
        ..run.clone()
    };
    let seen = second.observe(id, None, Some(&other)).await.unwrap();
    assert_eq!(seen, Observed::Remains);
    second.end(id, None, Some(&other)).await.unwrap();
    assert!(site.node.pods().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_start_a_project_once() {
    let site = site!();
    let (first, second) = (site.hub().await, site.hub().await);
    let id = ProjectId::random();
    let one = first.prepare(&spec(id)).await.unwrap();
    let other = second.prepare(&spec(id)).await.unwrap();
    let (one, other) = tokio::join!(one.open("1".to_owned()), other.open("2".to_owned()));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let said = one.and(other).unwrap_err();
    assert!(said.contains("another pod"), "{said}");
    assert_eq!(site.node.pods().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_project_ended_is_told() {
    let site = site!();
    let (hub, id) = (site.hub().await, ProjectId::random());
    let run = start(&*hub, id).await;
    hub.reached(id, &run).await.unwrap();
    let name = dialtone_control_kubernetes::manifest::pod_name(id);
    let fails = site.node.fail(&name, "OOMKilled", "");
    let (how, ()) = tokio::join!(hub.exited(id, &run), fails);
    assert_eq!(how.unwrap(), "it ran out of memory");
    let seen = hub.observe(id, None, Some(&run)).await.unwrap();
    assert_eq!(seen, Observed::Remains);
    hub.end(id, None, Some(&run)).await.unwrap();
    // Somebody else removes the next one.
    let run = start(&*hub, id).await;
    hub.reached(id, &run).await.unwrap();
    let (how, ()) = tokio::join!(hub.exited(id, &run), site.node.remove(&name));
    let how = how.unwrap();
    assert!(how.contains("was deleted") || how.contains("gone"), "{how}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_a_node_that_is_slow() {
    let site = site!();
    let (hub, id) = (site.hub().await, ProjectId::random());
    let run = start(&*hub, id).await;
    hub.reached(id, &run).await.unwrap();
    site.node.moods.lock().holds = true;
    let name = dialtone_control_kubernetes::manifest::pod_name(id);
    let lets_go = async {
        let is_leaving = async || {
            let pod = site.node.pod(&name).await;
            pod["metadata"]["deletionTimestamp"].is_string()
        };
        until("it is told to end", is_leaving).await;
        let seen = hub.observe(id, None, Some(&run)).await.unwrap();
        assert_eq!(seen, Observed::Remains, "what still ends is there");
        site.node.moods.lock().holds = false;
        site.node.look_again().await;
    };
    let (ended, ()) = tokio::join!(hub.end(id, None, Some(&run)), lets_go);
    ended.unwrap();
    assert!(site.node.pods().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_when_it_says_so_and_not_before() {
    let site = site!();
    site.node.moods.lock().mute = true;
    let (hub, id) = (site.hub().await, ProjectId::random());
    let run = start(&*hub, id).await;
    let name = dialtone_control_kubernetes::manifest::pod_name(id);
    let speaks = async {
        let runs = async || site.node.pod(&name).await["status"]["phase"] == "Running";
        until("it runs", runs).await;
        let seen = hub.observe(id, None, Some(&run)).await.unwrap();
        assert_eq!(seen, Observed::Alive);
        site.node.moods.lock().mute = false;
        site.node.look_again().await;
    };
    let (reached, ()) = tokio::join!(hub.reached(id, &run), speaks);
    reached.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_quota_makes_the_claim_larger() {
    let site = site!();
    let (hub, id) = (site.hub().await, ProjectId::random());
    let mut spec = spec(id);
    drop(hub.prepare(&spec).await.unwrap());
    spec.run_id = uuid::Uuid::new_v4();
    spec.quota.disk_quota = 1;
    drop(hub.prepare(&spec).await.unwrap());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(site.node.client(), &site.namespace);
    let name = dialtone_control_kubernetes::manifest::claim_name(id);
    let claim = serde_json::to_value(claims.get(&name).await.unwrap()).unwrap();
    let storage = &claim["spec"]["resources"]["requests"]["storage"];
    assert_eq!(storage, "3G", "nothing makes it smaller");
    // A class that cannot grow refuses; the project starts all the same.
    spec.run_id = uuid::Uuid::new_v4();
    spec.quota.disk_quota = 9000;
    drop(hub.prepare(&spec).await.unwrap());
}
