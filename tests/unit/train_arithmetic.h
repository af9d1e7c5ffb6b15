// Reference reductions of several buffers, computed element by element, for worlds without a network.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include <pccl/pccl.h>

namespace pccl::train {

using Bytes = std::vector<std::byte>;

/// Bytes of an element, for the types that trainers reduce and share.
inline std::size_t size_of(pcclDataType_t type) {
    return type == pcclUint8 ? 1 : type == pcclUint64 || type == pcclDouble ? sizeof(std::uint64_t) : sizeof(float);
}

template <class T> Bytes reduced_as(const std::vector<const void *> &sends, const pcclReduceDescriptor_t &what) {
    std::vector<T> result(what.count);
    for (std::size_t i = 0; i < what.count; ++i) {
        T value = static_cast<const T *>(sends.front())[i];
        for (std::size_t k = 1; k < sends.size(); ++k) {
            const T other = static_cast<const T *>(sends[k])[i];
            if (what.op == pcclMin)
                value = std::min(value, other);
            else if (what.op == pcclMax)
                value = std::max(value, other);
            else
                value = static_cast<T>(value + other);
        }
        result[i] = what.op == pcclAvg ? static_cast<T>(value / static_cast<T>(sends.size())) : value;
    }
    Bytes out(what.count * sizeof(T));
    std::memcpy(out.data(), result.data(), out.size());
    return out;
}

/// The result that every member receives, reduced in the order of `sends`. The type is pcclFloat, pcclDouble or pcclUint64.
inline Bytes reduced(const std::vector<const void *> &sends, const pcclReduceDescriptor_t &what) {
    switch (what.src_descriptor.datatype) {
    case pcclFloat: return reduced_as<float>(sends, what);
    case pcclDouble: return reduced_as<double>(sends, what);
    default: return reduced_as<std::uint64_t>(sends, what);
    }
}

}  // namespace pccl::train
