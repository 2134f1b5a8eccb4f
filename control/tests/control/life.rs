//! One project, from its start to its end, and what goes wrong in between.

use dialtone_hub::control::{Control as _, Error, Phase};
use dialtone_hub::id::ProjectId;
use dialtone_hub::store::{control as rows, projects};
use serde_json::json;

use crate::on_both;
use crate::site::{Asks, Site};

on_both! {
    a_project_runs_until_it_is_stopped,
    all_who_wait_get_the_result,
    what_cannot_start_says_why,
    an_end_by_itself_is_noticed_and_nothing_is_left,
    a_project_that_does_not_listen_is_killed,
    a_stop_replaces_a_start_that_takes_long,
    other_quotas_take_a_restart,
    files_are_copied_between_projects,
}

async fn phase(asks: &Asks, id: ProjectId) -> Phase {
    asks.projects.state(id).await.unwrap().phase
}

async fn a_project_runs_until_it_is_stopped(site: Site) {
    let site = site.with_cgroups();
    let asks = site.asks().await;
    let _hub = site.hub();
    let id = asks.make_project().await;
    let mut events = asks.projects.events();
    assert_eq!(phase(&asks, id).await, Phase::Opened);
    assert!(asks.projects.running_address(id).await.unwrap().is_none());
    // Nothing to do.
    assert_eq!(asks.projects.stop(id).await.unwrap().phase, Phase::Opened);

    let state = asks.projects.start(id).await.unwrap();
    assert_eq!(state.phase, Phase::Running);
    assert_eq!(state.ip.unwrap().to_string(), "127.0.0.1");
    let again = asks.projects.start(id).await.unwrap();
    assert_eq!((again, site.starts(id)), (state, 1));
    let status = asks.projects.status(id).await.unwrap();
    assert_eq!(status.ports["browser-server"], 4321);
    assert_eq!(status.host.as_deref(), Some("here"));
    let address = asks.projects.address(id).await.unwrap();
    assert_eq!(address.secret_token, site.read(id, ".smc/secret-token"));
    let environment = site.read(id, "environment");
    assert!(environment.contains(&format!("COCALC_PROJECT_ID={id}\n")));
    assert!(!environment.contains("hunter2"), "{environment}");
    assert!(
        !environment.contains(&address.secret_token),
        "{environment}"
    );

    let first = site.processes(id);
    assert_eq!(first.len(), 1, "{first:?}");
    asks.projects.restart(id).await.unwrap();
    let second = site.processes(id);
    assert_eq!(second.len(), 1, "{second:?}");
    assert_ne!(first.keys().next(), second.keys().next());

    let state = asks.projects.stop(id).await.unwrap();
    assert_eq!((state.phase, state.error), (Phase::Opened, None));
    assert!(site.processes(id).is_empty(), "{:?}", site.processes(id));
    assert_eq!(site.read(id, "complaints"), "");
    let mut on = asks.store.read().await.unwrap();
    assert_eq!(projects::secret_token(&mut on, id).await.unwrap(), None);
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.project_id, id);
        seen.push(event.state.phase);
    }
    assert!(seen.contains(&Phase::Running), "{seen:?}");
}

async fn all_who_wait_get_the_result(site: Site) {
    let (one, other) = (site.asks().await, site.asks().await);
    let id = one.make_project().await;
    let _hubs = [site.hub(), site.hub()];
    let starts = (0..20).map(|n| {
        let asks = if n % 2 == 0 { &one } else { &other };
        asks.projects.start(id)
    });
    for state in futures_util::future::join_all(starts).await {
        assert_eq!(state.unwrap().phase, Phase::Running);
    }
    assert_eq!(site.starts(id), 1);
    let stops = (0..20).map(|_| one.projects.stop(id));
    for state in futures_util::future::join_all(stops).await {
        assert_eq!(state.unwrap().phase, Phase::Opened);
    }
    assert!(site.processes(id).is_empty());
}

async fn what_cannot_start_says_why(site: Site) {
    let asks = site.asks().await;
    let _hub = site.hub();
    let id = asks.make_project().await;
    site.tell(id, "fail");
    let error = asks.projects.start(id).await.unwrap_err();
    let Error::Failed { reason, .. } = error else {
        panic!("{error}");
    };
    assert!(reason.contains("cannot find its glasses"), "{reason}");
    let state = asks.projects.state(id).await.unwrap();
    assert_eq!((state.phase, state.error), (Phase::Opened, Some(reason)));
    assert!(site.processes(id).is_empty());
    // The next try is a new one.
    site.untell(id, "fail");
    let state = asks.projects.start(id).await.unwrap();
    assert_eq!((state.phase, state.error), (Phase::Running, None));
    assert!(matches!(
        asks.projects.start(ProjectId::random()).await,
        Err(Error::Missing(_))
    ));
}

async fn an_end_by_itself_is_noticed_and_nothing_is_left(site: Site) {
    let asks = site.asks().await;
    let _hubs = [site.hub(), site.hub()];
    let id = asks.make_project().await;
    asks.projects.start(id).await.unwrap();
    let mut events = asks.projects.events();
    site.kill_first(id);
    loop {
        let event = events.recv().await.unwrap();
        if event.state.phase == Phase::Opened {
            let error = event.state.error.unwrap();
            assert!(error.starts_with("it ended by itself"), "{error}");
            break;
        }
    }
    assert!(site.processes(id).is_empty(), "{:?}", site.processes(id));
    let state = asks.projects.start(id).await.unwrap();
    assert_eq!((state.phase, state.error), (Phase::Running, None));
    assert_eq!(site.read(id, "complaints"), "");
}

async fn a_project_that_does_not_listen_is_killed(site: Site) {
    let asks = site.asks().await;
    let _hub = site.hub();
    let id = asks.make_project().await;
    site.tell(id, "deaf");
    asks.projects.start(id).await.unwrap();
    asks.projects.stop(id).await.unwrap();
    assert!(site.processes(id).is_empty());
}

async fn a_stop_replaces_a_start_that_takes_long(site: Site) {
    let asks = site.asks().await;
    let _hub = site.hub();
    let id = asks.make_project().await;
    site.tell(id, "mute");
    let mut events = asks.projects.events();
    let start = asks.projects.start(id);
    let stop = async {
        while events.recv().await.unwrap().state.phase != Phase::Starting {}
        asks.projects.stop(id).await
    };
    let (started, stopped) = tokio::join!(start, stop);
    assert!(
        matches!(started, Err(Error::Superseded { by: "stop", .. })),
        "{started:?}"
    );
    assert_eq!(stopped.unwrap().phase, Phase::Opened);
    assert!(site.processes(id).is_empty());
}

async fn other_quotas_take_a_restart(site: Site) {
    let asks = site.asks().await;
    let _hub = site.hub();
    let id = asks.make_project().await;
    asks.projects.start(id).await.unwrap();
    asks.projects.set_all_quotas(id).await.unwrap();
    assert_eq!(site.starts(id), 1, "they are what they were");
    let mut on = asks.store.write().await.unwrap();
    let update = projects::Update {
        settings: Some(json!({"memory": 4000})),
        ..projects::Update::default()
    };
    projects::update(&mut on, id, update).await.unwrap();
    on.commit().await.unwrap();
    asks.projects.set_all_quotas(id).await.unwrap();
    // The one that was ordered is joined.
    asks.projects.start(id).await.unwrap();
    assert_eq!(site.starts(id), 2);
    let mut on = asks.store.read().await.unwrap();
    let record = rows::by_id(&mut on, id).await.unwrap().unwrap();
    assert_eq!(record.run_quota.unwrap()["memory_limit"], 4000);
}

async fn files_are_copied_between_projects(site: Site) {
    use dialtone_hub::control::{Copied, CopyPath};
    let asks = site.asks().await;
    let _hub = site.hub();
    let (from, to) = (asks.make_project().await, asks.make_project().await);
    site.tell(from, "notes");
    let copy = |path: &str, wait| CopyPath {
        project_id: from,
        path: path.to_owned(),
        target_project_id: to,
        target_path: "given/notes".to_owned(),
        overwrite_newer: false,
        delete_missing: false,
        backup: false,
        timeout: None,
        bwlimit: None,
        exclude: Vec::new(),
        wait,
        scheduled: None,
    };
    let done = asks.projects.copy_path(copy("notes", true)).await.unwrap();
    assert_eq!(done, Copied::Done);
    assert!(site.home(to).join("given/notes").is_file());
    let refused = asks.projects.copy_path(copy("../../hub.db", true)).await;
    let Err(Error::Path { reason, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("no path below a home"), "{reason}");
    let queued = asks.projects.copy_path(copy("notes", false)).await.unwrap();
    assert!(matches!(queued, Copied::Queued(_)));
}
