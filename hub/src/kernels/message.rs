//! What is said to a kernel and what it says, as text of JSON: pure.

use serde_json::{Value as Json, json};

/// The version of the protocol that is spoken.
const VERSION: &str = "5.3";

/// What a kernel has said.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// Output of the cell.
    Output(Json),
    /// It has done the cell.
    Done,
    /// Something that is not for us.
    Nothing,
}

/// The message that runs a cell.
pub(super) fn execute(session: &str, id: &str, code: &str) -> String {
    json!({
        "channel": "shell",
        "header": {
            "msg_id": id,
            "msg_type": "execute_request",
            "session": session,
            "username": "",
            "version": VERSION,
        },
        "parent_header": {},
        "metadata": {},
        "content": {
            "code": code,
            "silent": false,
            "store_history": true,
            "user_expressions": {},
            "allow_stdin": false,
            "stop_on_error": true,
        },
        "buffers": [],
    })
    .to_string()
}

/// What a message of a kernel means for the cell with this number.
pub(super) fn read(text: &str, id: &str) -> Result<Said, serde_json::Error> {
    let mut message: Json = serde_json::from_str(text)?;
    if message["parent_header"]["msg_id"] != id || message["channel"] != "iopub" {
        return Ok(Said::Nothing);
    }
    let kind = message["header"]["msg_type"].take();
    let content = message["content"].take();
    Ok(match kind.as_str().unwrap_or_default() {
        "status" if content["execution_state"] == "idle" => Said::Done,
        "stream" | "display_data" | "execute_result" | "error" => Said::Output(content),
        _ => Said::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(channel: &str, kind: &str, parent: &str, content: &Json) -> Said {
        let message = json!({
            "channel": channel, "header": {"msg_type": kind},
            "parent_header": {"msg_id": parent}, "content": content,
        });
        read(&message.to_string(), "7").unwrap()
    }

    #[test]
    fn output_of_the_own_cell_is_kept_until_it_is_done() {
        let stream = json!({"name": "stdout", "text": "2\n"});
        let idle = json!({"execution_state": "idle"});
        for (channel, kind, parent, content, expected) in [
            (
                "iopub",
                "stream",
                "7",
                stream.clone(),
                Said::Output(stream.clone()),
            ),
            ("iopub", "stream", "8", stream.clone(), Said::Nothing),
            ("shell", "stream", "7", stream, Said::Nothing),
            (
                "iopub",
                "status",
                "7",
                json!({"execution_state": "busy"}),
                Said::Nothing,
            ),
            ("iopub", "status", "8", idle.clone(), Said::Nothing),
            ("iopub", "status", "7", idle, Said::Done),
            (
                "iopub",
                "execute_input",
                "7",
                json!({"code": "1"}),
                Said::Nothing,
            ),
        ] {
            assert_eq!(
                said(channel, kind, parent, &content),
                expected,
                "{channel} {kind} {parent}"
            );
        }
        assert!(read("{", "7").is_err());
        assert_eq!(read("[]", "7").unwrap(), Said::Nothing);
    }

    #[test]
    fn a_cell_is_run_without_input_of_people() {
        let message: Json = serde_json::from_str(&execute("s", "7", "1+1")).unwrap();
        assert_eq!(message["header"]["msg_id"], "7");
        assert_eq!(message["content"]["code"], "1+1");
        assert_eq!(message["content"]["allow_stdin"], false);
    }
}
