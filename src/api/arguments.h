// What the functions of the C interface share in looking at their arguments.
#pragma once

#include <cstring>
#include <string>
#include <utility>

#include "base/result.h"

namespace pccl::api {

inline Error invalid(std::string what) { return {pcclInvalidArgument, std::move(what)}; }

/// An enum from a C caller may hold any number; in C++ one beyond its enumerators must not be read as the enum.
template <class E> int number(const E &value) {
    static_assert(sizeof(E) == sizeof(int));
    int raw = 0;
    std::memcpy(&raw, &value, sizeof raw);
    return raw;
}
template <class E> bool within(const E &value, int count) { return number(value) >= 0 && number(value) < count; }

/// Structures that grow begin with their size. Sizes below the first release's, or beyond any release's, were never set.
inline bool size_is_set(std::size_t struct_size, std::size_t least) { return struct_size >= least && struct_size <= 4096; }

}  // namespace pccl::api
