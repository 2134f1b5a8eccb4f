//! Follows any text as a path of the proxy.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::proxy_path);
