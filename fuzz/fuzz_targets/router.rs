//! Compares the table of subscriptions with the definition of routing.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::router);
