"""The checkers themselves: they pass what is right, and name what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from cnncore import Tensor, ops
from cnncore.autograd import Function
from cnncore.errors import ArgumentError, DTypeError
from cnncore.ops.linear import LinearMap
from cnncore.testing import CheckError, adjoint_check, gradcheck, gradgradcheck


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def failing(fn, inputs, check=gradcheck, **options):
    """The report of a check that must not pass."""
    with pytest.raises(CheckError) as caught:
        check(fn, inputs, **options)
    report = caught.value.report
    assert not report
    return report


class Cube(Function):
    """x³ with a backward that is right, except for what subclasses break."""

    def forward(self, x):
        self.keep_input(0)
        return x * x * x

    def backward(self, gy):
        (x,) = self.kept()
        return (gy * x * x * 3.0,)


class OneElementWrong(Cube):
    def backward(self, gy):
        (gx,) = super().backward(gy)
        factor = np.ones(gx.shape)
        factor[1, 2] = 1.001
        return (gx * Tensor(factor),)


class NoGradient(Cube):
    def backward(self, gy):
        return (None,)


class ConstantGradient(Cube):
    """Right for the gradient alone; the second derivative is lost (x is taken out of the graph)."""

    def backward(self, gy):
        (x,) = self.kept()
        return (gy * Tensor(3 * x.data * x.data),)


class TransposeForgotten(Function):
    """y = A x with a backward that applies A instead of its transpose."""

    def __init__(self, matrix):
        self.matrix = matrix

    def forward(self, x):
        return self.matrix @ x

    def backward(self, gy):
        return (Tensor(self.matrix @ gy.data),)


class First(Function):
    """Its integer output has no gradient, and its float output is x."""

    def forward(self, x):
        return x * 1.0, np.argsort(x)

    def backward(self, gy, _):
        return (gy,)


# --- right gradients pass -------------------------------------------------------------------------


def test_right_gradients_pass_with_every_entry_compared():
    report = gradcheck(lambda x: Cube()(x), normal(3, 4))
    assert report
    assert (report.directions, report.entries) == (3, 144)
    assert report.worst.relative_error < 1e-7
    assert gradgradcheck(lambda x: Cube()(x), normal(3, 4))


def test_several_inputs_and_outputs():
    def fn(x, w, b):
        y = x @ w + b
        return y, (y * y).sum(), ops.exp(x)

    inputs = [normal(2, 3), normal(3, 4, seed=1), normal(4, seed=2)]
    assert gradcheck(fn, inputs)
    assert gradgradcheck(fn, inputs)


def test_constants_integers_and_options_are_handed_on():
    def fn(x, index, scale, factor):
        return x[index] * scale * factor

    scale = Tensor(normal(3, 1))
    assert gradcheck(fn, [normal(4, 2), np.array([0, 0, 3]), scale, 2.0])
    only = Tensor(normal(4, 2), requires_grad=True)
    assert gradcheck(lambda x: x * x, only).entries == 64


def test_integer_outputs_are_ignored():
    assert gradcheck(lambda x: First()(x), normal(5))


@pytest.mark.parametrize("full", [True, False])
def test_large_problems_are_checked_along_directions(full):
    x = normal(20, 30)
    report = gradcheck(lambda x: (x * x).sum(0), x, full_jacobian=full)
    assert report
    assert (report.entries > 0) == full


@pytest.mark.parametrize(
    "view", [lambda a: a.T, lambda a: a[::-2, 1::2], lambda a: a[1:, 2:6], lambda a: a[:, 2]]
)
def test_the_layout_of_inputs_is_kept(view):
    x, seen = view(normal(6, 7)), []

    def fn(x):
        seen.append(x.data.strides)
        return x * x

    assert gradcheck(fn, x)
    assert set(seen) == {x.strides}


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_empty_inputs_pass(shape):
    assert gradcheck(lambda x: x * x, np.zeros(shape))
    assert gradgradcheck(lambda x: x * x, np.zeros(shape))
    assert gradcheck(lambda x: (x * x).sum(), np.zeros(shape))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_steps_follow_the_size_of_the_input(scale):
    assert gradcheck(lambda x: ops.log(x), scale * (1.5 + np.abs(normal(5))), rtol=1e-5)


def test_a_kink_nearby_is_stepped_around():
    x = np.array([1e-4, -1e-4, 0.5, -2.0])
    assert gradcheck(ops.relu, x)


# --- wrong gradients fail, and are named ----------------------------------------------------------


def test_the_wrong_entry_is_named():
    x = normal(3, 5)
    report = failing(lambda some_name: OneElementWrong()(some_name), x)
    assert report.verdict == "wrong gradient"
    worst = report.worst
    assert (worst.argument.name, worst.argument.index) == ("some_name", (1, 2))
    assert worst.output.index == (1, 2)
    assert worst.analytic == pytest.approx(1.001 * 3 * x[1, 2] ** 2)
    assert worst.numeric == pytest.approx(3 * x[1, 2] ** 2)
    assert worst.relative_error == pytest.approx(0.001, rel=0.01)
    assert "some_name[1, 2]" in str(report)


def test_one_wrong_element_of_many_is_found_by_halving():
    report = failing(lambda x: OneElementWrong()(x), normal(60, 70), atol=1e-12)
    assert report.worst.argument.index == (1, 2)
    assert report.entries == 0


def test_the_right_argument_is_named():
    report = failing(lambda a, b: a * a + OneElementWrong()(b), [normal(3, 4), normal(3, 4)])
    assert (report.worst.argument.name, report.worst.argument.position) == ("b", 1)


def test_an_empty_backward_fails():
    report = failing(lambda x: NoGradient()(x), normal(2, 3))
    assert report.verdict == "wrong gradient"
    assert "None" in str(report)


def test_a_deleted_backward_fails():
    class NoBackward(Cube):
        backward = Function.backward

    with pytest.raises(NotImplementedError):
        gradcheck(lambda x: NoBackward()(x), normal(2, 3))


def test_a_detached_output_fails():
    assert failing(lambda x: (x * x).detach(), normal(3)).verdict == "wrong gradient"


def test_an_error_in_the_second_derivative_only():
    x = normal(2, 3)
    assert gradcheck(lambda x: ConstantGradient()(x), x)
    report = failing(lambda x: ConstantGradient()(x), x, gradgradcheck)
    assert report.verdict == "wrong gradient"
    assert report.worst.argument.name == "x"


def test_without_exceptions_the_report_is_returned():
    assert not gradcheck(lambda x: NoGradient()(x), normal(2), raise_exception=False)


# --- kinks and ties are told from errors ----------------------------------------------------------


def test_a_kink_is_not_called_an_error():
    x = normal(3, 4)
    x[2, 1] = 0.0
    report = failing(ops.relu, x)
    assert report.verdict == "at a kink or tie"
    (kink,) = report.kinks
    assert (kink.argument.index, kink.output.index) == ((2, 1), (2, 1))
    assert (kink.left, kink.right) == pytest.approx((0.0, 1.0))
    assert gradcheck(ops.relu, x, allow_kinks=True)


def test_a_tie_names_the_window_and_both_elements():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 2, 3] = x[0, 0, 3, 3]
    report = failing(lambda x: ops.max_pool2d(x, 2), x)
    assert report.verdict == "at a kink or tie"
    (kink,) = report.kinks
    assert kink.output.index == (0, 0, 1, 1)
    elements = {kink.argument.index, *(place.index for place in kink.tied)}
    assert elements == {(0, 0, 2, 3), (0, 0, 3, 3)}


def test_a_wrong_gradient_at_a_kink_is_still_wrong():
    class Absurd(Function):
        def forward(self, x):
            return np.abs(x)

        def backward(self, gy):
            return (gy * 5.0,)

    report = failing(lambda x: Absurd()(x), np.zeros(1), allow_kinks=True)
    assert report.verdict == "wrong gradient"


def test_allow_kinks_does_not_hide_errors_elsewhere():
    x = normal(3, 4)
    x[0, 0] = 0.0
    report = failing(lambda x: ops.relu(x) + OneElementWrong()(x), x, allow_kinks=True)
    assert report.verdict == "wrong gradient"
    assert report.worst.argument.index == (1, 2)


def test_a_leap_is_named():
    class Floor(Function):
        def forward(self, x):
            return np.floor(x)

        def backward(self, gy):
            return (gy * 0.0,)

    assert gradcheck(lambda x: Floor()(x), np.array([0.5, 1.2]))
    report = failing(lambda x: Floor()(x), np.array([0.5, 2.0]))
    assert report.verdict == "at a kink or tie"
    assert report.kinks[0].jump


# --- what cannot be checked -----------------------------------------------------------------------


def test_single_precision_is_refused():
    with pytest.raises(DTypeError, match="weight: expected float64"):
        gradcheck(lambda x, weight: x * weight, [normal(2), normal(2).astype(np.float32)])
    with pytest.raises(DTypeError, match="output 0"):
        gradcheck(lambda x: x.to("float32"), normal(2))


def test_nothing_to_check_is_refused():
    with pytest.raises(ArgumentError, match="requires_grad"):
        gradcheck(lambda x: x * x, Tensor(normal(2)))
    with pytest.raises(ArgumentError, match="floating"):
        gradcheck(lambda x: Tensor(np.arange(2)), normal(2))


def test_random_functions_are_refused():
    rng = np.random.default_rng(0)
    report = failing(lambda x: x * Tensor(rng.normal(size=x.shape)), normal(3))
    assert report.verdict == "not deterministic"


def test_nan_at_the_input_is_inconclusive():
    report = failing(lambda x: ops.log(x), np.array([1.0, -1.0]))
    assert report.verdict == "inconclusive"
    assert "output[1]" in str(report)


def test_the_sweep_is_shown_on_request():
    report = gradcheck(ops.exp, normal(2), show_sweep=True)
    assert "steps tried" in str(report)
    assert str(report).count("e-0") >= 7
    assert report.sweep.steps[0] > report.step > report.sweep.steps[-1]
    assert "steps tried" not in str(gradcheck(ops.exp, normal(2)))


def test_a_step_can_be_given():
    report = gradcheck(ops.exp, normal(2), eps=1e-3)
    assert report.sweep.steps.tolist() == [1e-3, 2.5e-4]


# --- adjoint_check --------------------------------------------------------------------------------


def test_adjoint_of_a_map_and_of_a_function():
    matrix = normal(3, 4)
    right = LinearMap("A", "At", lambda x: matrix @ x, lambda y: matrix.T @ y)
    assert adjoint_check(right, (4,))
    assert adjoint_check(right.T, (3,))
    assert adjoint_check(lambda x: ops.matmul(Tensor(matrix), x), (4, 2))
    assert adjoint_check(lambda x, y: x * 2.0 - y, [normal(2, 3), normal(2, 3)])


def test_a_wrong_adjoint_is_named():
    matrix = normal(3, 3)
    matrix[2, 0] = 7.0
    wrong = LinearMap("A", "At", lambda x: matrix @ x, lambda y: matrix @ y)
    report = failing(wrong, (3,), adjoint_check)
    assert "not the transpose" in str(report)
    assert "[2] / d x[0] is 7 forwards" in str(report) or "[0] / d x[2]" in str(report)
    failing(lambda x: TransposeForgotten(matrix)(x), (3,), adjoint_check)


def test_a_function_that_is_not_linear_is_refused():
    assert "not linear" in str(failing(lambda x: x * x, (3,), adjoint_check))
    assert "not linear" in str(failing(lambda x: x + 1.0, (3,), adjoint_check))


def test_exact_demands_equality():
    almost = LinearMap("A", "At", lambda x: 3 * x, lambda y: 3 * y * (1 + 2**-50))
    assert adjoint_check(almost, (5,))
    failing(almost, (5,), adjoint_check, exact=True)
