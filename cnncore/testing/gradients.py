"""Is a gradient right?  Backward against finite differences.

Random directions are always compared (cheap, catch any error of size); for small problems the whole
Jacobian is, entry by entry.  What disagrees is traced to one element, and then looked at closely: a
wrong gradient and a point without a derivative are told apart by the slopes to either side.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cnncore.autograd import Tensor, enable_grad, grad
from cnncore.errors import ArgumentError
from cnncore.testing import report as reports
from cnncore.testing.differences import FEW_STEPS, RATIO, STEPS, Estimate, Sweep
from cnncore.testing.problem import Floats, Place, Problem
from cnncore.testing.report import CheckError, Entry, Kink, Report

# "auto" writes the whole Jacobian for problems up to this size.
FULL_INPUTS, FULL_OUTPUTS, FULL_ENTRIES = 160, 320, 16000
MOST_KINKS = 5  # named in a report


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    eps: float | None = None,
    atol: float = 1e-7,
    rtol: float = 1e-6,
    seeds: Sequence[int] = (0, 1, 2),
    directions: int = 1,
    full_jacobian: bool | str = "auto",
    allow_kinks: bool = False,
    raise_exception: bool = True,
    show_sweep: bool = False,
    title: str = "gradcheck",
) -> Report:
    """Compare the gradients of ``fn(*inputs)`` with finite differences.

    Along a random direction d and for random output weights v, backward gives ``<Jᵀ v, d>`` and
    differences give ``<v, (f(x + h d) − f(x − h d)) / 2h>``; they must agree within
    ``atol + rtol · size``.

    ``inputs``: a tensor or array, or a sequence of arguments.  Checked are float64 tensors with
    ``requires_grad=True`` and float64 arrays (passed to fn as tensors); integers, ``None`` and
    other tensors are handed on as they are.  ``fn`` returns a tensor or a tuple; integer outputs
    are ignored.  ``eps`` fixes the step (default: a sweep per direction, the plateau is taken);
    ``seeds`` × ``directions`` random directions; ``full_jacobian`` True, False or ``"auto"`` (small
    problems).  ``allow_kinks`` accepts, where no derivative exists, any gradient between the two
    one-sided slopes.  ``show_sweep`` prints the steps tried.

    Returns a ``Report`` (true when passed) or raises ``CheckError`` with it;
    ``raise_exception=False`` always returns.  Errors: ``DTypeError`` for single precision,
    ``ArgumentError`` for nothing to check.

    >>> import numpy as np
    >>> print(gradcheck(lambda x: x * x * x, np.array([1.0, -2.0])))
    gradcheck: correct (3 random directions and 4 Jacobian entries)
    """
    if full_jacobian not in (True, False, "auto"):
        raise ArgumentError("full_jacobian", 'True, False or "auto"', repr(full_jacobian))
    problem = Problem(fn, inputs)
    check = _Check(problem, atol, rtol, eps, allow_kinks)
    found = Report(title, show_sweep=show_sweep)
    check.run(found, seeds, directions, full_jacobian)
    if raise_exception and not found.passed:
        raise CheckError(found)
    return found


def gradgradcheck(
    fn: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, seed: int = 0, **options: Any
) -> Report:
    """Check second derivatives: ``gradcheck`` of the function ``(x, gy) -> Jᵀ gy`` of backward.

    Backward itself is taken for right here (``gradcheck`` says whether it is).  ``grad_outputs``
    are the gy (one per floating output; default random); other options as for ``gradcheck``.

    >>> import numpy as np
    >>> print(gradgradcheck(lambda x: x * x * x, np.array([1.0, -2.0])))
    gradgradcheck: correct (3 random directions and 8 Jacobian entries)
    """
    problem = Problem(fn, inputs)
    given, count = problem.given, len(problem.given)
    if grad_outputs is None:
        rng = np.random.default_rng([seed, 2])
        gys = [_away_from_zero(rng, shape) for shape in problem.output_shapes]
    else:
        many = isinstance(grad_outputs, (tuple, list))
        gys = [np.asarray(gy, np.float64) for gy in (grad_outputs if many else [grad_outputs])]

    def backward_of_fn(*arguments: Any) -> tuple[Tensor, ...]:
        with enable_grad():
            values = list(arguments[:count])
            for i in problem.positions:
                if not values[i].requires_grad:
                    values[i] = Tensor(values[i].data, requires_grad=True)
            checked = [values[i] for i in problem.positions]
            outputs = _floating(fn(*values))
            pairs = [
                (y, gy) for y, gy in zip(outputs, arguments[count:], strict=True) if y.requires_grad
            ]
            if not pairs:
                return tuple(Tensor(np.zeros(x.shape)) for x in checked)
            ys, seeds = [y for y, _ in pairs], [gy for _, gy in pairs]
            results = grad(ys, checked, seeds, create_graph=True, allow_unused=True)
            return tuple(
                Tensor(np.zeros(x.shape)) if gx is None else gx
                for x, gx in zip(checked, results, strict=True)
            )

    options.setdefault("title", "gradgradcheck")
    named = _with_names(backward_of_fn, problem, len(gys))
    return gradcheck(named, [*given, *gys], **options)


class _Check:
    """One run of a check: the problem, the tolerances, and f at the given input."""

    def __init__(
        self, problem: Problem, atol: float, rtol: float, eps: float | None, allow_kinks: bool
    ) -> None:
        self.problem, self.atol, self.rtol, self.eps = problem, atol, rtol, eps
        self.allow_kinks = allow_kinks
        self.steps = STEPS if eps is None else (eps, eps / RATIO)
        self.centre = problem.evaluate(problem.x)

    def run(self, found: Report, seeds: Sequence[int], directions: int, full: bool | str) -> None:
        problem = self.problem
        if not np.array_equal(self.centre, problem.evaluate(problem.x), equal_nan=True):
            found.verdict = reports.RANDOM
            return
        if not np.isfinite(self.centre).all():
            place = problem.output_place(int(np.argmin(np.isfinite(self.centre))))
            found.verdict = reports.INCONCLUSIVE
            found.notes.append(f"{place} is NaN or infinite at the given input")
            return
        for seed in seeds:
            for number in range(directions):
                self._direction(found, np.random.default_rng([seed, number]))
                if not found.passed:
                    return
        small = problem.n <= FULL_INPUTS and problem.m <= FULL_OUTPUTS
        if full is True or (full == "auto" and small and problem.n * problem.m <= FULL_ENTRIES):
            self._jacobian(found)

    def _sweep(self, direction: Floats, steps: Sequence[float]) -> Sweep:
        problem = self.problem
        return Sweep.of(problem.evaluate, problem.x, direction * problem.scale, self.centre, steps)

    def _direction(self, found: Report, rng: np.random.Generator) -> None:
        problem = self.problem
        d = _away_from_zero(rng, (problem.n,))
        d /= max(float(np.linalg.norm(d)), 1e-300)
        v = _away_from_zero(rng, (problem.m,))
        gradient = problem.gradient(v) * problem.scale
        found.directions += 1
        if problem.n == 0 or problem.m == 0:
            return
        # Steps are meant per element: a unit vector of n elements has components of 1/sqrt(n).
        reach = float(np.sqrt(problem.n))
        sweep = self._sweep(d * reach, self.steps)
        numeric = sweep.project(v).estimate(np.array([np.abs(self.centre) @ np.abs(v)]))
        if found.sweep is None:
            found.sweep, found.step = sweep.project(v), float(numeric.step[0])
        each = sweep.estimate()
        size = float(np.linalg.norm(gradient * d)) * reach
        analytic = float(gradient @ d) * reach
        entry = self._entry(analytic, numeric, 0, size, reach, Place("direction", -1, ()))
        if each.broken.any():
            if not (self.allow_kinks and self._between_slopes(entry, each, v)):
                self._explain(found, d, v, gradient, int(np.argmax(each.broken)))
        elif not entry.error <= entry.tolerance:
            self._explain(found, d, v, gradient, None)

    @staticmethod
    def _between_slopes(entry: Entry, each: Estimate, v: Floats) -> bool:
        """Whether a directional derivative is one that the kinks in its way allow."""
        sides = np.stack([v * each.left, v * each.right])
        low, high = float(sides.min(axis=0).sum()), float(sides.max(axis=0).sum())
        margin = entry.tolerance + 1e-3 * (high - low)
        return not each.jump.any() and low - margin <= entry.analytic <= high + margin

    def _entry(
        self,
        analytic: float,
        numeric: Estimate,
        column: int,
        size: float,
        unit: float,
        argument: Place,
        output: Place | None = None,
    ) -> Entry:
        value = float(numeric.value[column])
        size = max(size, abs(float(analytic)), abs(value))
        return Entry(
            argument, output, float(analytic), value, float(numeric.uncertainty[column]),
            self.atol * unit + self.rtol * size,
            float(numeric.left[column]), float(numeric.right[column]),
        )  # fmt: skip

    def _explain(
        self, found: Report, d: Floats, v: Floats, gradient: Floats, output: int | None
    ) -> None:
        """A direction disagrees or breaks: find the one element to blame, by halving the direction.

        ``output`` is the flat position of an output without derivative along d, or None.
        """
        problem = self.problem
        members = np.arange(problem.n)
        while members.size > 1:
            halves = np.array_split(members, 2)
            blame = [self._blame(d, half, v, gradient, output) for half in halves]
            members = halves[int(np.argmax(blame))]
        self._judge(found, int(members[0]), v, gradient, output)

    def _blame(
        self, d: Floats, half: Any, v: Floats, gradient: Floats, output: int | None
    ) -> float:
        part = np.zeros_like(d)
        part[half] = d[half] * np.sqrt(self.problem.n)
        sweep = self._sweep(part, self.steps)
        if output is not None:
            numeric = sweep.estimate()
            gap = abs(float(numeric.right[output] - numeric.left[output]))
            return gap + float(numeric.jump[output]) * 1e12 if numeric.broken[output] else -1.0
        numeric = sweep.project(v).estimate(np.array([np.abs(self.centre) @ np.abs(v)]))
        miss = float(abs(gradient @ part - numeric.value[0]))
        return miss if np.isfinite(miss) else np.inf

    def _judge(
        self, found: Report, element: int, v: Floats, gradient: Floats, output: int | None
    ) -> None:
        """Look closely at one element, towards one output or towards ``<v, outputs>``."""
        problem = self.problem
        scale = float(problem.scale[element])
        sweep = self._sweep(_basis(problem.n, element), self.steps)
        each = sweep.estimate()
        if output is None and each.broken.any():
            output = int(np.argmax(each.broken))
        projected, column = sweep.project(v), 0
        numeric = projected.estimate(np.array([np.abs(self.centre) @ np.abs(v)]))
        if output is None:
            output = self._worst_output(element, each.value / scale)
        place = None
        if output is not None:
            place, column, numeric = problem.output_place(output), output, each
            one = _basis(problem.m, output)
            projected = sweep.project(one)
            analytic = float(problem.gradient(one)[element])
        else:
            analytic = float(gradient[element]) / scale
        numeric = _rescaled(numeric, scale)
        argument = problem.input_place(element)
        entry = self._entry(analytic, numeric, column, abs(analytic), 1.0, argument, place)
        found.sweep, found.step = projected, float(numeric.step[column])
        if bool(numeric.broken[column]):
            self._kink(found, entry, bool(numeric.jump[column]), element, output)
        elif not entry.error <= entry.tolerance:
            self._miss(found, entry, problem)
        else:
            found.verdict, found.worst = reports.INCONCLUSIVE, entry
            found.notes.append("a random direction disagreed, but no single element does")

    def _worst_output(self, element: int, numeric: Floats) -> int | None:
        """The output whose derivative is furthest off (where they are few enough to try)."""
        problem = self.problem
        if problem.m > FULL_OUTPUTS:
            return None
        row = [problem.gradient(_basis(problem.m, j))[element] for j in range(problem.m)]
        return int(np.argmax(np.abs(row - numeric)))

    def _miss(self, found: Report, entry: Entry, problem: Problem) -> None:
        close = entry.error <= 10 * entry.uncertainty or not np.isfinite(entry.numeric)
        found.verdict = reports.INCONCLUSIVE if close else reports.WRONG
        found.worst = entry
        checked = problem.positions.index(entry.argument.position)
        if checked in problem.without_gradient:
            found.notes.append(f"backward gave no gradient (None) towards {entry.argument.name}")

    def _kink(
        self, found: Report, entry: Entry, jump: bool, element: int, output: int | None
    ) -> None:
        low, high = sorted((entry.left, entry.right))
        margin = entry.tolerance + 1e-3 * (high - low)
        inside = not jump and low - margin <= entry.analytic <= high + margin
        tied = [] if output is None else self._tied(element, output)
        kink = Kink(entry.argument, entry.output, entry.left, entry.right, jump, tuple(tied))
        if len(found.kinks) < MOST_KINKS:
            found.kinks += (kink,)
        if inside and self.allow_kinks:
            return
        if not inside and not jump:
            found.verdict, found.worst = reports.WRONG, entry
            found.notes.append("at a kink, and not even between the slopes on its two sides")
        elif found.verdict != reports.WRONG:
            found.verdict, found.worst = reports.KINK, entry

    def _tied(self, element: int, output: int) -> list[Place]:
        """Further elements at which the same output breaks (in small problems, else none)."""
        problem = self.problem
        places = []
        for other in range(problem.n if problem.n <= FULL_INPUTS else 0):
            if other != element:
                numeric = self._sweep(_basis(problem.n, other), FEW_STEPS).estimate()
                if numeric.broken[output]:
                    places.append(problem.input_place(other))
        return places[:MOST_KINKS]

    def _jacobian(self, found: Report) -> None:
        """Every entry, a few steps each; whatever looks odd is judged with the whole sweep."""
        problem = self.problem
        if problem.n == 0 or problem.m == 0:
            return
        analytic = np.stack([problem.gradient(_basis(problem.m, j)) for j in range(problem.m)])
        steps = FEW_STEPS if self.eps is None else self.steps
        worst, odd = -1.0, None
        for i in range(problem.n):
            one, scale = _basis(problem.n, i), float(problem.scale[i])
            numeric = _rescaled(self._sweep(one, steps).estimate(), scale)
            ratio = self._misses(analytic[:, i], numeric)
            if ratio.max() > 1 and len(steps) < len(self.steps):
                numeric = _rescaled(self._sweep(one, self.steps).estimate(), scale)
                ratio = self._misses(analytic[:, i], numeric)
            found.entries += problem.m
            j = int(np.argmax(ratio))
            if ratio[j] > worst:
                worst, odd = float(ratio[j]), (i, j)
                a, places = analytic[j, i], (problem.input_place(i), problem.output_place(j))
                found.worst = self._entry(a, numeric, j, 0.0, 1.0, *places)
        if odd is not None and worst > 1:
            one = _basis(problem.m, odd[1])
            self._judge(found, odd[0], one, problem.gradient(one) * problem.scale, odd[1])

    def _misses(self, analytic: Floats, numeric: Estimate) -> Floats:
        """Error over tolerance per output; infinite where there is no derivative to compare."""
        size = np.maximum(np.abs(analytic), np.abs(numeric.value))
        tolerance = self.atol + self.rtol * size
        error = np.abs(analytic - numeric.value)
        if self.allow_kinks:
            low = np.minimum(numeric.left, numeric.right)
            high = np.maximum(numeric.left, numeric.right)
            outside = np.maximum(np.maximum(low - analytic, analytic - high), 0.0)
            error = np.where(numeric.kink, np.maximum(outside - 1e-3 * (high - low), 0.0), error)
            broken = numeric.jump
        else:
            broken = numeric.broken
        ratio = error / tolerance
        return np.where(broken | ~np.isfinite(ratio), np.inf, ratio)


def _rescaled(numeric: Estimate, scale: float) -> Estimate:
    """Derivatives per unit of the argument, from derivatives per scaled step."""
    return Estimate(
        numeric.value / scale, numeric.uncertainty / scale, numeric.step * scale,
        numeric.left / scale, numeric.right / scale, numeric.kink, numeric.jump,
    )  # fmt: skip


def _basis(n: int, position: int) -> Floats:
    vector = np.zeros(n)
    vector[position] = 1.0
    return vector


def _away_from_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Random numbers of either sign with no tiny one: every element counts in a direction."""
    return np.asarray(rng.uniform(0.5, 1.0, shape) * rng.choice([-1.0, 1.0], shape))


def _floating(result: Any) -> list[Tensor]:
    results = result if isinstance(result, (tuple, list)) else [result]
    return [y for y in results if isinstance(y, Tensor) and y.dtype.kind == "f"]


def _with_names(fn: Callable[..., Any], problem: Problem, outputs: int) -> Callable[..., Any]:
    """Give ``fn(*arguments)`` a signature, so that reports name its arguments."""
    names = [name for name in problem.all_names if name.isidentifier()]
    if len(names) == len(problem.given):
        kind = inspect.Parameter.POSITIONAL_ONLY
        extra = [f"gy{i}" if outputs > 1 else "gy" for i in range(outputs)]
        if len(set(names + extra)) == len(names) + outputs:
            parameters = [inspect.Parameter(name, kind) for name in names + extra]
            fn.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return fn
