// Element types of the C API as C++ types, for programs that use the library from outside: they fill buffers and compare
// results with plain double arithmetic. This code is independent of the library's kernels, so that it can check them.
#pragma once

#include <pccl.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace pccl::tools {

/// IEEE binary16 and bfloat16: storage only, converted by value, rounding to nearest even.
struct Half {
    std::uint16_t bits;
};
struct BFloat {
    std::uint16_t bits;
};

double to_double(Half value);
double to_double(BFloat value);
template <typename T> double to_double(T value) { return static_cast<double>(value); }

/// The nearest value of T. The caller keeps integers in range.
template <typename T> T from_double(double value) { return static_cast<T>(value); }
template <> Half from_double<Half>(double value);
template <> BFloat from_double<BFloat>(double value);

/// Unit roundoff of T; 0 for integers, which are exact.
template <typename T> constexpr double roundoff() {
    if constexpr (std::numeric_limits<T>::is_integer) return 0;
    return static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
}
template <> constexpr double roundoff<Half>() { return 1.0 / 2048; }
template <> constexpr double roundoff<BFloat>() { return 1.0 / 256; }

/// Calls `function` with a value of the C++ type of `type`.
template <typename Function> decltype(auto) visit_type(pcclDataType_t type, Function &&function) {
    switch (type) {
    case pcclUint8: return function(std::uint8_t{});
    case pcclInt8: return function(std::int8_t{});
    case pcclInt16: return function(std::int16_t{});
    case pcclUint16: return function(std::uint16_t{});
    case pcclUint32: return function(std::uint32_t{});
    case pcclInt32: return function(std::int32_t{});
    case pcclUint64: return function(std::uint64_t{});
    case pcclInt64: return function(std::int64_t{});
    case pcclFloat16: return function(Half{});
    case pcclBFloat16: return function(BFloat{});
    case pcclFloat: return function(float{});
    case pcclDouble:
    case pcclInt4:
    case pcclUint4:
    case pcclUint2: break;  // not operand types
    }
    return function(double{});
}

inline constexpr std::array kAllTypes = {pcclUint8,  pcclInt8,  pcclInt16,   pcclUint16,   pcclUint32, pcclInt32,
                                         pcclUint64, pcclInt64, pcclFloat16, pcclBFloat16, pcclFloat,  pcclDouble};
inline constexpr std::array kAllOps = {pcclSum, pcclAvg, pcclProd, pcclMax, pcclMin};

constexpr bool is_float(pcclDataType_t type) {
    return type == pcclFloat16 || type == pcclBFloat16 || type == pcclFloat || type == pcclDouble;
}
std::size_t size_of(pcclDataType_t type);
int code_bits(pcclDataType_t type);  ///< of a quantized type

const char *name_of(pcclDataType_t type);  ///< "float", "bfloat16", "int8" ...
const char *name_of(pcclRedOp_t op);       ///< "sum" ...
std::optional<pcclDataType_t> type_named(std::string_view name);
std::optional<pcclRedOp_t> op_named(std::string_view name);

const char *name_of(pcclReduceAlgorithm_t algorithm);  ///< "auto", "ring", "direct", "one-hop"
std::optional<pcclReduceAlgorithm_t> algorithm_named(std::string_view name);

std::optional<pcclLossPolicy_t> loss_policy_named(std::string_view name);  ///< "retry", "repair"

/// A quantization. A reduce has one part of it in its descriptor and the other part in its options.
struct Packing {
    pcclQuantizationOptions_t quantization{};
    std::uint32_t block = 0;
    pcclQuantizationScale_t scale = pcclScaleFloat;

    bool none() const { return quantization.algorithm == pcclQuantNone; }
};

/// "none", "minmax:u8", "zps:i16", "zps:u2", "blockscale:i4", "blockscale:i8:128", "blockscale:i8:64:pow2" ...
std::string name_of(const Packing &packing);
std::optional<Packing> packing_named(std::string_view name);

/// Reads element i of a buffer of any alignment.
template <typename T> T load(const void *buffer, std::size_t i) {
    T value;
    std::memcpy(&value, static_cast<const unsigned char *>(buffer) + i * sizeof(T), sizeof(T));
    return value;
}
template <typename T> void store(void *buffer, std::size_t i, T value) {
    std::memcpy(static_cast<unsigned char *>(buffer) + i * sizeof(T), &value, sizeof(T));
}

}  // namespace pccl::tools
