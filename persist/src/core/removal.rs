//! Taking records out because somebody asks for it.

use dialtone_client::persist::wire::{Durability, Expect, Fault, FaultKind, RemovalCause, What};

use super::state::State;
use super::verdict::{Ahead, expect};

impl State {
    /// Takes records out; returns how many, and their ranges.
    ///
    /// # Errors
    /// `wrong-last-sequence`, `bad-request`, `restoring`.
    pub fn remove(
        &mut self,
        now: u64,
        what: &What,
        expected: Option<Expect>,
        durability: Option<Durability>,
    ) -> Result<(u64, Vec<(u64, u64)>), Fault> {
        self.writable()?;
        self.expire(now);
        match (expected, what) {
            (None, _) => {}
            (Some(Expect::LastSeq(seq)), _) => expect(seq, self.last_seq, "the stream's last")?,
            (Some(Expect::KeySeq(seq)), What::Key(key)) => {
                expect(seq, self.key_seq(key, &Ahead::default()), "the key's")?;
            }
            (Some(Expect::KeySeq(_)), _) => {
                return Err(Fault::new(
                    FaultKind::BadRequest,
                    "an expectation of a key's number goes with the removal of a key",
                ));
            }
        }
        let (seqs, is_dense) = self.selected(what);
        if seqs.is_empty() {
            return Ok((0, Vec::new()));
        }
        let ranges = self.remove_all(now, RemovalCause::Request, &seqs, is_dense);
        self.wish(durability.unwrap_or(self.meta.config.durability));
        Ok((seqs.len() as u64, ranges))
    }

    /// The numbers that are meant and there, ascending, and whether there is none between them that is not meant.
    fn selected(&self, what: &What) -> (Vec<u64>, bool) {
        let between = |from: u64, to: u64| {
            let all = self.records.iter_from(from).map(|(seq, ..)| seq);
            all.take_while(|seq| *seq <= to).collect::<Vec<u64>>()
        };
        match what {
            What::Seqs(seqs) => {
                let mut seqs = seqs.clone();
                seqs.retain(|seq| self.records.contains(*seq));
                seqs.sort_unstable();
                seqs.dedup();
                (seqs, false)
            }
            What::UpTo(to) => (between(0, *to), true),
            What::Range(from, to) => (between(*from, *to), true),
            What::All => (between(0, u64::MAX), true),
            What::Key(key) => (self.records.seqs_of(key).to_vec(), false),
            What::Prefix(prefix) => {
                let keys = self.records.keys(prefix, None);
                let mut seqs: Vec<u64> = keys.flat_map(|(_, seqs)| seqs).copied().collect();
                seqs.sort_unstable();
                (seqs, false)
            }
        }
    }
}
