//! Authentication as a whole: enable, disable, status.

use keystead_proto::etcdserverpb::{AuthDisableRequest, AuthEnableRequest, AuthStatusRequest};

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

/// Whether anybody is asked who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthStatus {
    /// Who answered.
    pub header: Header,
    /// Every call needs a user.
    pub enabled: bool,
    /// A number that grows with every change to users and roles.
    pub auth_revision: u64,
}

impl Client {
    /// Asks everybody who it is from now on. There must be a user `root` with the role `root`, who may do everything: give this client its
    /// name and password when connecting, for it will be asked too. Harmless where it is so already.
    ///
    /// # Errors
    /// `FailedPrecondition`: there is no user `root`, or it lacks the role `root`.
    pub async fn enable_auth(&self) -> Result<Header> {
        let request = AuthEnableRequest {};
        let answer = self.call(&rpc::AUTH_ENABLE, &request).await?;
        Ok(answer.header.into())
    }

    /// Lets everybody do everything from now on. Users and roles stay. Harmless where it is so already.
    ///
    /// # Errors
    /// `PermissionDenied`: the user lacks the role `root`.
    pub async fn disable_auth(&self) -> Result<Header> {
        let request = AuthDisableRequest {};
        let answer = self.call(&rpc::AUTH_DISABLE, &request).await?;
        Ok(answer.header.into())
    }

    /// Asks whether authentication is on. etcd has this since 3.5, and until 3.6 tells it to the role `root` alone.
    ///
    /// # Errors
    /// `Unimplemented`: the server is older. `PermissionDenied`: see above.
    pub async fn auth_status(&self) -> Result<AuthStatus> {
        let request = AuthStatusRequest {};
        let answer = self.call(&rpc::AUTH_STATUS, &request).await?;
        Ok(AuthStatus {
            header: answer.header.into(),
            enabled: answer.enabled,
            auth_revision: answer.auth_revision,
        })
    }
}
