//! Members: list, add, remove, update, promote.

use keystead_proto::etcdserverpb::{
    self as pb, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, ResponseHeader,
};

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;
use crate::options::CallOptions;

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; none until it has started for the first time.
    pub client_urls: Vec<String>,
    /// It has no vote yet.
    pub is_learner: bool,
}

/// The members of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who answered.
    pub header: Header,
    /// All of them; after a change, those that it left.
    pub members: Vec<Member>,
}

/// The answer to [`Client::add_member`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddedMember {
    /// Who answered.
    pub header: Header,
    /// The new one.
    pub member: Member,
    /// All of them.
    pub members: Vec<Member>,
}

impl From<pb::Member> for Member {
    fn from(member: pb::Member) -> Member {
        Member {
            id: member.id,
            name: member.name,
            peer_urls: member.peer_urls,
            client_urls: member.client_urls,
            is_learner: member.is_learner,
        }
    }
}

impl Members {
    fn new(header: Option<ResponseHeader>, members: Vec<pb::Member>) -> Members {
        Members {
            header: header.into(),
            members: members.into_iter().map(Member::from).collect(),
        }
    }
}

impl Client {
    /// Lists the members, as a quorum has them.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn members(&self) -> Result<Members> {
        let request = MemberListRequest { linearizable: true };
        let answer = self.call(&rpc::MEMBER_LIST, &request).await?;
        Ok(Members::new(answer.header, answer.members))
    }

    /// Lists the members as the one that is asked knows them, which may lag, leader or none.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn members_of_one(&self) -> Result<Members> {
        let options = CallOptions {
            requires_leader: false,
            ..self.call_options()
        };
        let request = MemberListRequest {
            linearizable: false,
        };
        let channel = self.channel();
        let answer = channel.call(&rpc::MEMBER_LIST, &request, &options).await?;
        Ok(Members::new(answer.header, answer.members))
    }

    /// Adds a member, which is to be started then; as a learner it has no vote until it is promoted.
    ///
    /// # Errors
    /// `FailedPrecondition`: one with such a peer URL is there, or the cluster is not healthy enough. Where the outcome is `Unknown` it
    /// may have been added, or may yet be.
    pub async fn add_member(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<AddedMember> {
        let request = MemberAddRequest {
            peer_urls,
            is_learner,
        };
        let answer = self.call(&rpc::MEMBER_ADD, &request).await?;
        let Members { header, members } = Members::new(answer.header, answer.members);
        Ok(AddedMember {
            header,
            member: answer.member.unwrap_or_default().into(),
            members,
        })
    }

    /// Removes a member.
    ///
    /// # Errors
    /// `NotFound`: it is not there, or no more. See [`Client::add_member`] for the rest.
    pub async fn remove_member(&self, id: u64) -> Result<Members> {
        let request = MemberRemoveRequest { id };
        let answer = self.call(&rpc::MEMBER_REMOVE, &request).await?;
        Ok(Members::new(answer.header, answer.members))
    }

    /// Says where the other members reach a member from now on.
    ///
    /// # Errors
    /// `NotFound`. See [`Client::add_member`] for the rest.
    pub async fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Result<Members> {
        let request = MemberUpdateRequest { id, peer_urls };
        let answer = self.call(&rpc::MEMBER_UPDATE, &request).await?;
        Ok(Members::new(answer.header, answer.members))
    }

    /// Gives a learner a vote.
    ///
    /// # Errors
    /// `NotFound`; `FailedPrecondition`: it has a vote, or has not caught up with the leader. See [`Client::add_member`] for the rest.
    pub async fn promote_member(&self, id: u64) -> Result<Members> {
        let request = MemberPromoteRequest { id };
        let answer = self.call(&rpc::MEMBER_PROMOTE, &request).await?;
        Ok(Members::new(answer.header, answer.members))
    }
}
