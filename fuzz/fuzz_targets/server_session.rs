//! Drives the broker's view of a peer.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::server_session);
