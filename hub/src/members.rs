//! Who is in a project, and as what: the one place that decides about changes of it.
//!
//! | change | who | beside that |
//! |---|---|---|
//! | add | members; owners alone where the site or the project says so | who is in it stays what they are |
//! | remove | the same; everybody oneself | owners are not removed |
//! | make owner or collaborator | owners | an owner remains |

use crate::id::AccountId;
use crate::store::projects::Group;
use crate::time::Time;

/// What is to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Somebody becomes a collaborator.
    Add(AccountId),
    /// Somebody is in it no longer.
    Remove(AccountId),
    /// Somebody who is in it becomes this.
    Make(AccountId, Group),
}

/// What is known of a project when a change is decided, by nobody else changed meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Who wants the change.
    pub caller: AccountId,
    /// Who is in it.
    pub members: &'a [(AccountId, Group)],
    /// Whether owners alone decide who is in it, because the site or the project says so.
    pub owners_manage: bool,
}

/// What is to be done for a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it is so already.
    Nothing,
    /// Somebody is in it as this.
    Put(AccountId, Group),
    /// Somebody is taken out of it.
    Delete(AccountId),
}

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The caller is not in it.
    #[error("user must be a collaborator on the project")]
    Requester,
    /// Only owners may.
    #[error("only owners of the project may do that")]
    NotOwner,
    /// Whom it is about is not in it.
    #[error("the account is not in the project")]
    Target,
    /// An owner is not removed.
    #[error("an owner cannot be removed; make them a collaborator first")]
    Owner,
    /// Nobody would own it.
    #[error("the project must have an owner")]
    LastOwner,
}

impl Refused {
    /// The name by which clients of the original know it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Requester => "INVALID_REQUESTING_USER",
            Self::NotOwner => "NOT_OWNER",
            Self::Target => "INVALID_TARGET",
            Self::Owner => "CANNOT_REMOVE_OWNER",
            Self::LastOwner => "LAST_OWNER",
        }
    }
}

impl Situation<'_> {
    /// What is to be done for a change.
    ///
    /// # Errors
    /// When the caller may not, or the project would have no owner.
    pub fn decide(&self, change: Change) -> Result<Effect, Refused> {
        let own = self.group(self.caller).ok_or(Refused::Requester)?;
        match change {
            Change::Add(target) => {
                self.may_manage(own)?;
                Ok(match self.group(target) {
                    Some(_) => Effect::Nothing,
                    None => Effect::Put(target, Group::Collaborator),
                })
            }
            Change::Remove(target) => {
                if target != self.caller {
                    self.may_manage(own)?;
                }
                match self.group(target) {
                    None => Err(Refused::Target),
                    Some(Group::Owner) => Err(Refused::Owner),
                    Some(Group::Collaborator) => Ok(Effect::Delete(target)),
                }
            }
            Change::Make(target, group) => self.make(own, target, group),
        }
    }

    fn make(&self, own: Group, target: AccountId, group: Group) -> Result<Effect, Refused> {
        if own != Group::Owner {
            return Err(Refused::NotOwner);
        }
        let before = self.group(target).ok_or(Refused::Target)?;
        if before == group {
            return Ok(Effect::Nothing);
        }
        let is_owner = |(_, group): &&(AccountId, Group)| *group == Group::Owner;
        if before == Group::Owner && self.members.iter().filter(is_owner).count() == 1 {
            return Err(Refused::LastOwner);
        }
        Ok(Effect::Put(target, group))
    }

    fn may_manage(&self, own: Group) -> Result<(), Refused> {
        match own {
            Group::Collaborator if self.owners_manage => Err(Refused::NotOwner),
            Group::Owner | Group::Collaborator => Ok(()),
        }
    }

    fn group(&self, account: AccountId) -> Option<Group> {
        let found = self.members.iter().find(|(member, _)| *member == account);
        found.map(|(_, group)| *group)
    }
}

/// A token that lets its bearers into a project, as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invite {
    /// When it ends.
    pub expires: Option<Time>,
    /// How often it may be used.
    pub usage_limit: Option<i64>,
    /// How often it was used.
    pub counter: i64,
}

/// Why a token lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InviteRefused {
    /// There is none like that.
    #[error("the project invite token is wrong")]
    Wrong,
    /// Its time is over.
    #[error("the project invite token is expired")]
    Expired,
    /// It was used as often as it may.
    #[error("the project invite token is used up")]
    UsedUp,
}

impl Invite {
    /// Whether it lets somebody in.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(self, now: Time) -> Result<(), InviteRefused> {
        if self.expires.is_some_and(|expires| expires <= now) {
            return Err(InviteRefused::Expired);
        }
        if self.usage_limit.is_some_and(|limit| self.counter >= limit) {
            return Err(InviteRefused::UsedUp);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> [AccountId; 4] {
        [1_u128, 2, 3, 4].map(|n| AccountId::from_uuid(uuid::Uuid::from_u128(n)))
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one row for each case")]
    fn who_may_change_what() {
        let [owner, member, stranger, other] = ids();
        let members = [(owner, Group::Owner), (member, Group::Collaborator)];
        let decide = |caller, owners_manage, change| {
            let situation = Situation {
                caller,
                members: &members,
                owners_manage,
            };
            situation.decide(change)
        };
        for (caller, owners_manage, change, expected) in [
            (
                stranger,
                false,
                Change::Add(stranger),
                Err(Refused::Requester),
            ),
            (
                stranger,
                false,
                Change::Remove(member),
                Err(Refused::Requester),
            ),
            (
                stranger,
                false,
                Change::Make(stranger, Group::Owner),
                Err(Refused::Requester),
            ),
            (
                member,
                false,
                Change::Add(other),
                Ok(Effect::Put(other, Group::Collaborator)),
            ),
            (member, true, Change::Add(other), Err(Refused::NotOwner)),
            (
                owner,
                true,
                Change::Add(other),
                Ok(Effect::Put(other, Group::Collaborator)),
            ),
            // Inviting an owner changes nothing.
            (member, false, Change::Add(owner), Ok(Effect::Nothing)),
            (member, false, Change::Add(member), Ok(Effect::Nothing)),
            (
                member,
                true,
                Change::Remove(member),
                Ok(Effect::Delete(member)),
            ),
            (
                owner,
                false,
                Change::Remove(member),
                Ok(Effect::Delete(member)),
            ),
            (member, false, Change::Remove(owner), Err(Refused::Owner)),
            (owner, false, Change::Remove(owner), Err(Refused::Owner)),
            (owner, false, Change::Remove(other), Err(Refused::Target)),
            (
                member,
                false,
                Change::Make(member, Group::Owner),
                Err(Refused::NotOwner),
            ),
            (
                owner,
                false,
                Change::Make(member, Group::Owner),
                Ok(Effect::Put(member, Group::Owner)),
            ),
            (
                owner,
                false,
                Change::Make(owner, Group::Collaborator),
                Err(Refused::LastOwner),
            ),
            (
                owner,
                false,
                Change::Make(owner, Group::Owner),
                Ok(Effect::Nothing),
            ),
            (
                owner,
                false,
                Change::Make(other, Group::Owner),
                Err(Refused::Target),
            ),
        ] {
            assert_eq!(
                decide(caller, owners_manage, change),
                expected,
                "{caller:?} {change:?}"
            );
        }
    }

    #[test]
    fn an_invitation_ends_and_is_used_up() {
        let now = Time::from_millis(1_000);
        let invite = Invite {
            expires: None,
            usage_limit: None,
            counter: 7,
        };
        assert_eq!(invite.check(now), Ok(()));
        let at = |millis| Some(Time::from_millis(millis));
        assert_eq!(
            Invite {
                expires: at(1_001),
                ..invite
            }
            .check(now),
            Ok(())
        );
        assert_eq!(
            Invite {
                expires: at(1_000),
                ..invite
            }
            .check(now),
            Err(InviteRefused::Expired)
        );
        assert_eq!(
            Invite {
                expires: at(9),
                ..invite
            }
            .check(now),
            Err(InviteRefused::Expired)
        );
        assert_eq!(
            Invite {
                usage_limit: Some(8),
                ..invite
            }
            .check(now),
            Ok(())
        );
        assert_eq!(
            Invite {
                usage_limit: Some(7),
                ..invite
            }
            .check(now),
            Err(InviteRefused::UsedUp)
        );
    }

    fn change() -> impl Strategy<Value = Change> {
        let target = (0_usize..4).prop_map(|n| ids()[n]);
        (target, 0..4).prop_map(|(target, kind)| match kind {
            0 => Change::Add(target),
            1 => Change::Remove(target),
            2 => Change::Make(target, Group::Owner),
            _ => Change::Make(target, Group::Collaborator),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_024))]

        /// Whatever is asked for by whomever: an owner remains, nobody raises himself, strangers change nothing, and
        /// only owners make owners.
        #[test]
        fn no_sequence_of_changes_breaks_the_rules(
            owners_manage in any::<bool>(),
            changes in proptest::collection::vec((0_usize..4, change()), 1..40),
        ) {
            let ids = ids();
            let mut members = vec![(ids[0], Group::Owner), (ids[1], Group::Collaborator)];
            for (caller, change) in changes {
                let caller = ids[caller];
                let before = members.clone();
                let group = |account| before.iter().find(|(id, _)| *id == account).map(|(_, group)| *group);
                let situation = Situation { caller, members: &before, owners_manage };
                match situation.decide(change) {
                    Ok(Effect::Put(account, to)) => {
                        prop_assert!(group(caller).is_some());
                        if to == Group::Owner {
                            prop_assert_eq!(group(caller), Some(Group::Owner));
                        }
                        prop_assert!(account != caller || to == Group::Collaborator);
                        members.retain(|(id, _)| *id != account);
                        members.push((account, to));
                    }
                    Ok(Effect::Delete(account)) => {
                        prop_assert!(group(caller).is_some());
                        prop_assert_eq!(group(account), Some(Group::Collaborator));
                        members.retain(|(id, _)| *id != account);
                    }
                    Ok(Effect::Nothing) | Err(_) => {}
                }
                prop_assert!(members.iter().any(|(_, group)| *group == Group::Owner));
            }
        }
    }
}
