// Checks of arguments that a C caller gave. No state, any thread.
#pragma once

#include <cstring>

namespace pccl {

/// The number that an enum holds. A C caller can store any number in an enum; C++ must not read one beyond the enumerators as the
/// enum.
template <class Enum> int raw_number(const Enum &value) {
    static_assert(sizeof(Enum) == sizeof(int));
    int raw = 0;
    std::memcpy(&raw, &value, sizeof raw);
    return raw;
}

/// True if the enum's number is in [0, count).
template <class Enum> bool is_within(const Enum &value, int count) { return raw_number(value) >= 0 && raw_number(value) < count; }

}  // namespace pccl
