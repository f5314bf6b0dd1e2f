"""What runs underneath: threads, memory, instruction sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cnncore.errors import ArgumentError
from cnncore.geometry import Window2d
from cnncore.kernels import native

pytestmark = pytest.mark.skipif(not native.AVAILABLE, reason=native.REASON)

SAME = Window2d((3, 3), (1, 1), ((1, 1), (1, 1)))
STRIDED = Window2d((3, 3), (2, 2), ((1, 1), (1, 1)))


@pytest.fixture
def threads() -> Iterator[None]:
    before = native.get_num_threads()
    yield
    native.set_num_threads(before)


def convolutions(channels: int = 24, size: int = 20) -> list[np.ndarray]:
    """A result of every kernel of the family, on inputs that do not depend on anything."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, channels, size, size)).astype(np.float32)
    weight = rng.standard_normal((40, channels, 3, 3)).astype(np.float32)
    results = []
    for window in (SAME, STRIDED):
        for algorithm in ("im2col", "implicit_gemm"):
            y = native.conv2d(x, weight, None, window, 1, algorithm)
            results += [
                y,
                native.conv_transpose2d(y, weight, None, (size, size), window, 1, algorithm),
                native.conv2d_weight(x, y, window, 1, algorithm),
            ]
    depthwise = rng.standard_normal((channels, 1, 3, 3)).astype(np.float32)
    results.append(native.conv2d(x, depthwise, None, SAME, channels))
    results.append(native.matmul(x.reshape(-1, size), weight.reshape(size, -1)))
    return results


@pytest.mark.usefixtures("threads")
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    native.set_num_threads(1)
    alone = convolutions()
    for count in (2, 3, 7):
        native.set_num_threads(count)
        assert native.get_num_threads() == count
        for one, many in zip(alone, convolutions(), strict=True):
            np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize("count", [0, -1, 10**6])
def test_impossible_thread_counts_are_refused(count: int) -> None:
    with pytest.raises(ArgumentError, match="threads"):
        native.set_num_threads(count)


@pytest.mark.usefixtures("threads")
def test_several_python_threads_may_call_at_once() -> None:
    native.set_num_threads(2)
    want = convolutions()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                for got, expected in zip(convolutions(), want, strict=True):
                    np.testing.assert_array_equal(got, expected)
        except BaseException as error:
            failures.append(error)

    team = [threading.Thread(target=work) for _ in range(4)]
    for member in team:
        member.start()
    for member in team:
        member.join()
    assert not failures


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
    )


FORK = """
import os, sys
import numpy as np
from cnncore.geometry import Window2d
from cnncore.kernels import native
native.set_num_threads(2)
a = np.random.default_rng(0).standard_normal((300, 300))
want = native.matmul(a, a)
for _ in range(5):
    child = os.fork()
    if child == 0:
        ok = np.array_equal(native.matmul(a, a), want)
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(native.matmul(a, a), want)
print("ok")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_computes_with_threads_of_its_own() -> None:
    done = run_python(FORK)
    assert done.stdout.strip() == "ok", done.stderr


def test_the_number_of_threads_comes_from_the_environment() -> None:
    code = "from cnncore.kernels import native; print(native.get_num_threads())"
    assert run_python(code, CNNCORE_NUM_THREADS="3").stdout.strip() == "3"
    assert "CNNCORE_NUM_THREADS" in run_python(code, CNNCORE_NUM_THREADS="none").stderr


SUMS = """
import json, sys
sys.path.insert(0, "tests/native")
from cnncore.kernels import native
from test_native_runtime import convolutions
import numpy as np
sums = [[float(np.abs(r.astype(np.float64)).sum()), float(r.astype(np.float64).sum())]
        for r in convolutions()]
print(json.dumps([native.describe()["isa"], sums]))
"""


def test_every_instruction_set_of_the_machine_agrees() -> None:
    scale, answers = [float(np.abs(r.astype(np.float64)).sum()) for r in convolutions()], {}
    for isa in native.describe()["available_isas"]:
        done = run_python(SUMS, CNNCORE_ISA=isa)
        assert done.returncode == 0, done.stderr
        used, answers[isa] = json.loads(done.stdout)
        assert used == isa
    for isa, sums in answers.items():
        for (absolute, plain), (wanted, wanted_plain), size in zip(
            sums, answers["baseline"], scale, strict=True
        ):
            assert absolute == pytest.approx(wanted, rel=1e-5), isa
            assert plain == pytest.approx(wanted_plain, abs=1e-6 * size), isa


def test_an_instruction_set_the_machine_lacks_is_an_error() -> None:
    done = run_python("import cnncore.kernels", CNNCORE_ISA="mmx")
    assert done.returncode != 0
    assert "baseline" in done.stderr
    assert "mmx" in done.stderr


def test_memory_is_reused_aligned_and_counted() -> None:
    shape, size = (1 << 20,), 4 << 20
    if not native.memory_stats()["enabled"]:
        pytest.skip("the memory pool is off")
    first = native.empty(shape, np.float32)
    address = first.ctypes.data
    assert address % 64 == 0
    before = native.memory_stats()
    assert before["in_use"] >= size
    view = first[10:20]
    del first  # the view keeps the block
    assert native.memory_stats()["in_use"] == before["in_use"]
    del view
    after = native.memory_stats()
    assert after["in_use"] <= before["in_use"] - size
    assert after["cached"] >= before["cached"] + size
    again = native.empty(shape, np.float32)
    assert again.ctypes.data == address
    assert native.memory_stats()["hits"] == before["hits"] + 1
    assert native.memory_stats()["peak"] >= before["in_use"]


@pytest.mark.parametrize(
    ("freed", "wanted", "reused"),
    [
        (7 << 20, 7 << 20, True),
        (7 << 20, 5 << 20, True),
        (7 << 20, 3 << 20, False),  # more than half would lie idle
        (5 << 20, 7 << 20, False),
        (700 << 10, 500 << 10, False),  # a small block costs next to nothing
    ],
)
def test_a_large_request_may_be_served_by_a_larger_block(freed, wanted, reused) -> None:
    code = (
        "from cnncore.kernels import native\n"
        f"a = native.empty(({freed},), 'u1'); del a\n"
        f"b = native.empty(({wanted},), 'u1'); b[:] = 1\n"
        "s = native.memory_stats(); print(s['hits'], s['misses'], s['cached'] + s['in_use'])"
    )
    hits, misses, total = map(int, run_python(code, CNNCORE_MEMORY_POOL="1").stdout.split())
    assert (hits, misses) == ((1, 1) if reused else (0, 2))
    assert total >= freed + (0 if reused else wanted)


def test_the_pool_can_be_switched_off() -> None:
    code = (
        "from cnncore.kernels import native\n"
        "a = native.empty((1000,), 'f8'); del a\n"
        "s = native.memory_stats(); print(s['enabled'], s['cached'], s['in_use'])"
    )
    assert run_python(code, CNNCORE_MEMORY_POOL="0").stdout.split() == ["False", "0", "0"]


def test_the_pool_keeps_to_its_limit() -> None:
    code = (
        "from cnncore.kernels import native\n"
        "for n in range(1, 9):\n"
        "    arrays = [native.empty((n << 18,), 'f4') for _ in range(2)]; del arrays\n"
        "    assert native.memory_stats()['cached'] <= 8 << 20\n"
        "print(native.memory_stats()['limit'])"
    )
    done = run_python(code, CNNCORE_MEMORY_LIMIT_MB="8")
    assert done.stdout.strip() == str(8 << 20), done.stderr


def test_sources_name_files_and_lines() -> None:
    root = Path(__file__).parents[2]
    for name, source in native.sources().items():
        path, line = source.rsplit(":", 1)
        assert not Path(path).is_absolute()
        text = (root / path).read_text().splitlines()
        assert f"CNNCORE_KERNEL({name})" in text[int(line) - 2], source
