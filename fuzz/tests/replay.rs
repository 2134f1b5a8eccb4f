//! Runs every kept input through its target.

use std::path::Path;

use dialtone_fuzz::TARGETS;

#[test]
#[expect(
    clippy::print_stdout,
    reason = "shown when a target panics: the last line names the input"
)]
fn every_kept_input_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, run) in TARGETS {
        let inputs: Vec<_> = std::fs::read_dir(corpus.join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            println!("{name} {}", input.display());
            run(&std::fs::read(&input).unwrap());
        }
    }
}
