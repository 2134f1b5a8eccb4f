//! `docs/api.md` says what the functions and tables are. It is made from what `system.describe` answers and from the
//! rules of the tables: `UPDATE_DOCS=1 cargo nextest run -p dialtone-hub docs` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use dialtone_hub::api::functions;
use dialtone_hub::query::{Rows, TABLES, Table, Who, Write};
use serde_json::Value as Json;

const HEAD: &str = "# The functions and tables of the hub, one by one

For authors of front ends and programs. How a function is called, what an answer looks like and which errors there are is \
in [hub-api.md](hub-api.md). This page is made from what `system.describe` answers and from the rules of the tables \
(`hub/tests/api/docs.rs`), so that it says what the hub does.

Under *who* stands what is checked before a function runs; what is said there of a field holds where the field is given. What a function decides by its rows, as who looks after an \
organization, stands in its description. Times are milliseconds since 1970.

";

/// A form in words of JSON schema.
fn form(schema: &Json) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("`{}`", word.as_str().unwrap()))
            .collect();
        return words.join(", ");
    }
    if let Some(forms) = schema["anyOf"].as_array() {
        let forms: Vec<String> = forms.iter().map(form).collect();
        return forms.join(" or ");
    }
    match schema["type"].as_str() {
        Some("string") => match (schema["format"].as_str(), schema["maxLength"].as_u64()) {
            (Some(format), _) => format.to_uppercase().replace("EMAIL", "e-mail address"),
            (None, Some(max)) => format!("text, {max} bytes"),
            (None, None) => "text".to_owned(),
        },
        Some("integer") if schema["description"].is_string() => "time".to_owned(),
        Some("integer") => format!("{} to {}", schema["minimum"], schema["maximum"]),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => format!("list of {}: {}", schema["maxItems"], form(&schema["items"])),
        Some("object") => "object".to_owned(),
        Some(other) => other.to_owned(),
        None => schema["description"]
            .as_str()
            .unwrap_or("anything")
            .to_owned(),
    }
}

/// The fields of an argument, with those of objects in it.
fn put_fields(out: &mut String, schema: &Json, indent: usize) {
    let required = schema["required"].as_array();
    let is_required =
        |name: &str| required.is_some_and(|required| required.iter().any(|one| one == name));
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    for (name, field) in fields {
        let pad = " ".repeat(indent);
        let must = if is_required(name) { " (required)" } else { "" };
        writeln!(out, "{pad}- `{name}`{must}: {}", form(field)).unwrap();
        put_fields(out, field, indent + 2);
    }
}

fn put_function(out: &mut String, described: &Json) {
    let text = |field: &str| described[field].as_str().unwrap();
    writeln!(out, "### `{}`\n\n{}\n", text("name"), text("about")).unwrap();
    let mut who: Vec<String> = described["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule.as_str().unwrap().to_owned())
        .collect();
    if who.is_empty() {
        who.push(
            if text("auth").contains("equireAccount") {
                "account"
            } else {
                "everybody"
            }
            .to_owned(),
        );
    }
    let seconds = described["timeout_max"].as_u64().unwrap() / 1_000;
    writeln!(out, "Who: {}. At most {seconds} s.\n", who.join("; ")).unwrap();
    let params = described["params"].as_array().unwrap();
    for (number, param) in params.iter().enumerate() {
        let must = if param["required"] == true {
            " (required)"
        } else {
            ""
        };
        let name = param["name"].as_str().unwrap();
        writeln!(
            out,
            "- `args[{number}]`, {name}{must}: {}",
            form(&param["schema"])
        )
        .unwrap();
        put_fields(out, &param["schema"], 2);
    }
    if !params.is_empty() {
        out.push('\n');
    }
}

fn rows(rows: &[Rows]) -> String {
    let parts: Vec<String> = rows
        .iter()
        .map(|rows| match rows {
            Rows::Own(column) => format!("`{column}` is the caller"),
            Rows::Member(column) => format!("`{column}` is a project of the caller"),
            Rows::Listed(column) => format!("the caller is in `{column}`"),
            Rows::SharesProject(column) => format!("`{column}` shares a project with the caller"),
            Rows::Named(column) => format!("`{column}` is given"),
            Rows::Within(column, age) => {
                format!("`{column}` is within {} h", age.as_secs() / 3_600)
            }
            Rows::Is(column, value) => format!("`{column}` is {value:?}")
                .replace("Bool(", "")
                .replace(')', ""),
            Rows::NoneOf(column, _) => format!("`{column}` is no secret"),
        })
        .collect();
    if parts.is_empty() {
        "all rows".to_owned()
    } else {
        parts.join(", ")
    }
}

fn who(who: Who) -> &'static str {
    match who {
        Who::Account => "accounts",
        Who::AccountOrProject => "accounts and projects",
        Who::Project => "projects",
        Who::Admin => "admins",
    }
}

fn names(table: &Table, wanted: impl Fn(&dialtone_hub::query::Field) -> bool) -> String {
    let names: Vec<String> = table
        .fields
        .iter()
        .filter(|field| wanted(field))
        .map(|field| format!("`{}`", field.name))
        .collect();
    names.join(", ")
}

fn put_table(out: &mut String, table: &Table) {
    writeln!(out, "### `{}`\n", table.name).unwrap();
    if let Some(get) = &table.get {
        let fields = names(table, |field| field.read);
        writeln!(
            out,
            "- read by {}: {}; rows unless more are asked for: {}",
            who(get.who),
            rows(get.rows),
            get.limit
        )
        .unwrap();
        writeln!(out, "- fields: {fields}").unwrap();
    }
    if let Some(set) = &table.set {
        let mut how = Vec::new();
        how.extend(set.insert.then_some("made"));
        how.extend(set.update.then_some("changed"));
        how.extend(set.delete.then_some("deleted"));
        let owner = if set.owner {
            ", owners of the project alone"
        } else {
            ""
        };
        writeln!(
            out,
            "- {} by {}{owner}: {}",
            how.join(", "),
            who(set.who),
            rows(set.rows)
        )
        .unwrap();
        let fields = names(table, |field| field.write != Write::No);
        writeln!(out, "- written: {fields}").unwrap();
    }
    out.push('\n');
}

fn page() -> String {
    let mut out = HEAD.to_owned();
    let mut group = "";
    for function in functions() {
        let own = function.name.split('.').next().unwrap();
        if own != group {
            group = own;
            writeln!(out, "## `{group}`\n").unwrap();
        }
        put_function(&mut out, &function.describe(true));
    }
    out.push_str(
        "## Tables of `db.userQuery`\n\nWhat does not stand here cannot be read or written.\n\n",
    );
    for table in TABLES {
        put_table(&mut out, table);
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

#[test]
fn the_page_says_what_there_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written
        .lines()
        .zip(page.lines())
        .find(|(one, other)| one != other);
    assert!(
        written == page,
        "docs/api.md is not what there is (UPDATE_DOCS=1 writes it); first difference: {differs:?}"
    );
}
