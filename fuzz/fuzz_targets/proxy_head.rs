//! Reads any lines as the head of a request to the proxy, and of an answer.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::proxy_head);
