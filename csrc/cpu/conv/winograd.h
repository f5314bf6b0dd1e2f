// Winograd convolution with fewer products: 3 x 3 filters with stride 1, dilated too; 3 x 3 and
// 4 x 4 with stride 2.
//
// A tile of m x m results of a convolution with 3 x 3 taps depends on n x n pixels, n = m + 2.
// Toom and Cook multiply polynomials by their values at n points; transposed, that is
//
//   y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        g 3 x 3 taps, d n x n pixels, y m x m results
//
// with n n products for m m results: 36 instead of 144 for m = 4, 16 instead of 36 for m = 2. The
// sum over channels is taken between the transforms, so the products of one point e of the n n
// are a matrix product
//
//   M[e] (tiles x outputs) = V[e] (tiles x channels) · U[e] (channels x outputs)
//
// on the micro-kernel of tile.h. The transforms cost additions: per tile and channel for V, per
// tile and output for M, per filter for U; they pay as soon as there are some 30 of each.
//
// Layout. Lanes are channels: V[e][channels / width][tile][width], where the micro-kernel finds its
// broadcasts in place; U[outputs / 2 width][e][channel][2 width], its panels; M[e][tile][2 width].
// Rows e lie an odd number of cache lines apart. Two ways to go about it:
//
//   many tiles  U once for all; a task transforms a block of tiles into V of its own (second-level
//               cache), then for each panel of outputs: the products, and their inverse at once.
//   few tiles   U would be larger than everything else: V of all tiles first, shared; a task is
//               a panel of outputs, which transforms its filters some channels at a time.
//
// The gradient towards the input is the same computation with the filters turned and exchanged.
// The gradient towards the weights is its transpose in g: Gᵀ [ (A gy Aᵀ) ⊙ (Bᵀ d B) ] G, summed
// over tiles (winograd_weight.cpp).
//
// Stride 2. A filter of 4 x 4 taps is four of 2 x 2, its phases: those at even or odd rows and
// columns. Each meets the pixels of one parity only, where it is a convolution with stride 1, and
// the results are the sum of the four. So V and U have four phases side by side along the depth
//
//   M[e] = sum over phases and channels of V[e] (tiles x (phases, channels)) · U[e]
//
// and one inverse transform takes the sum back: F(m x m, 2 x 2) with n = m + 1 points an axis makes
// 4 n n products for 16 m m. In the transpose each phase makes the results of one parity, and all
// read the same pixels: one V, and an M for each phase. In the gradient towards the weights one
// phase of V and one Y make one phase of P.
//
// A filter of 3 x 3 taps has phases of 2 x 2, 2 x 1, 1 x 2 and one tap. Where there is one tap
// along an axis, the other is zero, and with it the product at infinity: F(m, 1) at the other
// points. (2 n - 1)² products remain for 9 m m, 81 for 144 with m = 4 and 49 for 81 with m = 3. The
// phases are in such an order that those with a product at e are neighbours: a range of the depth.
//
// Dilation. Pixels and results fall into d x d lattices that have nothing to do with each other,
// and in each the filter is one without dilation. All lattices of a tile of d m x d m results are
// read and written together, so that what moves is whole rows; their transforms are d x d more
// tiles.
//
// m = 3 has the points 0, ±1, ∞, m = 4 has ±a, ±b, ∞ (winograd_axis.h); both are about as
// exact as a plain sum. Which is cheaper is a matter of how well the tiles fit.
//
// What it costs: rounding errors grow with m (docs/accuracy.md), and a NaN or infinity in x spreads
// over the results of its whole tile.
//
// Sources: Winograd, "Arithmetic complexity of computations", 1980; Lavin & Gray, "Fast algorithms
// for convolutional neural networks", 2016.
#pragma once

#include "cpu/conv/kept.h"
#include "cpu/conv/shape.h"
#include "cpu/conv/winograd_tiles.h"
#include "cpu/tile.h"

namespace cnncore {

// A correlation as both directions are: result (y, x) reads the pixels from (y - top, x - left),
// with stride 2 those from (2 y - top, 2 x - left), and with its transpose the results (2 t, 2 t')
// to (2 t + 1, 2 t' + 1) those from (t - top, t' - left). Channels and outputs are those of one
// group. A tile of dilation d has d x d lattices: d m x d m results.
struct WinogradProblem {
  index_t images, groups, channels, outputs;
  index_t in_h, in_w, out_h, out_w, top, left;
  index_t m;                              // results of a tile (and a phase) along an axis
  index_t in_stride = 1, out_stride = 1;  // one of them may be 2
  index_t crop_top = 0, crop_left = 0;    // results of the first tiles that lie outside
  index_t dilation = 1;                   // with stride 1

  index_t read_step() const { return in_stride * dilation * m; }
  index_t write_step() const { return out_stride * dilation * m; }
  index_t lattices() const { return dilation * dilation; }
  // Phases of the pixels and of the results.
  index_t sources() const { return in_stride * in_stride; }
  index_t targets() const { return out_stride * out_stride; }
  TileGrid grid() const {
    const index_t step = write_step(), most = kRunPixels / max_of(step, read_step());
    return {images, ceil_div(out_h + crop_top, step), ceil_div(out_w + crop_left, step),
            min_of(kRunTiles, most)};
  }
};

constexpr index_t kMaxDilation = 4;  // there are few tiles in each of more lattices

// Kernels 3 x 3 with stride 1; 3 x 3 and 4 x 4 with stride 2.
bool winograd_serves(const ConvShape& shape, ConvDirection direction);
bool winograd_phases_serve(const ConvShape& shape, ConvDirection direction);
// m is 4 or 2, with stride 2 it is 4 or 3.
WinogradProblem winograd_problem(const ConvShape& shape, ConvDirection direction, index_t m);
template <class T>
const WinogradForm<T>& winograd_form(const ConvShape& shape, index_t m);
// m of an algorithm by its name.
index_t winograd_tile(const char* algorithm);

// How the pixels of a problem are read.
template <class T>
TileReader<T> winograd_reader(const WinogradForm<T>& form, const WinogradProblem& problem,
                              const ConvImages<const T>& images);
// Elements of working space that reading and writing a run of tiles want.
template <class T>
index_t winograd_space(const WinogradForm<T>& form, const WinogradProblem& problem);

// A convolution with its weights. For a network whose arrays stay in blocks of channels: build it
// once, then run() with images of lanes > 1 (their padding channels may hold anything when read and
// are written as f(residual); groups > 1 then ask for channels and outputs of a group that are
// multiples of `lanes`). Images of either layout may be mixed: planes in, blocks out.
template <class T>
class Winograd {
 public:
  // borrow: `weight` is not copied and must stay as it is; for a single run.
  enum class Weights { keep, borrow };

  // direction: output or input; weight (O, C/G, KH, KW), bias of all results
  // or null.
  Winograd(const ConvShape& shape, ConvDirection direction, index_t m, const T* weight,
           const T* bias, Weights weights);

  // finish.residual is laid out like `to`.
  void run(const ConvImages<const T>& from, const Finish<T>& finish, const ConvImages<T>& to) const;

  // The images of the call in planes.
  ConvImages<const T> source(const T* from) const;
  ConvImages<T> target(T* to) const;

  std::size_t bytes() const { return static_cast<std::size_t>(kept_size_) * sizeof(T); }

 private:
  void run_blocks(const TileReader<T>& reader, const TileWriter<T>& writer) const;
  void run_shared(const TileReader<T>& reader, const TileWriter<T>& writer) const;
  void multiply(const T* v, index_t v_stride, index_t v_pitch, index_t tiles, index_t channels,
                const T* u, index_t u_stride, index_t lanes, bool accumulate, T* products,
                index_t products_stride) const;
  void write_panel(const TileWriter<T>& writer, index_t group, index_t panel, index_t first_tile,
                   index_t last_tile, const T* products, index_t stride, T* space) const;
  void transform_panel(index_t group, index_t panel, index_t first, index_t count, T* u,
                       index_t stride) const;
  WinogradFilters<T> filters(index_t group) const;

  index_t panels() const { return tiles_.panels(p_.outputs); }
  index_t lanes_of(index_t panel) const { return tiles_.lanes(panel, p_.outputs); }
  index_t vectors() const { return ceil_div(p_.outputs, kernels_.width); }
  // U of a panel: rows() of u_stride(), in each the channels of one phase after the other.
  index_t rows() const { return p_.targets() * points(); }
  index_t u_stride() const {
    return odd_lines<T>(p_.sources() * p_.channels * tiles_.panel_columns());
  }
  index_t points() const { return form_.points * form_.points; }
  index_t taps() const { return form_.taps * form_.taps; }
  index_t channel_vectors() const { return ceil_div(p_.channels, kernels_.width); }

  const WinogradKernels<T>& kernels_;
  const TileKernels<T>& tiles_;
  const WinogradForm<T>& form_;
  WinogradProblem p_;
  ConvDirection direction_;
  TileGrid grid_;
  bool few_;           // tiles
  const T* borrowed_;  // the caller's weights, or null
  index_t weight_size_, kept_size_;
  Scratch<T> kept_;  // many tiles: U; few tiles: taps as vectors
  Kept<T> bias_;     // of all groups, padded with zeros to whole vectors
};

// gweight (O, C/G, KH, KW) of x (N, C, H, W) and gy (N, O, OH, OW).
template <class T>
void winograd_weight(const ConvShape& shape, index_t m, const T* x, const T* gy, T* gweight);

}  // namespace cnncore
