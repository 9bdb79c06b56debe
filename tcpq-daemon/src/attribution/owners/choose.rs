//! Which of the processes that hold a socket is its owner.

/// A process that holds the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its number.
    pub(super) pid: u32,
    /// When it started; `None`: it cannot be told.
    pub(super) start: Option<u64>,
    /// What it is to the socket.
    pub(super) role: Role,
}

/// What a process is to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It called `listen()`.
    Opener,
    /// It was given the socket.
    Heir,
    /// A service manager: it passes sockets on and keeps a copy, whoever called
    /// `listen()`.
    Manager,
}

/// Name of systemd's service managers, of the host, of users and of containers.
const MANAGER: &str = "systemd";

/// Names of managers that are nothing else but process 1. By its number alone it is not told:
/// in a container's pid namespace process 1 is the server itself.
const FIRST: [&str; 2] = [MANAGER, "init"];

/// What a holder is, by its number and name.
pub(super) fn role(pid: u32, name: &str, is_opener: impl FnOnce() -> bool) -> Role {
    if name == MANAGER || (pid == 1 && FIRST.contains(&name)) {
        return Role::Manager;
    }
    if is_opener() { Role::Opener } else { Role::Heir }
}

/// The opener, else the oldest heir, else the oldest manager.
pub(super) fn choose(candidates: &[Candidate]) -> Option<Candidate> {
    let rank = |candidate: &Candidate| {
        let role = match candidate.role {
            Role::Opener => 0,
            Role::Heir => 1,
            Role::Manager => 2,
        };
        (role, candidate.start.unwrap_or(u64::MAX), candidate.pid)
    };
    candidates.iter().copied().min_by_key(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(pid: u32, start: u64, role: Role) -> Candidate {
        Candidate { pid, start: Some(start), role }
    }

    #[test]
    fn the_rule() {
        use Role::{Heir, Manager, Opener};
        let unknown = Candidate { pid: 3, start: None, role: Heir };
        for (candidates, owner) in [
            (vec![], None),
            (vec![candidate(9, 5, Opener), candidate(8, 1, Heir)], Some(9)),
            (vec![candidate(9, 5, Heir), candidate(8, 6, Heir)], Some(9)),
            (vec![candidate(9, 5, Heir), candidate(8, 5, Heir)], Some(8)),
            (vec![candidate(1, 0, Manager), candidate(8, 5, Heir)], Some(8)),
            (vec![candidate(1, 0, Manager)], Some(1)),
            (vec![candidate(700, 9, Manager), candidate(1, 0, Manager)], Some(1)),
            (vec![unknown, candidate(9, 5, Heir)], Some(9)),
            (vec![unknown, candidate(1, 0, Manager)], Some(3)),
        ] {
            assert_eq!(choose(&candidates).map(|chosen| chosen.pid), owner, "{candidates:?}");
        }
    }

    #[test]
    fn a_manager_is_one_even_if_it_called_listen() {
        assert_eq!(role(1, "init", || true), Role::Manager);
        assert_eq!(role(1, "nginx", || true), Role::Opener);
        assert_eq!(role(700, "systemd", || true), Role::Manager);
        assert_eq!(role(701, "systemd-resolve", || true), Role::Opener);
        assert_eq!(role(701, "nginx", || false), Role::Heir);
    }
}
