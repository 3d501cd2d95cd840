"""What operators ask: maintenance, members, users and roles."""

from ._modes import Blocking, OnLoop
from ._values import Alarm, AuthStatus, Hash, Member, Permission, SavedSnapshot, status


def _urls(given):
    # Text is a sequence too, of letters.
    if isinstance(given, str | bytes):
        raise TypeError(f"expected a list of URLs, such as [{given!r}], not {type(given).__name__}")
    return list(given)


def _each(kind):
    return lambda found: [kind._make(each) for each in found]


class MaintenanceVerbs:
    """What operators ask of a member: the one that the client is connected to. `Client.at` names one."""

    def __init__(self, client):
        self._client = client

    def status(self):
        """How the member is: a `Status`."""
        return self._run(self._client.status(), status)

    def defragment(self):
        """Gives unused space back to the file system."""
        return self._run(self._client.defragment())

    def hash(self, revision=0):
        """The hash of what is stored up to a revision, 0 for the newest: a `Hash`."""
        return self._run(self._client.hash(revision), Hash._make)

    def alarms(self):
        """The alarms that are raised: a list of `Alarm`."""
        return self._run(self._client.alarms(), _each(Alarm))

    def disarm(self, alarm):
        """Takes an `Alarm` back: gives those that were."""
        if not isinstance(alarm, Alarm):
            raise TypeError(f"expected an Alarm, as alarms() gives them, not {type(alarm).__name__}")
        return self._run(self._client.disarm(alarm.member_id, alarm.kind), _each(Alarm))

    def move_leader(self, target):
        """Has the member with this id lead. Raises `NotLeader` unless the leader is asked."""
        return self._run(self._client.move_leader(target))

    def save_snapshot(self, path):
        """Saves a snapshot: a `SavedSnapshot`. The file appears when all of it is on the disk and its digest is right.

        Raises `FileFailed` when it cannot be written, `Corrupt` when what came is not what the digest says.
        """
        return self._run(self._client.save_snapshot(path), SavedSnapshot._make)


class ClusterVerbs:
    """Who the members are."""

    def __init__(self, client):
        self._client = client

    def members(self, *, linearizable=True):
        """All members, as a quorum has them or as the one that is asked knows them: a list of `Member`."""
        return self._run(self._client.members(linearizable), _each(Member))

    def add_member(self, peer_urls, *, is_learner=False):
        """Adds a member, which is to be started then; as a learner it has no vote. Gives the `Member`."""
        return self._run(self._client.add_member(_urls(peer_urls), is_learner), Member._make)

    def remove_member(self, id):
        """Removes a member: gives those that are left. Raises `NotFound`."""
        return self._run(self._client.remove_member(id), _each(Member))

    def update_member(self, id, peer_urls):
        """Says where the other members reach a member from now on. Raises `NotFound`."""
        return self._run(self._client.update_member(id, _urls(peer_urls)), _each(Member))

    def promote_member(self, id):
        """Gives a learner a vote. Raises `NotFound`, `FailedPrecondition`."""
        return self._run(self._client.promote_member(id), _each(Member))


class AuthVerbs:
    """Users, roles and permissions."""

    def __init__(self, client):
        self._client = client

    def enable(self):
        """From now on everybody says who they are. There must be a user root with the role root."""
        return self._run(self._client.enable_auth())

    def disable(self):
        """From now on nobody has to."""
        return self._run(self._client.disable_auth())

    def status(self):
        """Whether it is enabled: an `AuthStatus`."""
        return self._run(self._client.auth_status(), AuthStatus._make)

    def add_user(self, name, password=None):
        """Adds a user; one without a password is known by a certificate alone. Raises `FailedPrecondition` when there is one."""
        return self._run(self._client.add_user(name, password))

    def delete_user(self, name):
        """Removes a user. Raises `NotFound`."""
        return self._run(self._client.delete_user(name))

    def user(self, name):
        """The roles of a user: a list of names. Raises `NotFound`."""
        return self._run(self._client.user(name))

    def users(self):
        """All users: a list of names."""
        return self._run(self._client.users())

    def change_password(self, name, password):
        """Gives a user another password. Raises `NotFound`."""
        return self._run(self._client.change_password(name, password))

    def grant_role(self, user, role):
        """Gives a role to a user. Raises `NotFound`."""
        return self._run(self._client.grant_role(user, role))

    def revoke_role(self, user, role):
        """Takes a role from a user. Raises `NotFound`, `FailedPrecondition` when they do not have it."""
        return self._run(self._client.revoke_role(user, role))

    def add_role(self, name):
        """Adds a role. Raises `FailedPrecondition` when there is one."""
        return self._run(self._client.add_role(name))

    def delete_role(self, name):
        """Removes a role. Raises `NotFound`."""
        return self._run(self._client.delete_role(name))

    def role(self, name):
        """What a role permits: a list of `Permission`. Raises `NotFound`."""
        return self._run(self._client.role(name), _each(Permission))

    def roles(self):
        """All roles: a list of names."""
        return self._run(self._client.roles())

    def grant_permission(self, role, access, key=None, *, end=None, prefix=None, from_key=None):
        """Lets a role "read", "write" or "readwrite" keys: whole ones, whatever the client's namespace."""
        return self._run(self._client.grant_permission(role, access, key, end, prefix, from_key))

    def revoke_permission(self, role, key=None, *, end=None, prefix=None, from_key=None):
        """Takes back what a role may do to the very range that was granted. Raises `FailedPrecondition`."""
        return self._run(self._client.revoke_permission(role, key, end, prefix, from_key))


class Maintenance(MaintenanceVerbs, Blocking):
    __doc__ = MaintenanceVerbs.__doc__


class AsyncMaintenance(MaintenanceVerbs, OnLoop):
    __doc__ = MaintenanceVerbs.__doc__


class Cluster(ClusterVerbs, Blocking):
    __doc__ = ClusterVerbs.__doc__


class AsyncCluster(ClusterVerbs, OnLoop):
    __doc__ = ClusterVerbs.__doc__


class Auth(AuthVerbs, Blocking):
    __doc__ = AuthVerbs.__doc__


class AsyncAuth(AuthVerbs, OnLoop):
    __doc__ = AuthVerbs.__doc__
