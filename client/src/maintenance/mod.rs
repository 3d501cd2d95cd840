//! Looking after members: one file a verb. All but the alarms are about the very member that is asked, leader or none; to ask a
//! certain one, see `Client::at`.

pub(crate) mod alarms;
pub(crate) mod defragment;
pub(crate) mod hash;
pub(crate) mod move_leader;
pub(crate) mod snapshot;
pub(crate) mod status;

use crate::client::Client;
use crate::options::CallOptions;

/// A member answers for itself, without a leader too.
fn of_one_member(client: &Client) -> CallOptions {
    CallOptions {
        requires_leader: false,
        ..client.call_options()
    }
}
