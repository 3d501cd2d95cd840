//! Auth: users, roles, permissions, and logging in. What changes them goes through the log, and whether the caller may is seen
//! there; what is asked of them is answered from what is applied. No password goes any further than this.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keystead_proto::etcdserverpb::auth_server::Auth as AuthService;
use keystead_proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
    AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse,
    AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse, AuthStatusRequest,
    AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
    AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest,
    AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse, ResponseHeader,
};
use keystead_proto::internal::{Authenticate, RecordKind};
use keystead_state::{self as state, Refusal, Reply as Answer};
use prost::Message;
use tonic::{Request, Response, Status};

use super::metadata_of;
use crate::auth::{Caller, NoToken, PasswordError};
use crate::error::GrpcStatus;
use crate::member::Member;

/// The service.
pub(super) struct Auth {
    member: Arc<Member>,
}

impl Auth {
    pub(super) fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    /// Has a change applied for whoever calls; returns the header of the answer.
    async fn change<T: Message + Sync>(
        &self,
        kind: RecordKind,
        request: &Request<T>,
    ) -> Result<Option<ResponseHeader>, GrpcStatus> {
        let caller = self.member.caller(&metadata_of(request)).await?;
        self.propose(&caller, kind, request.get_ref()).await
    }

    async fn propose(
        &self,
        caller: &Caller,
        kind: RecordKind,
        request: &impl Message,
    ) -> Result<Option<ResponseHeader>, GrpcStatus> {
        let payload = request.encode_to_vec().into();
        match self.member.propose_for(caller, kind, payload).await? {
            Answer::Done { revision } => Ok(Some(self.member.headers.at(revision))),
            other => Err(GrpcStatus::mismatched(&other)),
        }
    }

    /// Asks the users and roles of now something for whoever calls; returns the header of the answer beside.
    async fn ask<T: Sync, A>(
        &self,
        request: &Request<T>,
        ask: impl FnOnce(&state::Auth, state::Caller<'_>) -> Result<A, Refusal>,
    ) -> Result<(Option<ResponseHeader>, A), GrpcStatus> {
        let caller = self.member.caller(&metadata_of(request)).await?;
        self.member.consensus.read_barrier().await?;
        let answer = ask(&self.member.reader.auth(), caller.view())?;
        Ok((Some(self.member.header()), answer))
    }

    /// Who may change users, before a password is hashed for it: that costs enough to be refused to everybody else.
    async fn manager<T: Sync>(&self, request: &Request<T>) -> Result<Caller, GrpcStatus> {
        Ok(self.member.require_root(&metadata_of(request)).await?)
    }

    /// The hash of a password as it travels in a record.
    async fn hash(&self, password: String) -> Result<String, GrpcStatus> {
        let hash = self.member.passwords.hash(password).await;
        Ok(STANDARD.encode(hash.map_err(not_hashed)?))
    }

    /// Gives a token to who knows a user's password. It is compared outside of the log, so users may have changed when the login
    /// is applied; then it is compared again.
    async fn log_in(
        &self,
        request: &AuthenticateRequest,
    ) -> Result<AuthenticateResponse, GrpcStatus> {
        let Member {
            reader,
            consensus,
            passwords,
            tokens,
            ..
        } = &*self.member;
        consensus.read_barrier().await?;
        loop {
            let users = reader.auth();
            let hash = users.password_hash(&request.name)?;
            let compared = passwords.verify(request.password.clone(), hash.to_vec());
            if !compared.await.map_err(not_hashed)? {
                return Err(Refusal::AuthFailed.into());
            }
            let login = Authenticate {
                name: request.name.clone(),
                simple_token: tokens.draw(),
            };
            let payload = login.encode_to_vec().into();
            // Nobody is logged in yet.
            let applied =
                self.member
                    .propose_for(&Caller::Nobody, RecordKind::Authenticate, payload);
            let mut response = match applied.await? {
                Answer::Authenticate(response) => response,
                other => return Err(GrpcStatus::mismatched(&other)),
            };
            if users.revision() == reader.auth().revision() {
                let token = tokens.issue(&request.name, users.revision(), response.token);
                response.token = token.map_err(no_token)?;
                self.member.headers.complete(&mut response.header);
                return Ok(response);
            }
            tracing::info!("users changed while a password was compared; it is compared again");
        }
    }
}

fn not_hashed(error: PasswordError) -> GrpcStatus {
    match error {
        PasswordError::TooLong => GrpcStatus::PASSWORD_TOO_LONG,
        PasswordError::Busy => Refusal::TooManyRequests.into(),
        PasswordError::Stopped => Refusal::Stopped.into(),
    }
}

fn no_token(error: NoToken) -> GrpcStatus {
    match error {
        NoToken::VerifyOnly => GrpcStatus::VERIFY_ONLY,
        NoToken::NoTokens => Refusal::AuthFailed.into(),
    }
}

#[tonic::async_trait]
impl AuthService for Auth {
    async fn auth_enable(
        &self,
        request: Request<AuthEnableRequest>,
    ) -> Result<Response<AuthEnableResponse>, Status> {
        let header = self.change(RecordKind::AuthEnable, &request).await?;
        Ok(Response::new(AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<AuthDisableRequest>,
    ) -> Result<Response<AuthDisableResponse>, Status> {
        let header = self.change(RecordKind::AuthDisable, &request).await?;
        Ok(Response::new(AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<AuthStatusRequest>,
    ) -> Result<Response<AuthStatusResponse>, Status> {
        let status = |auth: &state::Auth, caller: state::Caller<'_>| {
            auth.permit_admin(caller.user)?;
            Ok((auth.enabled(), auth.revision()))
        };
        let (header, (enabled, auth_revision)) = self.ask(&request, status).await?;
        Ok(Response::new(AuthStatusResponse {
            header,
            enabled,
            auth_revision,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        Ok(Response::new(self.log_in(request.get_ref()).await?))
    }

    async fn user_add(
        &self,
        request: Request<AuthUserAddRequest>,
    ) -> Result<Response<AuthUserAddResponse>, Status> {
        let caller = self.manager(&request).await?;
        let mut request = request.into_inner();
        let password = std::mem::take(&mut request.password);
        if !request.options.is_some_and(|options| options.no_password) {
            request.hashed_password = self.hash(password).await?;
        }
        let header = self.propose(&caller, RecordKind::UserAdd, &request).await?;
        Ok(Response::new(AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<AuthUserGetRequest>,
    ) -> Result<Response<AuthUserGetResponse>, Status> {
        let name = &request.get_ref().name;
        let roles =
            |auth: &state::Auth, caller: state::Caller<'_>| auth.roles_of(caller.user, name);
        let (header, roles) = self.ask(&request, roles).await?;
        Ok(Response::new(AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        request: Request<AuthUserListRequest>,
    ) -> Result<Response<AuthUserListResponse>, Status> {
        let list = |auth: &state::Auth, caller: state::Caller<'_>| auth.list_users(caller.user);
        let (header, users) = self.ask(&request, list).await?;
        Ok(Response::new(AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<AuthUserDeleteRequest>,
    ) -> Result<Response<AuthUserDeleteResponse>, Status> {
        let header = self.change(RecordKind::UserDelete, &request).await?;
        Ok(Response::new(AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        let caller = self.manager(&request).await?;
        let mut request = request.into_inner();
        let password = std::mem::take(&mut request.password);
        if !password.is_empty() {
            request.hashed_password = self.hash(password).await?;
        }
        let kind = RecordKind::UserChangePassword;
        let header = self.propose(&caller, kind, &request).await?;
        Ok(Response::new(AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<AuthUserGrantRoleRequest>,
    ) -> Result<Response<AuthUserGrantRoleResponse>, Status> {
        let header = self.change(RecordKind::UserGrantRole, &request).await?;
        Ok(Response::new(AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<AuthUserRevokeRoleRequest>,
    ) -> Result<Response<AuthUserRevokeRoleResponse>, Status> {
        let header = self.change(RecordKind::UserRevokeRole, &request).await?;
        Ok(Response::new(AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<AuthRoleAddRequest>,
    ) -> Result<Response<AuthRoleAddResponse>, Status> {
        let header = self.change(RecordKind::RoleAdd, &request).await?;
        Ok(Response::new(AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<AuthRoleGetRequest>,
    ) -> Result<Response<AuthRoleGetResponse>, Status> {
        let role = &request.get_ref().role;
        let permissions =
            |auth: &state::Auth, caller: state::Caller<'_>| auth.permissions_of(caller.user, role);
        let (header, perm) = self.ask(&request, permissions).await?;
        Ok(Response::new(AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(
        &self,
        request: Request<AuthRoleListRequest>,
    ) -> Result<Response<AuthRoleListResponse>, Status> {
        let list = |auth: &state::Auth, caller: state::Caller<'_>| auth.list_roles(caller.user);
        let (header, roles) = self.ask(&request, list).await?;
        Ok(Response::new(AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<AuthRoleDeleteRequest>,
    ) -> Result<Response<AuthRoleDeleteResponse>, Status> {
        let header = self.change(RecordKind::RoleDelete, &request).await?;
        Ok(Response::new(AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<AuthRoleGrantPermissionResponse>, Status> {
        let header = self
            .change(RecordKind::RoleGrantPermission, &request)
            .await?;
        Ok(Response::new(AuthRoleGrantPermissionResponse { header }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<AuthRoleRevokePermissionResponse>, Status> {
        let header = self
            .change(RecordKind::RoleRevokePermission, &request)
            .await?;
        Ok(Response::new(AuthRoleRevokePermissionResponse { header }))
    }
}
