// Checks of arguments that the functions of the C interface share.
#pragma once

#include <string>
#include <utility>

#include "base/arguments.h"
#include "base/result.h"

namespace pccl::api {

inline Error invalid(std::string what) { return {pcclInvalidArgument, std::move(what)}; }

template <class E> int number(const E &value) { return raw_number(value); }
template <class E> bool within(const E &value, int count) { return is_within(value, count); }

}  // namespace pccl::api
