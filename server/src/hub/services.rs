//! Which parts a process of a site runs.

use crate::args::ServiceArgs;

/// The parts, as the flags of `dialtone hub` choose them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Services {
    /// A broker, which the hub guards.
    pub(crate) broker: bool,
    /// The functions, answered on the broker.
    pub(crate) api: bool,
    /// A node of persist.
    pub(crate) persist: bool,
    /// Signing up and in over HTTP.
    pub(crate) web: bool,
}

impl Services {
    /// What the flags say.
    pub(crate) fn of(args: ServiceArgs) -> Self {
        let server = args.all || args.conat_server;
        Self {
            broker: server || args.conat_router,
            api: server || args.conat_api,
            persist: server || args.conat_persist,
            web: args.all || args.next_server,
        }
    }

    /// Everything that one machine needs.
    pub(crate) fn all() -> Self {
        Self {
            broker: true,
            api: true,
            persist: true,
            web: true,
        }
    }

    /// Whether it talks to a broker that another process runs.
    pub(crate) fn is_remote(self) -> bool {
        !self.broker && (self.api || self.persist)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_is_what_it_says() {
        let none = ServiceArgs::default();
        for (args, [broker, api, persist, web]) in [
            (none, [false; 4]),
            (ServiceArgs { all: true, ..none }, [true; 4]),
            (
                ServiceArgs {
                    conat_server: true,
                    ..none
                },
                [true, true, true, false],
            ),
            (
                ServiceArgs {
                    conat_router: true,
                    ..none
                },
                [true, false, false, false],
            ),
            (
                ServiceArgs {
                    conat_api: true,
                    ..none
                },
                [false, true, false, false],
            ),
            (
                ServiceArgs {
                    conat_persist: true,
                    next_server: true,
                    ..none
                },
                [false, false, true, true],
            ),
        ] {
            let services = Services::of(args);
            let expected = Services {
                broker,
                api,
                persist,
                web,
            };
            assert_eq!(services, expected, "{args:?}");
        }
    }
}
