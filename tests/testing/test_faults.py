"""Every deliberate fault is caught by a check that passes without it, on every backend."""

from __future__ import annotations

import pytest
import suite_checks as checks

from cnncore.errors import ArgumentError, CnncoreError
from cnncore.kernels.dispatch import use_backend
from cnncore.testing import faults

CAUGHT_BY = {
    "zero_padded_max_pool": checks.max_pool_of_negative_numbers,
    "max_pool_tie_to_highest": checks.max_pool_ties_go_to_the_lowest_index,
    "roi_pool_tie_to_highest": checks.roi_pool_ties_go_to_the_lowest_index,
    "nan_ignored_in_max": checks.nan_wins_every_maximum,
    "avg_pool_counts_wrongly": checks.average_pool_is_its_definition,
    "unpool_ignores_switches": checks.unpooling_follows_the_switches,
    "col2im_overwrites": checks.folding_is_the_transpose_of_unfolding,
    "conv_transpose_overwrites": checks.transposed_convolution_is_the_transpose,
    "scatter_overwrites": checks.max_pool_gradient_adds_where_windows_overlap,
    "resample_adjoint_overwrites": checks.roi_align_gradient_is_the_transpose,
    "repeated_index_overwrites": checks.repeated_indices_add_up,
    "gradient_overwritten": checks.gradients_of_two_uses_add_up,
    "broadcast_gradient_not_summed": checks.broadcast_operands_get_the_sum,
    "conv_swaps_height_and_width": checks.convolution_is_its_definition,
    "conv_flips_kernel": checks.convolution_is_its_definition,
    "conv_transpose_unflipped": checks.transposed_convolution_is_the_transpose,
    "conv_mixes_groups": checks.convolution_is_its_definition,
    "conv_swaps_padding_sides": checks.convolution_is_its_definition,
    "weight_gradient_ignores_dilation": checks.weight_gradient_of_convolution,
    "roi_end_off_by_one": checks.roi_pool_is_its_definition,
    "roi_align_half_pixel_off": checks.roi_align_is_its_definition,
    "align_corners_mixed_up": checks.bilinear_interpolation_is_its_definition,
    "batch_statistics_constant": checks.batch_norm_gradient,
    "variance_cancels": checks.statistics_far_from_zero,
    "leaky_slope_lost_in_backward": checks.leaky_relu_gradient,
    "second_derivative_doubled": checks.second_derivative_of_silu,
    "softmax_overflows": checks.softmax_of_large_numbers,
    "nms_drops_at_threshold": checks.nms_keeps_what_equals_the_threshold,
    "nms_unstable": checks.nms_is_stable,
    "iou_counts_edges": checks.boxes_overlap_by_hand,
    "adam_without_bias_correction": checks.adam_moves_by_the_learning_rate_at_first,
    "momentum_forgotten": checks.momentum_gathers_gradients,
}
backends = pytest.mark.parametrize("backend", faults.available_backends())


def test_every_fault_has_a_check_that_catches_it():
    assert set(CAUGHT_BY) == set(faults.FAULTS)


@backends
@pytest.mark.parametrize("check", sorted(set(CAUGHT_BY.values()), key=lambda f: f.__name__))
def test_check_passes_without_faults(backend, check):
    with use_backend(backend):
        check()


@backends
@pytest.mark.parametrize("name", CAUGHT_BY)
def test_fault_is_caught(backend, name):
    with use_backend(backend):
        with faults.inject(name), pytest.raises((AssertionError, CnncoreError)) as caught:
            CAUGHT_BY[name]()
        # A refusal of arguments would be a fault that breaks the call, not one the check sees.
        assert not isinstance(caught.value, ArgumentError), caught.value
        CAUGHT_BY[name]()  # and it is off again


def test_unknown_fault_is_refused():
    with pytest.raises(ArgumentError, match="zero_padded_max_pool"), faults.inject("no such"):
        pass


def test_two_faults_of_one_kernel_are_both_made():
    """NMS that drops at the threshold and takes equal scores from the end."""
    with faults.inject("nms_drops_at_threshold"), faults.inject("nms_unstable"):
        for check in (checks.nms_is_stable, checks.nms_keeps_what_equals_the_threshold):
            with pytest.raises(AssertionError):
                check()
