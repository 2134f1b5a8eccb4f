//! Projects as pods of a cluster (`--mode kubernetes`), where this program was built with that.

use std::path::Path;

use super::projects::Runs;
use crate::exit::Failure;

#[cfg(not(feature = "kubernetes"))]
#[expect(
    clippy::unused_async,
    reason = "with the feature it waits for the cluster"
)]
pub(super) async fn runs(_file: Option<&Path>) -> Result<Runs, Failure> {
    Err(Failure::usage(
        "--mode kubernetes runs projects as pods, which this program was built without",
    )
    .hint(
        "build it with `cargo build --release -p dialtone-server --features kubernetes`; or --mode kucalc with `dialtone worker` runs projects on other machines",
    ))
}

/// What runs projects in the cluster that the file describes.
#[cfg(feature = "kubernetes")]
pub(super) async fn runs(file: Option<&Path>) -> Result<Runs, Failure> {
    use std::sync::Arc;

    use dialtone_control::runner::Runner;
    use dialtone_control_kubernetes::Kubernetes;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use crate::exit::Exit;

    let Some(file) = file else {
        return Err(Failure::usage(
            "--mode kubernetes needs a file that says how pods are made: DIALTONE_KUBERNETES names it",
        )
        .hint("docs/kubernetes.md has an example"));
    };
    let config = read(file)?;
    let start_max = config.start_max();
    let stop = CancellationToken::new();
    let opened = Kubernetes::open(config, &TaskTracker::new(), stop.clone()).await;
    let pods = opened.map_err(|error| Failure::new(Exit::Failure, error))?;
    Ok(Runs {
        host: Some(pods.host().to_owned()),
        runner: Some(Arc::new(pods) as Arc<dyn Runner>),
        processes: None,
        start_max: Some(start_max),
        _following: Some(stop.drop_guard()),
    })
}

#[cfg(feature = "kubernetes")]
fn read(file: &Path) -> Result<dialtone_control_kubernetes::Config, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format_args!("cannot read {shown}: {error}")))?;
    let config: dialtone_control_kubernetes::Config =
        toml::from_str(&text).map_err(|error| Failure::usage(format_args!("{shown}: {error}")))?;
    config
        .check()
        .map_err(|error| Failure::usage(format_args!("{shown}: {error}")))?;
    Ok(config)
}
