//! Lets another node say anything to a broker of a cluster.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::link);
