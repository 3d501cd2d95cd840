//! openraft's messages as they are on the wire, and back. Pure: nothing here waits or keeps anything.

use keystead_proto::peer;
use keystead_proto::peer::appended::How;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::stored::{self, Unreadable};
use crate::type_config::{Entry, LogId, TypeConfig, Vote};

/// How a follower answers an append.
pub(crate) type AppendResult = Result<Option<LogId>, StreamAppendError<TypeConfig>>;

/// What came is not what this release sends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untranslatable {
    #[error("a message lacks its {0}")]
    Missing(&'static str),
    #[error(transparent)]
    Entry(#[from] Unreadable),
}

pub(crate) fn log_id(id: &LogId) -> peer::LogId {
    peer::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

pub(crate) fn parse_log_id(id: peer::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

pub(crate) fn vote(vote: &Vote) -> peer::Vote {
    peer::Vote {
        term: vote.leader_id.term,
        candidate: vote.leader_id.voted_for,
        committed: vote.committed,
    }
}

pub(crate) fn parse_vote(vote: Option<peer::Vote>) -> Result<Vote, Untranslatable> {
    let vote = vote.ok_or(Untranslatable::Missing("vote"))?;
    Ok(Vote {
        committed: vote.committed,
        ..Vote::new(vote.term, vote.candidate)
    })
}

pub(crate) fn append(request: &AppendEntriesRequest<TypeConfig>) -> peer::Append {
    let entry = |entry: &Entry| peer::Entry {
        id: Some(log_id(&entry.log_id)),
        stored: stored::payload(&entry.payload),
    };
    peer::Append {
        vote: Some(vote(&request.vote)),
        prev: request.prev_log_id.as_ref().map(log_id),
        committed: request.leader_commit.as_ref().map(log_id),
        entries: request.entries.iter().map(entry).collect(),
    }
}

pub(crate) fn parse_append(
    append: peer::Append,
) -> Result<AppendEntriesRequest<TypeConfig>, Untranslatable> {
    let entry = |entry: peer::Entry| {
        Ok::<_, Untranslatable>(Entry {
            log_id: parse_log_id(entry.id.ok_or(Untranslatable::Missing("log id"))?),
            payload: stored::parse_payload(entry.stored)?,
        })
    };
    Ok(AppendEntriesRequest {
        vote: parse_vote(append.vote)?,
        prev_log_id: append.prev.map(parse_log_id),
        entries: append
            .entries
            .into_iter()
            .map(entry)
            .collect::<Result<_, _>>()?,
        leader_commit: append.committed.map(parse_log_id),
    })
}

pub(crate) fn appended(count: u64, result: &AppendResult) -> peer::Appended {
    let how = match result {
        Ok(matched) => matched.as_ref().map(|id| How::Matched(log_id(id))),
        Err(StreamAppendError::Conflict(id)) => Some(How::Conflict(log_id(id))),
        Err(StreamAppendError::HigherVote(higher)) => Some(How::Higher(vote(higher))),
    };
    peer::Appended { count, how }
}

pub(crate) fn parse_appended(appended: &peer::Appended) -> Result<AppendResult, Untranslatable> {
    Ok(match appended.how {
        None => Ok(None),
        Some(How::Matched(id)) => Ok(Some(parse_log_id(id))),
        Some(How::Conflict(id)) => Err(StreamAppendError::Conflict(parse_log_id(id))),
        Some(How::Higher(higher)) => Err(StreamAppendError::HigherVote(parse_vote(Some(higher))?)),
    })
}

pub(crate) fn ballot(request: &VoteRequest<TypeConfig>, pre: bool) -> peer::Ballot {
    peer::Ballot {
        vote: Some(vote(&request.vote)),
        last: request.last_log_id.as_ref().map(log_id),
        transfer: request.leadership_transfer,
        pre,
    }
}

pub(crate) fn parse_ballot(
    ballot: &peer::Ballot,
) -> Result<VoteRequest<TypeConfig>, Untranslatable> {
    let request = VoteRequest::new(parse_vote(ballot.vote)?, ballot.last.map(parse_log_id));
    Ok(VoteRequest {
        leadership_transfer: ballot.transfer,
        ..request
    })
}

pub(crate) fn polled(response: &VoteResponse<TypeConfig>) -> peer::Polled {
    peer::Polled {
        vote: Some(vote(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id),
    }
}

pub(crate) fn parse_polled(
    polled: &peer::Polled,
) -> Result<VoteResponse<TypeConfig>, Untranslatable> {
    Ok(VoteResponse {
        vote: parse_vote(polled.vote)?,
        vote_granted: polled.granted,
        last_log_id: polled.last.map(parse_log_id),
    })
}

pub(crate) fn transfer(request: &TransferLeaderRequest<TypeConfig>) -> peer::Transfer {
    peer::Transfer {
        from: Some(vote(request.from_leader())),
        to: *request.to_node_id(),
        last: request.last_log_id().map(log_id),
    }
}

pub(crate) fn parse_transfer(
    transfer: &peer::Transfer,
) -> Result<TransferLeaderRequest<TypeConfig>, Untranslatable> {
    let last = transfer.last.map(parse_log_id);
    Ok(TransferLeaderRequest::new(
        parse_vote(transfer.from)?,
        transfer.to,
        last,
    ))
}

pub(crate) fn transferred(response: &TransferLeaderResponse<TypeConfig>) -> peer::Transferred {
    match response {
        Ok(()) => peer::Transferred::default(),
        Err(TransferLeaderError::VoteChanged { actual, .. }) => peer::Transferred {
            vote_changed_to: Some(vote(actual)),
            ..peer::Transferred::default()
        },
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => peer::Transferred {
            not_flushed: true,
            flushed: actual.as_ref().map(log_id),
            ..peer::Transferred::default()
        },
    }
}

pub(crate) fn parse_transferred(
    transferred: &peer::Transferred,
    request: &TransferLeaderRequest<TypeConfig>,
) -> Result<TransferLeaderResponse<TypeConfig>, Untranslatable> {
    if transferred.vote_changed_to.is_some() {
        return Ok(Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: parse_vote(transferred.vote_changed_to)?,
        }));
    }
    if transferred.not_flushed {
        return Ok(Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: transferred.flushed.map(parse_log_id),
        }));
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_config::{Payload, Proposal};
    use bytes::Bytes;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new_term_index(term, index)
    }

    fn leader() -> Vote {
        Vote {
            committed: true,
            ..Vote::new(7, 3)
        }
    }

    #[test]
    fn an_append_comes_back_with_its_entries_and_without_them() {
        let proposal = Proposal {
            stored: Bytes::from_static(&[1, 8, 1]),
            ticket: None,
        };
        let entries = [Payload::Blank, Payload::Normal(proposal)];
        let went_in = AppendEntriesRequest {
            vote: leader(),
            prev_log_id: Some(id(6, 40)),
            entries: (41..)
                .zip(entries)
                .map(|(index, payload)| Entry {
                    log_id: id(7, index),
                    payload,
                })
                .collect(),
            leader_commit: Some(id(6, 39)),
        };
        let came_out = parse_append(append(&went_in)).unwrap();
        let facts = |request: &AppendEntriesRequest<TypeConfig>| {
            let entries: Vec<_> = request
                .entries
                .iter()
                .map(|entry| (entry.log_id, stored::payload(&entry.payload)))
                .collect();
            let AppendEntriesRequest {
                vote,
                prev_log_id,
                leader_commit,
                ..
            } = request;
            (*vote, *prev_log_id, *leader_commit, entries)
        };
        assert_eq!(facts(&came_out), facts(&went_in));
        let heartbeat = AppendEntriesRequest {
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
            ..went_in
        };
        let came_out = parse_append(append(&heartbeat)).unwrap();
        assert_eq!(facts(&came_out), facts(&heartbeat));
    }

    #[test]
    fn every_answer_to_an_append_comes_back() {
        let answers: [AppendResult; 4] = [
            Ok(None),
            Ok(Some(id(0, 0))),
            Err(StreamAppendError::Conflict(id(3, 9))),
            Err(StreamAppendError::HigherVote(Vote::new(9, 1))),
        ];
        for answer in answers {
            let sent = appended(3, &answer);
            assert_eq!(parse_appended(&sent).unwrap(), answer);
        }
    }

    #[test]
    fn votes_and_transfers_come_back_and_what_lacks_its_vote_is_refused() {
        let request = VoteRequest {
            leadership_transfer: true,
            ..VoteRequest::new(Vote::new(9, 1), Some(id(8, 2)))
        };
        assert_eq!(parse_ballot(&ballot(&request, true)).unwrap(), request);
        let response = VoteResponse::new(Vote::new(9, 1), None, true);
        assert_eq!(parse_polled(&polled(&response)).unwrap(), response);
        let request = TransferLeaderRequest::new(leader(), 5, Some(id(7, 41)));
        assert_eq!(parse_transfer(&transfer(&request)).unwrap(), request);
        let responses = [
            Ok(()),
            Err(TransferLeaderError::VoteChanged {
                expected: leader(),
                actual: Vote::new(9, 1),
            }),
            Err(TransferLeaderError::LogNotFlushed {
                expected: Some(id(7, 41)),
                actual: None,
            }),
        ];
        for response in responses {
            let sent = transferred(&response);
            assert_eq!(parse_transferred(&sent, &request).unwrap(), response);
        }
        parse_ballot(&peer::Ballot::default()).unwrap_err();
        parse_append(peer::Append::default()).unwrap_err();
    }
}
