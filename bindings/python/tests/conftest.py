"""Servers, faces and clients for the tests. A coroutine function is run in a loop of its own."""

import asyncio
import inspect
import itertools

import pytest
from faces import Asyncio, Sync
from servers import ETCD, Member

import keystead

# Of each test function that ran, whether all of its runs passed.
ran = {}
_numbers = itertools.count()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def pytest_runtest_logreport(report):
    if report.when == "call" and not report.skipped:
        name = report.nodeid.rpartition("::")[2].partition("[")[0]
        ran[name] = ran.get(name, True) and report.passed


def pytest_collection_modifyitems(items):
    # It judges the others.
    items.sort(key=lambda item: item.name == "test_every_method_has_its_scenario_and_it_was_run")


@pytest.fixture(scope="session", params=["keystead", "etcd"])
def member(request):
    """A member that many tests use."""
    if request.param == "etcd" and not ETCD.exists():
        pytest.skip("tests/oracle/build makes the etcd that this asks")
    member = Member(request.param)
    yield member
    member.close()


@pytest.fixture(params=["keystead", "etcd"])
def own_member(request):
    """A member that the test may kill or pause."""
    if request.param == "etcd" and not ETCD.exists():
        pytest.skip("tests/oracle/build makes the etcd that this asks")
    member = Member(request.param)
    yield member
    member.close()


@pytest.fixture(scope="session")
def keystead_member():
    """A Keystead, where it does not matter who serves."""
    member = Member("keystead")
    yield member
    member.close()


@pytest.fixture(params=[Sync, Asyncio], ids=["sync", "asyncio"])
def face(request):
    face = request.param()
    yield face
    face.close()


@pytest.fixture
def prefix():
    """Keys that no other test uses."""
    return f"test-{next(_numbers)}/"


@pytest.fixture
def client(face, member, prefix):
    client = face.connect(member.url, namespace=prefix)
    yield client
    face.do(client.close())


@pytest.fixture
def other(member, prefix):
    """Somebody else with the same keys."""
    with keystead.Client(member.url, namespace=prefix) as client:
        yield client


@pytest.fixture
def etcd():
    """The binary of real etcd."""
    if not ETCD.exists():
        pytest.skip("tests/oracle/build makes the etcd that this asks")
    return ETCD


@pytest.fixture(params=["keystead", "etcd"])
def server(request):
    """A fresh member of either kind."""
    binary = request.getfixturevalue("etcd") if request.param == "etcd" else None
    with keystead.Server(binary=binary) as server:
        yield server
