//! `dialtone bench` as a program of its own, for work on the load generator itself.

use std::io::{stderr, stdout};

use clap::Parser as _;
use dialtone_load::LoadError;
use dialtone_load::args::BenchArgs;

fn main() -> Result<(), LoadError> {
    dialtone_load::cli::main(
        &BenchArgs::parse(),
        &mut stdout().lock(),
        &mut stderr().lock(),
    )
}
