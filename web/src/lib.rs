//! Pages for people: signing up and in, their projects, their account. Plain HTML, without scripts.
//!
//! ```text
//!   request ──▶ site     which page (a path and a method)
//!                │
//!                ├──▶ guard     is it a page that a person opened, a form that this site gave out (pure)
//!                ├──▶ entry     signing up, in and out, a new password, one's address; first_admin
//!                ├──▶ projects  the list, and one project: start, stop, open
//!                └──▶ account   keys, sessions, the sites that vouch for it; ways
//!                       │
//!                     calls ──▶ the functions of the hub, as the account that is signed in
//! ```
//!
//! Whatever a page does, it does by a function of the API, with its checks and bounds: pages know no database. Projects
//! may be served below the same host, so that their scripts could ask for these pages; [`guard`] has what stands
//! against that.

pub mod guard;

mod account;
mod calls;
mod entry;
mod first_admin;
mod form;
mod page;
mod projects;
mod site;
mod ways;

pub use site::Site;
