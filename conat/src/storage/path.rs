//! Whose stream a path names, and whether the one who asks may use it.

use dialtone_client::persist::Owner;

use super::reply::Refusal;

/// Longest path, in characters.
const PATH_LEN_MAX: usize = 4_000;

/// The owner of the stream at `path`, for a client whose socket is at `<service>.<scope>`.
pub(super) fn owner(base_subject: &str, service: &str, path: &str) -> Result<Owner, Refusal> {
    let denied = |text: String| Refusal::with_code(format!("permission denied: {text}"), 403);
    if !is_normalized(path) {
        let text = format!("permission denied: path '{path}' is not normalized");
        return Err(Refusal::new(text));
    }
    if path.chars().count() > PATH_LEN_MAX {
        return Err(denied(format!(
            "path has more than {PATH_LEN_MAX} characters"
        )));
    }
    if path.starts_with('/') || path.ends_with('/') {
        return Err(denied(format!(
            "path '{path}' must not begin or end with /"
        )));
    }
    let mut segments = base_subject.split('.');
    if segments.next() != Some(service) {
        return Err(denied(format!(
            "'{base_subject}' is not of the service {service}"
        )));
    }
    let scope = segments.next().unwrap_or_default();
    let Some(owner) = Owner::from_scope(scope) else {
        return Err(denied(format!(
            "'{scope}' is neither hub, an account nor a project"
        )));
    };
    if path.starts_with(&owner.prefix()) {
        return Ok(owner);
    }
    Err(denied(format!(
        "path '{path}' must begin with '{}' for {scope}",
        owner.prefix()
    )))
}

/// Whether nothing about a path can be said shorter.
fn is_normalized(path: &str) -> bool {
    !path.is_empty()
        && path != "/"
        && !path
            .trim_start_matches('/')
            .trim_end_matches('/')
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."))
        && !path.contains("//")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5f3a2c51-7d2e-4c39-9d4b-5a0d0c3f7b11";

    #[track_caller]
    fn check(subject: &str, path: &str, expected: Result<(), Option<u16>>) {
        let found = owner(subject, "persist", path);
        let found = found.map(|_| ()).map_err(|refusal| refusal.code);
        assert_eq!(
            found,
            expected.map_err(|code| code.map(Into::into)),
            "{subject} {path}"
        );
    }

    #[test]
    fn scopes_use_their_own_paths() {
        let (project, account) = (
            format!("persist.project-{ID}"),
            format!("persist.account-{ID}"),
        );
        check("persist.hub", "anything/at/all", Ok(()));
        check(&project, &format!("projects/{ID}/foo/..bar"), Ok(()));
        check(&account, &format!("accounts/{ID}/x"), Ok(()));
        check(&account, &format!("projects/{ID}/x"), Err(Some(403)));
        check(&project, "hub/x", Err(Some(403)));
        check(
            &format!("{project}x"),
            &format!("projects/{ID}/x"),
            Err(Some(403)),
        );
        check("persist.somebody", "x", Err(Some(403)));
        check("other.hub", "x", Err(Some(403)));
    }

    #[test]
    fn paths_are_normalized() {
        for path in ["", "a//b", "a/./b", "a/../b", "./a"] {
            check("persist.hub", path, Err(None));
        }
        for path in ["/a", "a/"] {
            check("persist.hub", path, Err(Some(403)));
        }
        check("persist.hub", &"x".repeat(4_001), Err(Some(403)));
    }
}
