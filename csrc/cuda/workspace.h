// Room that a kernel needs beside its arguments. Python allocates it, so a function that needs some
// is run twice: first measuring, when take() only counts and nothing is launched, then for good.
#pragma once

#include "cnncore/check.h"
#include "cnncore/geometry.h"

namespace cnncore::cuda {

class Workspace {
 public:
  Workspace() = default;  // measuring
  Workspace(std::uintptr_t base, index_t capacity)
      : base_(round_up(static_cast<index_t>(base), kAlignment)),
        end_(static_cast<index_t>(base) + capacity),
        measuring_(false) {}

  bool measuring() const { return measuring_; }
  // What to allocate, wherever it begins.
  index_t bytes() const { return used_ > 0 ? used_ + kAlignment : 0; }

  // Aligned; its contents are whatever was there.
  template <class T>
  T* take(index_t count) {
    if (count == 0) return nullptr;
    const index_t begin = used_;
    used_ += round_up(checked_product(count, static_cast<index_t>(sizeof(T))), kAlignment);
    if (measuring_) return nullptr;
    CNNCORE_REQUIRE(base_ + used_ <= end_, "workspace", describe(used_) + " bytes", end_ - base_);
    return reinterpret_cast<T*>(static_cast<std::uintptr_t>(base_ + begin));
  }

 private:
  static constexpr index_t kAlignment = 256;
  index_t base_ = 0, end_ = 0, used_ = 0;
  bool measuring_ = true;
};

}  // namespace cnncore::cuda
