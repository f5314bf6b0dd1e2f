// Where each kernel is defined. Write CNNCORE_KERNEL(name) on the line above the definition;
// cnncore.where() prints it.
#pragma once

namespace cnncore {

struct KernelSource {
  KernelSource(const char* name, const char* file, int line);
  const char* name;
  const char* file;
  int line;
  const KernelSource* next;
};

const KernelSource* kernel_sources();  // a linked list

#define CNNCORE_KERNEL(name) \
  static const ::cnncore::KernelSource cnncore_source_##name{#name, __FILE__, __LINE__ + 1}

}  // namespace cnncore
