"""What there is stands in api.toml, and all of it was proven."""

import inspect
import tomllib

import conftest
import pytest
from servers import REPOSITORY

import keystead

API = tomllib.loads((REPOSITORY / "bindings/api.toml").read_text())
NOUNS = {noun: methods for noun, methods in API.items() if noun != "scenarios"}


def here(methods, face):
    """What Python's face has of a noun."""
    for name, said in methods.items():
        said = said if isinstance(said, dict) else {}
        others_only = "only" in said and "python" not in said["only"]
        if "python" not in said.get("without", {}) and not others_only and said.get("face", face) == face:
            yield name


def public(kind):
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


@pytest.mark.parametrize("noun", NOUNS)
def test_each_noun_has_the_methods_that_the_table_says(noun):
    for kind, face in [(getattr(keystead, noun), "sync"), (getattr(keystead, f"Async{noun}"), "asyncio")]:
        assert public(kind) == set(here(NOUNS[noun], face)), kind
        assert inspect.getdoc(kind)
        for name in public(kind) - {"keys", "values", "items"}:
            assert inspect.getdoc(getattr(kind, name)), f"{kind.__name__}.{name} says nothing of itself"


def test_there_is_no_other_noun():
    nouns = {name.removeprefix("Async") for name in keystead.__all__ if name.startswith("Async")}
    assert nouns == set(NOUNS)


def test_every_method_has_its_scenario_and_it_was_run(request):
    """Judges the run that it is a part of; the last of it."""
    said = [entry for methods in NOUNS.values() for entry in methods.values()]
    scenarios = {entry if isinstance(entry, str) else entry["scenario"] for entry in said}
    scenarios |= set(API["scenarios"]["names"])
    names = {f"test_{scenario}" for scenario in scenarios}
    collected = {item.originalname for item in request.session.items}
    if missing := names - collected:
        if request.config.option.file_or_dir or request.config.option.keyword:
            pytest.skip("only some of the tests were asked for")
        raise AssertionError(f"there is no {sorted(missing)}")
    unproven = {name for name in names if not conftest.ran.get(name)}
    assert not unproven
