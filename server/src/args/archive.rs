//! The flags of the subcommands of `dialtone stream` that use an archive.

use std::path::PathBuf;

use clap::Args;

use super::StoreArgs;
use crate::config::ArchiveFlags;
use crate::when::When;

/// Which archive.
#[derive(Debug, Args)]
pub(crate) struct ArchiveArgs {
    /// File with the configuration, as TOML, which may name the archive [env: DIALTONE_CONFIG]
    #[arg(long, value_name = "FILE", help_heading = "Archive")]
    pub(crate) config: Option<PathBuf>,
    /// Where it is.
    #[command(flatten)]
    pub(crate) place: ArchiveFlags,
}

/// `dialtone stream points`
#[derive(Debug, Args)]
#[command(after_help = "\
Every point is a state of the whole log of a node, to which `stream restore` and `stream copy` go back.

Examples:
  dialtone stream points --persist-archive s3://archive/p1
  dialtone stream points --config /etc/dialtone/persist.toml --json")]
pub(crate) struct StreamPoints {
    /// Show so many of the newest
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: u32,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Which archive.
    #[command(flatten)]
    pub(crate) archive: ArchiveArgs,
}

/// `dialtone stream restore`
#[derive(Debug, Args)]
#[command(after_help = "\
Writes the log of a node that lost its disk into its data folder, which holds no log yet, and checks
everything against the checksums of the archive. The node is started afterwards. A node with
persist.archive does the same by itself when its folder is empty; this is for going back to an
earlier time, for another folder, and for seeing how far it is. What was interrupted is begun anew.

Examples:
  dialtone stream restore --persist-archive s3://archive/p1 --data /var/lib/dialtone
  dialtone stream restore --config /etc/dialtone/persist.toml --at 2026-11-26T14:30:00Z")]
pub(crate) struct StreamRestore {
    /// The data folder of the node; the log is in persist/ of it [env: DIALTONE_DATA] [default: ~/.local/share/dialtone]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The state that the archive had then: now, how long ago such as 2h, or a time such as 2026-11-26T14:30:00Z [default: the newest]
    #[arg(long, value_name = "WHEN")]
    pub(crate) at: Option<When>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which archive.
    #[command(flatten)]
    pub(crate) archive: ArchiveArgs,
}

/// `dialtone stream copy`
#[derive(Debug, Args)]
#[command(after_help = "\
The copy has the numbers, times, keys, headers and lifetimes of the original, and its configuration;
it has no consumers. Without --at the original is read as it is now. With --at it is read from the
archive of the node that had it, whose log of that time is restored into a scratch folder first:
the node itself need not run, as long as some node takes the copy.

Examples:
  dialtone stream copy notes notes-before
  dialtone stream copy notes notes-before --at 2h --persist-archive s3://archive/p1
  dialtone stream copy notes notes-before --at 2026-11-26T14:30:00Z --scratch /var/tmp")]
pub(crate) struct StreamCopy {
    /// The stream
    pub(crate) from: String,
    /// The stream that is made
    pub(crate) to: String,
    /// As it was in the archive then: now for the newest state, how long ago such as 2h, or a time such as 2026-11-26T14:30:00Z
    #[arg(long, value_name = "WHEN")]
    pub(crate) at: Option<When>,
    /// With --at: folder for the restored log, which is removed at the end [default: that of the system for such files]
    #[arg(long, value_name = "DIR", requires = "at")]
    pub(crate) scratch: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which archive.
    #[command(flatten)]
    pub(crate) archive: ArchiveArgs,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
