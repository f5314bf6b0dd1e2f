#include <algorithm>
#include <numeric>

#include "cnncore/check.h"
#include "cpu/caches.h"
#include "cpu/conv/direct.h"
#include "cpu/plane_tile.h"

namespace cnncore {
namespace {

constexpr index_t kTasks = 16;  // as many tasks as this where the shape allows it
constexpr index_t kBands = 64;  // the same where a task asks for the pixels of the next

DirectColumns columns_of(const std::vector<index_t>& kernel, const AxisTaps& taps, index_t first,
                         index_t count) {
  return {kernel, taps, first, count, 0, 0, {}};
}

std::vector<index_t> all_taps(const Window1d& window) {
  std::vector<index_t> taps;
  for (index_t k = 0; k < window.kernel; ++k) taps.push_back(k);
  return taps;
}

void lay_out(const DirectPlan& plan, DirectPart& part, index_t lanes, index_t bytes) {
  const index_t step = part.columns[0].taps.step, grid_w = part.columns[0].count;
  // Planes whose size is a multiple of 1 KB would fight for cache lines: copy those.
  const bool apart = plan.channels < 8 || plan.height * plan.width * bytes % 1024 != 0;
  const bool rows_inside = part.taps.inside(part.count, plan.height);
  part.in_place = step == 1 && rows_inside;
  part.lowest = 0;
  index_t highest = 0;
  bool first = true;
  for (const DirectColumns& c : part.columns) {
    part.in_place = part.in_place && c.taps.inside(c.count, plan.width);
    for (index_t shift : c.taps.shift) {
      part.lowest = first ? shift : min_of(part.lowest, shift);
      highest = first ? shift : max_of(highest, shift);
      first = false;
    }
  }
  for (const DirectColumns& c : part.columns)
    for (index_t shift : c.taps.shift) {
      const index_t slot = (shift - part.lowest) % step;
      if (std::find(part.slots.begin(), part.slots.end(), slot) == part.slots.end())
        part.slots.push_back(slot);
    }
  // Kernels of one pixel come to another plane, that is to another page, with every step. With
  // vectors of half a cache line that is too often for the table of pages.
  const std::vector<index_t> same{0};
  const bool one_pixel = part.taps.shift == same && part.columns[0].taps.shift == same;
  part.in_place = part.in_place && (!one_pixel || lanes * bytes >= kLineBytes);
  part.panels = one_pixel && rows_inside && !(part.in_place && apart) && part.columns.size() == 1 &&
                plan.target_row_step == 1;
  part.in_place = part.in_place && apart && !part.panels;
  if (part.in_place) {
    part.row_pitch = plan.width;
    part.row_step = part.taps.step * plan.width;
  } else {
    part.slot_pitch = grid_w + (highest - part.lowest) / step;
    part.row_pitch = checked_product(part.slot_pitch, static_cast<index_t>(part.slots.size()));
    part.row_step = part.taps.local_step() * part.row_pitch;
  }
  const bool side_by_side = part.row_step == grid_w;
  part.flat =
      (side_by_side || part.panels) && part.columns.size() == 1 && plan.target_row_step == 1;
  // Phases of columns pass through a buffer: there, pixels between the rows do no harm, and long
  // rows waste fewer lanes.
  part.joined = part.columns.size() > 1 && part.row_step <= round_up(grid_w, lanes);
}

// Rows (or pixels) of a task: a copy, or what is read in place, that half the second level holds,
// and tasks enough for all threads.
void cut(const DirectPlan& plan, DirectPart& part, index_t blocks, index_t lanes, index_t bytes) {
  const index_t grid_w = part.columns[0].count, everything = max_of(1, plan.images * plan.groups);
  const index_t room = caches().second / 2 / bytes;
  const index_t total = part.pixels_in_bands() ? part.count * grid_w : part.count;
  // Rows that are computed as one: bands of whole vectors, and of several.
  const bool together = !part.pixels_in_bands() && (part.flat || part.joined);
  const index_t unit = part.pixels_in_bands()                ? 2 * lanes
                       : together && part.row_step == grid_w ? lanes / std::gcd(lanes, grid_w)
                                                             : 1;
  const index_t least = together ? ceil_div(8 * lanes, max_of(1, part.row_step)) : 1;
  const index_t most = part.pixels_in_bands() ? room / 2 / max_of(1, plan.channels)
                                              : room / max_of(1, plan.channels * part.row_pitch) /
                                                    part.taps.local_step();
  const bool asks = part.pixels_in_bands() && part.in_place;
  const index_t tasks = ceil_div(asks ? kBands : kTasks, everything);
  index_t band = max_of(1, min_of(most, ceil_div(total, tasks)));
  band = min_of(round_up(max_of(band, least), unit), max_of(1, total));
  part.bands = max_of(1, ceil_div(total, band));
  part.band = round_up(ceil_div(total, part.bands), unit);
  part.bands = max_of(1, ceil_div(total, part.band));
  part.block_groups = max_of(1, min_of(blocks, ceil_div(kTasks, everything * part.bands)));
}

void fill_offsets(const DirectPlan& plan, DirectPart& part, index_t lanes) {
  if (part.panels) {
    part.local_size = checked_product(plan.channels, round_up(part.band, 2 * lanes));
    return;
  }
  part.channel_pitch = plan.height * plan.width;
  part.local_size = 0;
  const index_t step = part.columns[0].taps.step;
  for (DirectColumns& c : part.columns)
    for (index_t channel = 0; channel < plan.channels; ++channel)
      for (index_t i : part.taps.shift)
        for (index_t j : c.taps.shift) {
          const index_t place = j - part.lowest;
          const auto slot = std::find(part.slots.begin(), part.slots.end(), place % step);
          if (part.in_place) {
            c.offset.push_back(channel * part.channel_pitch + i * plan.width + j);
          } else {
            if (part.local_size == 0) {
              part.channel_pitch = channel_pitch<float>(
                  checked_product(part.taps.extent(part.band), part.row_pitch));
              part.local_size = checked_product(plan.channels, part.channel_pitch);
            }
            const index_t row = part.taps.taps() == 1 ? 0 : i - part.taps.lowest();
            c.offset.push_back(channel * part.channel_pitch + row * part.row_pitch +
                               (slot - part.slots.begin()) * part.slot_pitch + place / step);
          }
        }
}

}  // namespace

DirectPlan::DirectPlan(const ConvShape& s, ConvDirection direction, index_t rows, index_t pitch,
                       index_t lanes, index_t bytes)
    : images(s.images), groups(s.groups) {
  const Window2d& window = s.window;
  if (direction == ConvDirection::output) {
    channels = s.group_channels();
    outputs = s.group_outputs();
    height = s.height;
    width = s.width;
    target_height = s.oh();
    target_width = s.ow();
    column_step = target_row_step = 1;
    parts.push_back({all_taps(window.h),
                     forward_taps(window.h),
                     0,
                     target_height,
                     {columns_of(all_taps(window.w), forward_taps(window.w), 0, target_width)}});
  } else {
    channels = s.group_outputs();
    outputs = s.group_channels();
    height = s.oh();
    width = s.ow();
    target_height = s.height;
    target_width = s.width;
    column_step = window.w.stride;
    target_row_step = window.h.stride;
    for (const Phase& h : phases_of(window.h, target_height)) {
      parts.push_back({h.kernel, h.taps, h.first, h.count, {}});
      for (const Phase& w : phases_of(window.w, target_width))
        parts.back().columns.push_back(columns_of(w.kernel, w.taps, w.first, w.count));
    }
  }
  const index_t blocks = ceil_div(outputs, rows);
  group_weights = 0;
  for (DirectPart& part : parts) {
    for (DirectColumns& c : part.columns) {
      c.depth = channels * part.taps.taps() * c.taps.taps();
      c.weights = group_weights;
      group_weights += checked_product(c.depth, blocks, pitch);
    }
    lay_out(*this, part, lanes, bytes);
    cut(*this, part, blocks, lanes, bytes);
    fill_offsets(*this, part, lanes);
  }
}

}  // namespace cnncore
