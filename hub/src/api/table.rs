//! The table of all functions.

use super::function::Function;

mod db;
mod jupyter;
mod messages;
mod org;
mod projects;
mod purchases;
mod sync;
mod system;

/// The groups, in the order in which they are listed.
const GROUPS: &[(&str, &[Function])] = &[
    ("system", system::FUNCTIONS),
    ("projects", projects::FUNCTIONS),
    ("db", db::FUNCTIONS),
    ("purchases", purchases::FUNCTIONS),
    ("jupyter", jupyter::FUNCTIONS),
    ("sync", sync::FUNCTIONS),
    ("org", org::FUNCTIONS),
    ("messages", messages::FUNCTIONS),
];

/// All functions.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    GROUPS.iter().flat_map(|(_, functions)| *functions)
}

/// The function of this name.
pub fn find(name: &str) -> Option<&'static Function> {
    let (group, _) = name.split_once('.')?;
    let (_, functions) = GROUPS.iter().find(|(known, _)| *known == group)?;
    functions.iter().find(|function| function.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::function::Rule;
    use crate::api::shape::{Field, Shape};

    #[test]
    fn every_function_is_found_by_its_name() {
        let names: BTreeSet<&str> = functions().map(|function| function.name).collect();
        assert_eq!(names.len(), functions().count());
        assert_eq!(names.len(), 58, "57 of the original, and system.describe");
        for function in functions() {
            assert!(std::ptr::eq(find(function.name).unwrap(), function));
            assert!(function.about.ends_with('.'), "{}", function.name);
        }
        for (group, functions) in GROUPS {
            for function in *functions {
                assert_eq!(function.name.split('.').next(), Some(*group));
            }
        }
        for name in [
            "",
            "system",
            "system.",
            "system.none",
            "none.ping",
            "system.ping.x",
        ] {
            assert!(find(name).is_none(), "{name}");
        }
    }

    fn field(fields: &'static [Field], path: &str) -> Option<&'static Field> {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let found = fields.iter().find(|field| field.name == first)?;
        match (&found.shape, rest) {
            (_, "") => Some(found),
            (Shape::Object(fields), rest) => field(fields, rest),
            (_, _) => None,
        }
    }

    /// A rule about a field that does not exist would hold for everybody.
    #[test]
    fn rules_name_fields_that_are_declared() {
        for function in functions() {
            for rule in function.rules {
                let path = match rule {
                    Rule::Account | Rule::Admin => continue,
                    Rule::AdminIf(path) | Rule::Member(path) | Rule::MemberOrAdmin(path) => path,
                };
                let Some(Shape::Object(fields)) = function.params.first().map(|param| param.shape)
                else {
                    panic!("{} has no object for {path}", function.name);
                };
                assert!(
                    field(fields, path).is_some(),
                    "{} has no {path}",
                    function.name
                );
            }
        }
    }

    /// Whoever adds a function with a project must say who may use it.
    #[test]
    fn a_project_among_the_arguments_has_a_rule() {
        fn projects(fields: &'static [Field], prefix: &str, found: &mut Vec<String>) {
            for field in fields {
                let path = format!("{prefix}{}", field.name);
                if field.name.ends_with("project_id") {
                    found.push(path.clone());
                }
                if let Shape::Object(fields) = field.shape {
                    projects(fields, &format!("{path}."), found);
                }
            }
        }
        // Tokens and sandboxes let others in: the handler decides about each element.
        let by_handler = ["projects.addCollaborator opts.project_id"];
        for function in functions() {
            let Some(Shape::Object(fields)) = function.params.first().map(|param| param.shape)
            else {
                continue;
            };
            let mut found = Vec::new();
            projects(fields, "", &mut found);
            for path in found {
                let ruled = function.rules.iter().any(|rule| match rule {
                    Rule::Account => false,
                    Rule::Admin => true,
                    Rule::AdminIf(ruled) | Rule::Member(ruled) | Rule::MemberOrAdmin(ruled) => {
                        *ruled == path
                    }
                });
                let excepted = by_handler.contains(&format!("{} {path}", function.name).as_str());
                assert!(ruled != excepted, "{} {path}", function.name);
            }
        }
    }
}
