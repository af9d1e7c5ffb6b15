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

}  // namespace pccl::api
