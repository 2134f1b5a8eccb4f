//! Writes what it could read, and reads it again.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::round_trip);
