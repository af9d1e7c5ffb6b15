// Checks of arguments that the functions of the C interface share.
#pragma once

#include <cstring>
#include <string>
#include <utility>

#include "base/result.h"

namespace pccl::api {

inline Error invalid(std::string what) { return {pcclInvalidArgument, std::move(what)}; }

/// Returns the number in an enum from a C caller. It may be any number; reading one beyond the enumerators as an enum is
/// undefined in C++.
template <class E> int number(const E &value) {
    static_assert(sizeof(E) == sizeof(int));
    int raw = 0;
    std::memcpy(&raw, &value, sizeof raw);
    return raw;
}
template <class E> bool within(const E &value, int count) { return number(value) >= 0 && number(value) < count; }

}  // namespace pccl::api
