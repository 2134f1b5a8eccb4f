//! Sends a broker whatever a peer can, beside a peer that behaves.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::connection);
