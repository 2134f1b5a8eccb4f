//! Holds subjects and patterns to their definition.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::subject);
