// A thread applies both matrices at one place of a few channels: the table entries are then read
// once for all of them. The transpose gathers: the matrices are first turned around, so that a
// pixel finds its outputs, and regions are added in their order, without atomics.
#include "cuda/launch.h"
#include "cuda/resample.h"
#include "cuda/split.h"

namespace cnncore::cuda {
namespace {

constexpr int kChannels = 4;  // of one thread

template <class T>
struct Resample {
  const T* x;
  const std::int64_t* image;
  DeviceTaps<T> rows, cols;
  bool position_sensitive;
  index_t in_channels, channels;
  Split ph, pw, groups;  // groups of kChannels
  T* y;

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    I region = i;
    const I q = pw.take(region), p = ph.take(region), group = groups.take(region);
    const index_t first = static_cast<index_t>(group) * kChannels, plane = rows.size * cols.size;
    const int count = static_cast<int>(min_of(kChannels, channels - first));
    const index_t bins = rows.length * cols.length;
    const index_t source = position_sensitive ? first * bins + p * cols.length + q : first;
    const index_t step = position_sensitive ? bins * plane : plane;
    const index_t n = image != nullptr ? image[region] : region;
    const T* const from = x + (n * in_channels + source) * plane;

    const index_t row = rows.row(region, p), col = cols.row(region, q);
    T sum[kChannels] = {};
    for (std::int32_t s = 0; s < rows.count[row]; ++s) {
      const T* const line = from + rows.index[row * rows.taps + s] * cols.size;
      T part[kChannels] = {};
      for (std::int32_t t = 0; t < cols.count[col]; ++t) {
        const T weight = cols.weight[col * cols.taps + t];
        const T* const pixel = line + cols.index[col * cols.taps + t];
        for (int k = 0; k < kChannels; ++k)
          if (k < count) part[k] += weight * pixel[k * step];
      }
      const T weight = rows.weight[row * rows.taps + s];
      for (int k = 0; k < kChannels; ++k) sum[k] += weight * part[k];
    }
    T* const to = y + ((region * channels + first) * rows.length + p) * cols.length + q;
    for (int k = 0; k < kChannels; ++k)
      if (k < count) to[k * bins] = sum[k];
  }
};

// --- the matrices turned around ------------------------------------------------------------------

// Of group g, pixel a: outputs position[e], with weight[e], for begin[a] <= e < begin[a + 1], in
// ascending order.
template <class T>
struct Reverse {
  index_t size, entries;  // entries of a group: room for all taps
  std::int32_t* begin;    // (G, size + 1)
  std::int32_t* position;
  T* weight;

  CNNCORE_HD const std::int32_t* begin_of(index_t g) const { return begin + g * (size + 1); }
};

// Element (g, a): finds its entries among all taps of the group, and how many come before.
template <class T>
struct TurnAround {
  DeviceTaps<T> taps;
  Reverse<T> reverse;

  CNNCORE_HD void operator()(index_t i) const {
    const index_t places = taps.size + 1, g = i / places;
    const auto a = static_cast<std::int32_t>(i % places);
    std::int32_t before = 0;
    each_tap(g, [&](index_t, index_t e) { before += taps.index[e] < a; });
    reverse.begin[i] = before;
    std::int32_t* const position = reverse.position + g * reverse.entries;
    T* const weight = reverse.weight + g * reverse.entries;
    each_tap(g, [&](index_t p, index_t e) {
      if (taps.index[e] != a) return;
      position[before] = static_cast<std::int32_t>(p);
      weight[before++] = taps.weight[e];
    });
  }

  template <class Function>
  CNNCORE_HD void each_tap(index_t g, const Function& f) const {
    for (index_t p = 0; p < taps.length; ++p)
      for (std::int32_t t = 0; t < taps.count[g * taps.length + p]; ++t)
        f(p, (g * taps.length + p) * taps.taps + t);
  }
};

// Where a region's pixels lie: rows h0..h1 and columns w0..w1 of an image, none where h0 > h1.
struct Extent {
  std::int32_t image, h0, h1, w0, w1;

  CNNCORE_HD bool holds(index_t n, index_t h, index_t w) const {
    return n == image && h >= h0 && h <= h1 && w >= w0 && w <= w1;
  }
};

template <class T>
struct FindExtent {
  const std::int64_t* image;
  DeviceTaps<T> rows, cols;
  Extent* extents;

  CNNCORE_HD void operator()(index_t r) const {
    Extent extent;
    extent.image = static_cast<std::int32_t>(image != nullptr ? image[r] : r);
    range(rows, r, extent.h0, extent.h1);
    range(cols, r, extent.w0, extent.w1);
    extents[r] = extent;
  }

  CNNCORE_HD static void range(const DeviceTaps<T>& taps, index_t r, std::int32_t& first,
                               std::int32_t& last) {
    first = 0x7FFFFFFF;
    last = -1;
    for (index_t p = 0; p < taps.length; ++p) {
      const index_t row = taps.row(r, p);
      for (std::int32_t t = 0; t < taps.count[row]; ++t) {
        const std::int32_t at = taps.index[row * taps.taps + t];
        first = at < first ? at : first;
        last = at > last ? at : last;
      }
    }
  }
};

// --- the transpose -------------------------------------------------------------------------------

template <class T>
struct Adjoint {
  const T* gy;
  Reverse<T> rows, cols;
  const Extent* extents;
  bool own_image, many_rows, many_cols;  // region r is image r; each region has its own matrix
  index_t regions;
  Split channels, groups, height, width;
  index_t ph, pw;
  T* gx;

  // f(weight, position in a plane of gy) for every output of region r that pixel (h, w) reaches.
  template <class Function>
  CNNCORE_HD void each_output(index_t r, index_t h, index_t w, const Function& f) const {
    const index_t gr = many_rows ? r : 0, gc = many_cols ? r : 0;
    const std::int32_t* const row = rows.begin_of(gr) + h;
    const std::int32_t* const col = cols.begin_of(gc) + w;
    for (std::int32_t s = row[0]; s < row[1]; ++s)
      for (std::int32_t t = col[0]; t < col[1]; ++t)
        f(rows.weight[gr * rows.entries + s] * cols.weight[gc * cols.entries + t],
          rows.position[gr * rows.entries + s] * pw + cols.position[gc * cols.entries + t]);
  }

  // f(r) for the regions that reach the pixel.
  template <class Function>
  CNNCORE_HD void each_region(index_t n, index_t h, index_t w, const Function& f) const {
    if (own_image) return f(n);
    for (index_t r = 0; r < regions; ++r)
      if (extents[r].holds(n, h, w)) f(r);
  }

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    I n = i;
    const I w = width.take(n), h = height.take(n), group = groups.take(n);
    const index_t first = static_cast<index_t>(group) * kChannels, bins = ph * pw;
    const int count = static_cast<int>(min_of(kChannels, channels.size - first));
    T sum[kChannels] = {};
    each_region(n, h, w, [&](index_t r) {
      const T* const from = gy + (r * channels.size + first) * bins;
      each_output(r, h, w, [&](T weight, index_t at) {
        for (int k = 0; k < kChannels; ++k)
          if (k < count) sum[k] += weight * from[k * bins + at];
      });
    });
    T* const to = gx + ((n * channels.size + first) * height.size + h) * width.size + w;
    for (int k = 0; k < kChannels; ++k)
      if (k < count) to[k * height.size * width.size] = sum[k];
  }
};

// Input channel (c · PH + p) · PW + q belongs to one output (c, p, q) alone.
template <class T>
struct PositionSensitiveAdjoint {
  Adjoint<T> whole;  // its channels are those of gx

  template <class I>
  CNNCORE_HD void operator()(I i) const {
    I n = i;
    const I w = whole.width.take(n), h = whole.height.take(n), channel = whole.channels.take(n);
    const index_t bin = channel % (whole.ph * whole.pw);
    T sum{};
    whole.each_region(n, h, w, [&](index_t r) {
      const T g = whole.gy[r * whole.channels.size + channel];
      whole.each_output(r, h, w, [&](T weight, index_t at) {
        if (at == bin) sum += weight * g;
      });
    });
    whole.gx[i] = sum;
  }
};

template <class T>
Reverse<T> reversed(const Queue& queue, const DeviceTaps<T>& taps, Workspace& workspace) {
  const index_t entries = taps.length * taps.taps;
  CNNCORE_REQUIRE(entries < (index_t{1} << 31) && taps.size < (index_t{1} << 31), "taps",
                  "fewer than 2**31 entries a group", entries);
  Reverse<T> reverse{taps.size, entries,
                     workspace.take<std::int32_t>(taps.groups * (taps.size + 1)),
                     workspace.take<std::int32_t>(taps.groups * entries),
                     workspace.take<T>(taps.groups * entries)};
  if (!workspace.measuring())
    for_each_element(queue, "resample_adjoint", taps.groups * (taps.size + 1),
                     TurnAround<T>{taps, reverse});
  return reverse;
}

}  // namespace

template <class T>
void resample(const Queue& queue, ArrayView<const T> x, ArrayView<const std::int64_t> image,
              const DeviceTaps<T>& rows, const DeviceTaps<T>& cols, bool position_sensitive,
              ArrayView<T> y) {
  const index_t groups = ceil_div(y[1], kChannels);
  for_each_index(queue, "resample", y[0] * groups * y[2] * y[3], y.size(),
                 Resample<T>{x.data, image.data, rows, cols, position_sensitive, x[1], y[1], y[2],
                             y[3], groups, y.data});
}

template <class T>
void resample_adjoint(const Queue& queue, ArrayView<const T> gy,
                      ArrayView<const std::int64_t> image, const DeviceTaps<T>& rows,
                      const DeviceTaps<T>& cols, bool position_sensitive, ArrayView<T> gx,
                      Workspace& workspace) {
  const index_t regions = gy[0];
  Adjoint<T> kernel{gy.data,
                    reversed(queue, rows, workspace),
                    reversed(queue, cols, workspace),
                    nullptr,
                    image.data == nullptr,
                    rows.groups > 1,
                    cols.groups > 1,
                    regions,
                    gx[1],
                    ceil_div(gx[1], kChannels),
                    gx[2],
                    gx[3],
                    gy[2],
                    gy[3],
                    gx.data};
  if (!kernel.own_image) {
    Extent* const extents = workspace.take<Extent>(regions);
    kernel.extents = extents;
    if (!workspace.measuring())
      for_each_element(queue, "resample_adjoint", regions,
                       FindExtent<T>{image.data, rows, cols, extents});
  }
  if (workspace.measuring()) return;
  if (position_sensitive)
    for_each_index(queue, "resample_adjoint", gx.size(), gx.size(),
                   PositionSensitiveAdjoint<T>{kernel});
  else
    for_each_index(queue, "resample_adjoint", gx[0] * kernel.groups.size * gx[2] * gx[3], gx.size(),
                   kernel);
}

#define CNNCORE_INSTANTIATE(T)                                                                    \
  template void resample(const Queue&, ArrayView<const T>, ArrayView<const std::int64_t>,         \
                         const DeviceTaps<T>&, const DeviceTaps<T>&, bool, ArrayView<T>);         \
  template void resample_adjoint(const Queue&, ArrayView<const T>, ArrayView<const std::int64_t>, \
                                 const DeviceTaps<T>&, const DeviceTaps<T>&, bool, ArrayView<T>,  \
                                 Workspace&);
CNNCORE_INSTANTIATE(float)
CNNCORE_INSTANTIATE(double)
#undef CNNCORE_INSTANTIATE

}  // namespace cnncore::cuda
