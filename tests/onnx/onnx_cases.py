"""The ONNX project's own test cases, run through the backend and counted by operator.

python tests/onnx/onnx_cases.py            every case and network, and a table
python tests/onnx/onnx_cases.py Resize     those whose name holds a word
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from cnncore.onnx import UnsupportedOperator, backend

# Operators of the suite that are refused, by name and with a reason.
UNSUPPORTED = {
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), "control flow"),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), "recurrent"),
    **dict.fromkeys(
        (
            "ConcatFromSequence",
            "Optional",
            "OptionalGetElement",
            "OptionalHasElement",
            "SequenceAt",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceErase",
            "SequenceInsert",
            "SequenceLength",
            "SplitToSequence",
        ),
        "values that are no tensors",
    ),
    **dict.fromkeys(
        ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"),
        "text",
    ),
    **dict.fromkeys(("DFT", "MelWeightMatrix", "STFT"), "sound"),
    "ImageDecoder": "files inside a graph",
    "ai.onnx.preview.FlexAttention": "a preview, with graphs as attributes",
    **dict.fromkeys(
        (
            "ai.onnx.preview.training.Adagrad",
            "ai.onnx.preview.training.Adam",
            "ai.onnx.preview.training.Gradient",
            "ai.onnx.preview.training.Momentum",
        ),
        "training inside a graph",
    ),
    **dict.fromkeys(
        (
            "ai.onnx.ml.ArrayFeatureExtractor",
            "ai.onnx.ml.Binarizer",
            "ai.onnx.ml.LabelEncoder",
            "ai.onnx.ml.TreeEnsemble",
        ),
        "decision trees and tables",
    ),
}

# Cases whose expected output cannot be reproduced: name pattern -> why.
NOT_REPRODUCIBLE = {
    r"test_bernoulli": "random numbers of another generator",
    r"test_attention_4d_causal_fp16": "two of 192 numbers differ in the last bit of float16",
}

NO_TENSORS = "values that are no tensors"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@dataclass
class Count:
    """What became of the cases of one operator."""

    passed: int = 0
    unsupported: int = 0
    failed: list[str] = field(default_factory=list)


def operators_of(model: onnx.ModelProto) -> list[str]:
    """The operators of a model, the one it is about first."""
    names = [f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in model.graph.node]
    return list(dict.fromkeys(names)) or ["(none)"]


def data_sets(case) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Inputs and expected outputs of a case, in memory or in its folder."""
    if case.model_dir is None:
        for inputs, outputs in case.data_sets:
            yield [_array(x) for x in inputs], [_array(y) for y in outputs]
        return
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        yield _arrays(folder, "input"), _arrays(folder, "output")


def _array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _arrays(folder: Path, kind: str) -> list[np.ndarray]:
    files = sorted(folder.glob(f"{kind}_*.pb"), key=lambda f: int(f.stem.split("_")[1]))
    return [numpy_helper.to_array(onnx.load_tensor(str(f))) for f in files]


def model_of(case) -> onnx.ModelProto:
    """The case's model, from memory or its folder."""
    return case.model or onnx.load(Path(case.model_dir) / "model.onnx")


def run_case(case, model: onnx.ModelProto) -> None:
    """Run one case and compare as the suite does, with the suite's tolerances."""
    prepared = backend.prepare(model)
    for inputs, expected in data_sets(case):
        outputs = prepared.run(inputs)
        Runner.assert_similar_outputs(expected, outputs, case.rtol, case.atol)


def networks(pattern: str = "") -> list[Path]:
    """The well-known networks of the suite (its set ``light``): constant weights, known outputs."""
    return [p for p in sorted(LIGHT.glob("*.onnx")) if re.search(pattern, p.stem)]


def run_network(path: Path) -> None:
    """Run one of them and compare with the outputs that the ONNX project computed."""
    model = onnx.load(path)
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [Runner.generate_dummy_data(v) for v in model.graph.input if v.name not in held]
    answer = onnx.load_tensor(path.with_name(f"{path.stem}_output_0.pb"))
    outputs = backend.prepare(model).run(inputs)
    Runner.assert_similar_outputs([numpy_helper.to_array(answer)], outputs, rtol=1e-3, atol=1e-7)


def refused_operator(error: UnsupportedOperator) -> str:
    """The operator that an error names."""
    found = re.search(r"ONNX operator (\S+) of opset", str(error))
    return found.group(1) if found else NO_TENSORS


def run_cases(kind: str, pattern: str = "") -> tuple[dict[str, Count], dict[str, int]]:
    """Counts by operator, and how often each refused operator was met."""
    counts: dict[str, Count] = {}
    refused: dict[str, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the cases overflows and divides by zero
        for case in load_model_tests(kind=kind):
            if not re.search(pattern, case.name):
                continue
            if any(re.match(p, case.name) for p in NOT_REPRODUCIBLE):
                continue
            model = model_of(case)
            count = counts.setdefault(operators_of(model)[0], Count())
            try:
                run_case(case, model)
                count.passed += 1
            except UnsupportedOperator as error:
                count.unsupported += 1
                name = refused_operator(error)
                refused[name] = refused.get(name, 0) + 1
            except Exception as error:
                count.failed.append(f"{case.name}: {type(error).__name__}: {error}")
    return counts, refused


def table(counts: dict[str, Count]) -> str:
    """One line an operator, totals last."""
    rows = [
        (name, c.passed, c.unsupported, len(c.failed))
        for name, c in sorted(counts.items(), key=lambda item: item[0].lower())
    ]
    rows.append(("total", *(sum(row[i] for row in rows) for i in (1, 2, 3))))
    head = f"{'operator':36} {'passed':>7} {'unsupported':>12} {'failed':>7}"
    return "\n".join([head, *(f"{n:36} {p:7} {u:12} {f:7}" for n, p, u, f in rows)])


def main(pattern: str = "") -> int:
    """Print the table of every kind of case and the networks; status 1 if any failed."""
    failed: list[str] = []
    for kind in ("node", "pytorch-converted", "pytorch-operator", "simple"):
        counts, refused = run_cases(kind, pattern)
        print(f"\n{kind}\n{table(counts)}")
        print("refused:", ", ".join(f"{k} ({v})" for k, v in sorted(refused.items())) or "nothing")
        failed += [line for count in counts.values() for line in count.failed]
    print("\nwhole networks")
    for path in networks(pattern):
        try:
            run_network(path)
            print(f"{path.stem:36}  passed")
        except Exception as error:
            print(f"{path.stem:36}  failed")
            failed.append(f"{path.stem}: {type(error).__name__}: {error}")
    print("\n".join(failed) or "\nnothing failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
