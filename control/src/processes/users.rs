//! Names for users of projects, for programs that want one. Rights follow from numbers alone.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// What `useradd` and `groupadd` say when there is one already.
const THERE: &[i32] = &[4, 9];

/// What they say when somebody else changes the list; it is tried again.
const LOCKED: &[i32] = &[1, 10];

/// How often, and with what pauses.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// Enters a user into the list of users, unless it is there. On machines without tools for that, nothing is done.
///
/// # Errors
/// With what the tools say.
pub(super) async fn ensure(uid: u32, home: &Path) -> Result<(), String> {
    if is_listed("/etc/passwd", uid) && is_listed("/etc/group", uid) {
        return Ok(());
    }
    let (Some(groupadd), Some(useradd)) =
        (super::find_tool("groupadd"), super::find_tool("useradd"))
    else {
        return Ok(());
    };
    let (name, number) = (format!("project{uid}"), uid.to_string());
    let mut group = Command::new(groupadd);
    group.args(["--gid", &number, &name]);
    run(&mut group).await?;
    let mut user = Command::new(useradd);
    user.args([
        "--uid",
        &number,
        "--gid",
        &number,
        "--no-create-home",
        "--no-log-init",
    ]);
    user.args(["--shell", "/bin/bash", "--home-dir"])
        .arg(home)
        .arg(&name);
    run(&mut user).await
}

async fn run(command: &mut Command) -> Result<(), String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    for attempt in 1.. {
        let output = command.output().await;
        let output = output.map_err(|error| format!("its user: {error}"))?;
        let code = output.status.code().unwrap_or(-1);
        if output.status.success() || THERE.contains(&code) {
            return Ok(());
        }
        if !LOCKED.contains(&code) || attempt == ATTEMPTS {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("its user: {}", said.trim()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Whether a number stands in the third column.
fn is_listed(file: &str, number: u32) -> bool {
    let number = number.to_string();
    let list = std::fs::read_to_string(file).unwrap_or_default();
    list.lines()
        .any(|line| line.split(':').nth(2) == Some(&number))
}
