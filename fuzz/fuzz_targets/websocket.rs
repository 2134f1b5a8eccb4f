//! Takes the framing out of what a WebSocket peer sends.

#![cfg_attr(fuzzing, no_main)]

dialtone_fuzz::target!(dialtone_fuzz::websocket);
