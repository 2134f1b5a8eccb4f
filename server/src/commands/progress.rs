//! Progress bars, on terminals alone.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How a bar of bytes looks whose end is known.
const BYTES: &str =
    "{msg}  {wide_bar}  {bytes} of {total_bytes}  {binary_bytes_per_sec}  {eta} left";

/// How a bar of bytes looks whose end is not known.
const BYTES_OPEN: &str = "{msg}  {spinner}  {bytes}  {binary_bytes_per_sec}  {elapsed}";

/// How a bar of records looks whose end is known.
const RECORDS: &str = "{msg}  {wide_bar}  {human_pos} of {human_len}  {per_sec}  {eta} left";

/// A bar of bytes on standard error; hidden unless that is a terminal.
pub(super) fn bytes(what: &str, total: Option<u64>) -> ProgressBar {
    let style = if total.is_some() { BYTES } else { BYTES_OPEN };
    bar(what, total, style)
}

/// A bar of records on standard error; hidden unless that is a terminal.
pub(super) fn records(what: &str, total: u64) -> ProgressBar {
    bar(what, Some(total), RECORDS)
}

fn bar(what: &str, total: Option<u64>, style: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(10)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(total, target);
    let style = ProgressStyle::with_template(style).expect("the templates of this file are valid");
    bar.with_style(style)
        .with_message(crate::print::harmless(what))
}
