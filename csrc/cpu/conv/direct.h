// How "direct" (direct.cpp) cuts up a convolution or its transpose: shapes only, no arrays.
#pragma once

#include <vector>

#include "cpu/conv/panels.h"
#include "cpu/conv/shape.h"
#include "cpu/planes.h"

namespace cnncore {

// Columns first, first + step, … of the result (all of them, unless it is a strided transpose).
struct DirectColumns {
  std::vector<index_t> kernel;  // the taps, as they stand in a row of the kernel
  AxisTaps taps;
  index_t first, count;
  index_t depth;                // channels x taps
  index_t weights;              // where its packed weights begin in those of a group
  std::vector<index_t> offset;  // of each step along the sum, from the first pixel
};

// Rows first, first + step, … of the result: one correlation for each phase of the columns.
struct DirectPart {
  std::vector<index_t> kernel;
  AxisTaps taps;
  index_t first, count;
  std::vector<DirectColumns> columns;

  // Where the micro-kernel reads: in the source itself, or in a copy with zeros around it, whose
  // rows are split by column modulo the step.
  bool in_place = false;
  bool panels = false;                    // or: one pixel each, copied tile after tile
  index_t row_step = 0;                   // from row to row of results
  index_t slot_pitch = 0, row_pitch = 0;  // of the copy
  std::vector<index_t> slots = {};        // the columns modulo the step that are copied
  index_t lowest = 0;                     // column that the copy of an output at 0 begins with
  index_t channel_pitch = 0;
  index_t local_size = 0;  // elements of the copy
  bool joined = false;  // rows of pixels are computed as one long row, with what lies between them
  bool flat = false;    // rows of results lie side by side in source and target: one long row

  index_t band = 1, bands = 1;  // rows of one task, or its pixels
  index_t block_groups = 1;

  index_t tasks(index_t images, index_t groups) const {
    return images * groups * bands * block_groups;
  }
  bool pixels_in_bands() const { return flat && (in_place || panels); }
};

// A convolution seen as a correlation of planes: `channels` in, `outputs` out, of one group.
struct DirectPlan {
  index_t images, groups, channels, outputs;
  index_t height, width, target_height, target_width;
  index_t column_step, target_row_step;  // of a phase of the result
  index_t group_weights;                 // packed, of one group
  std::vector<DirectPart> parts;

  // `rows`, `pitch` and `lanes` of the micro-kernel, `bytes` of an element.
  DirectPlan(const ConvShape& shape, ConvDirection direction, index_t rows, index_t pitch,
             index_t lanes, index_t bytes);
};

}  // namespace cnncore
