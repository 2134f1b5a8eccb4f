//! Functions that editors need.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::arguments::Arguments;
use super::{Api, unknown};
use crate::error::{Code, Error};
use crate::files;

/// Seconds that Jupyter may take to tell its kernels.
const KERNELS_SECONDS: u32 = 30;

/// Seconds that a conversion may take where the client does not say.
const CONVERT_SECONDS: u32 = 30;

/// Seconds that a formatter may take.
const FORMAT_SECONDS: u32 = 20;

#[derive(Debug, Deserialize)]
struct Convert {
    args: Vec<String>,
    directory: Option<String>,
    timeout: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Format {
    str: String,
    #[serde(default)]
    options: FormatOptions,
}

#[derive(Debug, Default, Deserialize)]
struct FormatOptions {
    syntax: Option<String>,
    parser: Option<String>,
}

pub(super) async fn call(api: &Arc<Api>, name: &str, mut args: Arguments) -> Result<Json, Error> {
    match name {
        "newFile" => {
            let path: String = args.next()?;
            api.blocking(move |api| new_file(&api.home.resolve(&path)?))
                .await?;
            Ok(Json::Null)
        }
        "createTerminalService" => super::terminal::call(api, "create", args).await,
        "jupyterStripNotebook" => {
            let path: String = args.next()?;
            api.blocking(move |api| {
                let path = api.home.resolve(&path)?;
                strip(&path, &files::read_text(&path, api.limits.text_len_max)?)
            })
            .await
        }
        "jupyterNbconvert" => convert(api, args.next()?).await,
        "jupyterKernels" => kernels(api).await,
        "formatterString" => format(api, args.next()?).await,
        _ => Err(unknown(&format!("editor.{name}"))),
    }
}

/// An empty file, if there is none.
fn new_file(path: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("create", path, &error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let opened = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    match opened {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => Ok(()),
    }
}

/// A notebook as text, without what its cells have printed.
fn strip(path: &Path, text: &str) -> Result<Json, Error> {
    let wrong = |why: &dyn std::fmt::Display| {
        let text = format!("{} is no notebook: {why}", path.display());
        Error::new(Code::InvalidArgument, text)
    };
    let mut notebook: Json = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    let cells = notebook.get_mut("cells").and_then(Json::as_array_mut);
    let cells = cells.ok_or_else(|| wrong(&"it has no cells"))?;
    for cell in cells.iter_mut().filter_map(Json::as_object_mut) {
        if cell.get("cell_type").and_then(Json::as_str) == Some("code") {
            cell.insert("outputs".to_owned(), json!([]));
            cell.insert("execution_count".to_owned(), Json::Null);
        }
    }
    serde_json::to_string_pretty(&notebook)
        .map(Json::String)
        .map_err(|error| wrong(&error))
}

async fn convert(api: &Api, convert: Convert) -> Result<Json, Error> {
    let args: Vec<String> = std::iter::once("nbconvert".to_owned())
        .chain(convert.args)
        .collect();
    let request = json!({
        "command": "jupyter",
        "args": args,
        "path": convert.directory,
        "timeout": convert.timeout.unwrap_or_else(|| f64::from(CONVERT_SECONDS)),
    });
    run(api, request).await
}

/// The kernels that Jupyter knows, in the fields that clients know.
pub(super) async fn kernels(api: &Api) -> Result<Json, Error> {
    let request = json!({
        "command": "jupyter",
        "args": ["kernelspec", "list", "--json"],
        "timeout": KERNELS_SECONDS,
    });
    let found = run(api, request).await?;
    let text = found["stdout"].as_str().unwrap_or_default();
    let listed: Json = serde_json::from_str(text).map_err(|error| {
        Error::new(
            Code::Failed,
            format!("what Jupyter tells of its kernels: {error}"),
        )
    })?;
    let specs = listed["kernelspecs"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let describe = |(name, spec): (&String, &Json)| {
        json!({
            "name": name,
            "display_name": spec["spec"]["display_name"],
            "language": spec["spec"]["language"],
            "interrupt_mode": spec["spec"]["interrupt_mode"],
            "metadata": spec["spec"]["metadata"],
            "resource_dir": spec["resource_dir"],
        })
    };
    Ok(specs.iter().map(describe).collect())
}

/// A text in order, by the formatter of its language.
async fn format(api: &Arc<Api>, format: Format) -> Result<Json, Error> {
    let language = format
        .options
        .syntax
        .or(format.options.parser)
        .unwrap_or_default();
    let (ending, command): (&str, &[&str]) = match language.as_str() {
        "python" | "py" => ("py", &["yapf"]),
        "go" => ("go", &["gofmt"]),
        "rust" | "rs" => ("rs", &["rustfmt", "--emit", "stdout", "--quiet"]),
        "clang" | "c" | "cpp" | "c++" => ("cpp", &["clang-format"]),
        "json" => ("json", &["jq", "."]),
        "latex" | "tex" => ("tex", &["latexindent"]),
        "markdown" | "md" | "html" | "css" | "typescript" | "javascript" | "yaml" => {
            ("txt", &["prettier"])
        }
        other => {
            return Err(Error::argument(
                "options.syntax",
                format!("no formatter for {other:?}"),
            ));
        }
    };
    let mark: u64 = rand::random();
    let path = std::env::temp_dir().join(format!("dialtone-format-{mark:016x}.{ending}"));
    let (text, len_max) = (format.str, api.limits.text_len_max);
    let written = path.clone();
    api.blocking(move |_api| files::write_text(&written, &text, len_max))
        .await?;
    let mut args: Vec<String> = command
        .iter()
        .skip(1)
        .map(|arg| (*arg).to_owned())
        .collect();
    if ending == "txt" {
        args.push(format!("--parser={}", parser(&language)));
    }
    args.push(path.display().to_string());
    let request = json!({
        "command": command.first(),
        "args": args,
        "bash": false,
        "timeout": FORMAT_SECONDS,
    });
    let done = run(api, request).await;
    api.blocking(move |_api| {
        std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, &error))
    })
    .await?;
    Ok(done?["stdout"].take())
}

fn parser(language: &str) -> &str {
    match language {
        "md" => "markdown",
        "javascript" => "babel",
        other => other,
    }
}

async fn run(api: &Api, request: Json) -> Result<Json, Error> {
    let request = serde_json::from_value(request)
        .map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    api.jobs.exec(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notebooks_are_stripped() {
        let path = Path::new("a.ipynb");
        let text = r#"{"cells":[{"cell_type":"code","source":"1","outputs":[1],"execution_count":3},
            {"cell_type":"markdown","source":"x"}],"nbformat":4}"#;
        let stripped = strip(path, text).unwrap();
        let stripped: Json = serde_json::from_str(stripped.as_str().unwrap()).unwrap();
        assert_eq!(stripped["cells"][0]["outputs"], json!([]));
        assert_eq!(stripped["cells"][0]["execution_count"], Json::Null);
        assert_eq!(stripped["cells"][0]["source"], "1");
        assert_eq!(stripped["nbformat"], 4);
        for wrong in ["", "[]", "{}", "{\"cells\":1}"] {
            assert_eq!(
                strip(path, wrong).unwrap_err().code,
                Code::InvalidArgument,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_new_file_harms_no_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        new_file(&path).unwrap();
        std::fs::write(&path, "x").unwrap();
        new_file(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "x");
    }
}
