"""Services: registering an address, and finding those of others, in the layout of Go's naming package."""

import json

from ._errors import KeysteadError
from ._modes import Blocking, OnLoop
from ._values import RegistrationState, endpoint, endpoints


class RegistrationVerbs:
    """An address that is registered, and registered again whenever its session was lost. As a context manager it is withdrawn at
    the end of the block; forgetting it withdraws it, in the background."""

    def __init__(self, native):
        self._native = native
        self._withdrawn = False

    @property
    def key(self):
        """Its key, as bytes."""
        return self._native.key

    @property
    def state(self):
        """Whether it can be found, as far as this process knows: a `RegistrationState`."""
        return RegistrationState(*self._native.state)

    def changed(self, seen):
        """Waits until its state is another than `seen`, and gives it. Raises `Closed`."""
        return self._run(self._native.changed(seen), RegistrationState._make)

    def withdraw(self):
        """Takes it out of the registry. Raises `Closed` when it was withdrawn before."""
        self._withdrawn = True
        return self._run(self._native.withdraw())

    def __repr__(self):
        state = "withdrawn" if self._withdrawn else self.state.name
        return f"<{type(self).__name__} of {self.key!r}, {state}>"


class Registration(RegistrationVerbs, Blocking):
    __doc__ = RegistrationVerbs.__doc__

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if not self._withdrawn:
            self.withdraw()


class AsyncRegistration(RegistrationVerbs, OnLoop):
    __doc__ = RegistrationVerbs.__doc__

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        if not self._withdrawn:
            await self.withdraw()


class ResolverVerbs:
    """Where a service can be reached, kept in memory in step with the registry. As a context manager it is closed at the end of the block;
    forgetting it closes it, too."""

    def __init__(self, native):
        self._native = native

    def endpoints(self):
        """All that are registered, in the order of their keys: a list of `Endpoint`. Asks nobody."""
        return endpoints(self._native.endpoints())

    def pick(self, how="round_robin"):
        """One of them, "round_robin" or "random"; None when there is none. Asks nobody."""
        if how not in ("round_robin", "random"):
            raise ValueError(f"pick by 'round_robin' or 'random', not {how!r}")
        picked = self._native.pick(how == "random")
        return None if picked is None else endpoint(picked)

    def changed(self, seen):
        """Waits until they are others than the list `seen`, and gives them."""
        seen = [(each.address, json.dumps(each.metadata)) for each in seen]
        return self._run(self._native.changed(seen), endpoints)

    def sync(self):
        """Waits until everything is known that was registered before: gives the revision."""
        return self._run(self._native.sync())

    def close(self):
        """Ends it: whatever is asked of it from now on raises `Closed`. Closing it again does nothing. Never blocks."""
        self._native.close()

    def __repr__(self):
        try:
            found = f"of {len(self._native.endpoints())} endpoints"
        except KeysteadError:
            found = "that has ended"
        return f"<{type(self).__name__} {found}>"


class Resolver(ResolverVerbs, Blocking):
    __doc__ = ResolverVerbs.__doc__

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()


class AsyncResolver(ResolverVerbs, OnLoop):
    __doc__ = ResolverVerbs.__doc__

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        self.close()
