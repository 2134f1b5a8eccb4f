//! Answers any bytes as an upgrade request.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::http_upgrade);
