// Errors that name the argument, what was expected, what came and what to try; overflow checks.
#pragma once

#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>

#include "cnncore/macros.h"

namespace cnncore {

// A refused argument. The bindings hand the four parts to Python, where they become an
// ArgumentError.
class ArgumentError : public std::invalid_argument {
 public:
  ArgumentError(std::string argument_, std::string expected_, std::string got_, std::string hint_)
      : std::invalid_argument(argument_ + ": expected " + expected_ + ", got " + got_ +
                              (hint_.empty() ? "" : "; try: " + hint_)),
        argument(std::move(argument_)),
        expected(std::move(expected_)),
        got(std::move(got_)),
        hint(std::move(hint_)) {}

  std::string argument, expected, got, hint;
};

template <class Got>
inline std::string describe(const Got& got) {
  std::ostringstream text;
  text << got;
  return text.str();
}

template <class Got>
[[noreturn]] inline void refuse(const char* argument, const std::string& expected, const Got& got,
                                const std::string& hint = "") {
  throw ArgumentError(argument, expected, describe(got), hint);
}

// CNNCORE_REQUIRE(stride >= 1, "stride", "integers >= 1", stride, "use stride=1");
// A macro, so that the words are only put together when the condition fails.
#define CNNCORE_REQUIRE(condition, ...)               \
  do {                                                \
    if (!(condition)) ::cnncore::refuse(__VA_ARGS__); \
  } while (false)

// Products of sizes in 64 bits; a size that cannot be addressed is refused, never wrapped.
inline index_t checked_product(index_t a, index_t b) {
  index_t result;
  if (a < 0 || b < 0 || __builtin_mul_overflow(a, b, &result) ||
      result > (std::numeric_limits<index_t>::max() >> 4))
    throw ArgumentError("shape", "sizes whose product fits in memory",
                        describe(a) + " x " + describe(b), "use smaller sizes");
  return result;
}

template <class... Rest>
inline index_t checked_product(index_t a, index_t b, Rest... rest) {
  return checked_product(checked_product(a, b), rest...);
}

}  // namespace cnncore
