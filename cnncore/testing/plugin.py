"""The pytest plugin that comes with cnncore: it is active wherever cnncore is installed.

Fixtures
    ``gradcheck``, ``gradgradcheck``, ``adjoint_check``: the functions of ``cnncore.testing``,
    drawing their directions from ``cnncore_seed``. ``cnncore_seed``: ``--cnncore-seed`` (default
    0); ``cnncore_rng``: a generator seeded by it and by the test's name, so that no test depends
    on another having run.  ``cnncore_backend``: runs the test once on every backend this machine
    has.

Marker
    ``@pytest.mark.fault("missing_overlap")``: the test runs with that deliberate fault switched on
    and must *fail*; a test that does not notice the fault is reported.

Options
    ``--cnncore-faults NAME[,NAME…]`` switches faults on for the whole run (to see a suite fail),
    ``--cnncore-faults list`` prints the catalogue; ``--cnncore-seed N``.

Nothing of cnncore is imported here until a test or an option asks for it.
"""

from __future__ import annotations

import contextlib
import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

_session = pytest.StashKey[contextlib.ExitStack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cnncore", "cnncore: gradient checks and deliberate faults")
    group.addoption(
        "--cnncore-faults",
        metavar="NAME",
        default="",
        help="run with these deliberate faults switched on (comma separated), or 'list' them",
    )
    group.addoption(
        "--cnncore-seed", metavar="N", type=int, default=0, help="seed of all random directions"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "fault(name): run with this deliberate fault of cnncore on; the test must fail"
    )
    wanted = [name for name in config.getoption("--cnncore-faults").split(",") if name]
    if not wanted:
        return
    from cnncore.testing import faults

    if wanted == ["list"]:
        lines = [f"{fault.name:34} {fault.description}" for fault in faults.FAULTS.values()]
        pytest.exit("\n".join(["deliberate faults:", *lines]), 0)
    stack = config.stash.setdefault(_session, contextlib.ExitStack())
    for name in wanted:
        if name not in faults.FAULTS:
            raise pytest.UsageError(
                f"--cnncore-faults: {name!r} is not one of {', '.join(faults.FAULTS)}"
            )
        stack.enter_context(faults.inject(name))


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash.get(_session, contextlib.ExitStack()).close()


def pytest_report_header(config: pytest.Config) -> list[str]:
    wanted = config.getoption("--cnncore-faults")
    return [f"cnncore: deliberate faults ON: {wanted} (failures are expected)"] if wanted else []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Run a test marked ``fault`` with the fault on, and turn its failure into a pass."""
    marks = list(item.iter_markers("fault"))
    if not marks:
        return (yield)
    from cnncore.testing import faults

    names = [str(name) for mark in marks for name in mark.args]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(faults.inject(name))
        try:
            yield
        except pytest.skip.Exception:
            raise
        except (Exception, pytest.fail.Exception):
            return None
    pytest.fail(f"the fault {', '.join(names)} was not noticed: this test passes with it", False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    """Add what a failed check found, with the steps it tried, and how to run it again."""
    outcome = yield
    found = getattr(getattr(call.excinfo, "value", None), "report", None)
    if call.when == "call" and found is not None and hasattr(found, "sweep"):
        found.show_sweep = True
        again = f"seed {item.config.getoption('--cnncore-seed')}; again: pytest '{item.nodeid}'"
        outcome.sections.append(("cnncore gradient check", f"{found}\n{again}"))
    return outcome


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run per backend for tests that use ``cnncore_backend``."""
    if "cnncore_backend" in metafunc.fixturenames:
        from cnncore.testing.faults import available_backends

        metafunc.parametrize("cnncore_backend", available_backends(), indirect=True)


@pytest.fixture
def cnncore_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a backend, in use while the test runs."""
    from cnncore.kernels.dispatch import use_backend

    with use_backend(request.param):
        yield request.param


@pytest.fixture
def cnncore_seed(request: pytest.FixtureRequest) -> int:
    """The seed given by ``--cnncore-seed``."""
    return int(request.config.getoption("--cnncore-seed"))


@pytest.fixture
def cnncore_rng(cnncore_seed: int, request: pytest.FixtureRequest) -> Any:
    """A NumPy generator of its own for each test."""
    import numpy as np

    return np.random.default_rng([cnncore_seed, zlib.crc32(request.node.nodeid.encode())])


def _seeded(name: str, seed: int) -> Callable[..., Any]:
    import cnncore.testing

    return functools.partial(getattr(cnncore.testing, name), seeds=range(3 * seed, 3 * seed + 3))


@pytest.fixture
def gradcheck(cnncore_seed: int) -> Callable[..., Any]:
    """``cnncore.testing.gradcheck``."""
    return _seeded("gradcheck", cnncore_seed)


@pytest.fixture
def gradgradcheck(cnncore_seed: int) -> Callable[..., Any]:
    """``cnncore.testing.gradgradcheck``."""
    return _seeded("gradgradcheck", cnncore_seed)


@pytest.fixture
def adjoint_check(cnncore_seed: int) -> Callable[..., Any]:
    """``cnncore.testing.adjoint_check``."""
    return _seeded("adjoint_check", cnncore_seed)
