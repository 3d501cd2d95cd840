//! Who the members are.

use crate::answer::Answer;
use crate::call::Call;
use crate::client::Client;

impl Client {
    /// Lists the members, as a quorum has them, or as the one that is asked knows them. Answers `Members`.
    pub fn members(&self, linearizable: bool) -> Call {
        self.call(
            move |client| async move {
                if linearizable {
                    client.members().await
                } else {
                    client.members_of_one().await
                }
            },
            Answer::Members,
        )
    }

    /// Adds a member. Answers `AddedMember`.
    pub fn add_member(&self, peer_urls: Vec<String>, is_learner: bool) -> Call {
        self.call(
            move |client| async move { client.add_member(peer_urls, is_learner).await },
            Answer::AddedMember,
        )
    }

    /// Removes a member. Answers `Members`.
    pub fn remove_member(&self, id: u64) -> Call {
        self.call(
            move |client| async move { client.remove_member(id).await },
            Answer::Members,
        )
    }

    /// Says where the other members reach a member. Answers `Members`.
    pub fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Call {
        self.call(
            move |client| async move { client.update_member(id, peer_urls).await },
            Answer::Members,
        )
    }

    /// Gives a learner a vote. Answers `Members`.
    pub fn promote_member(&self, id: u64) -> Call {
        self.call(
            move |client| async move { client.promote_member(id).await },
            Answer::Members,
        )
    }
}
