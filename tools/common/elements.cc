// Conversions and names of element types.
#include "common/elements.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <iterator>
#include <vector>

namespace pccl::tools {

namespace {

struct TypeName {
    pcclDataType_t type;
    const char *name;
    const char *alias;
};
constexpr TypeName kTypeNames[] = {
    {pcclUint8, "uint8", "u8"},         {pcclInt8, "int8", "i8"},        {pcclInt16, "int16", "i16"},
    {pcclUint16, "uint16", "u16"},      {pcclUint32, "uint32", "u32"},   {pcclInt32, "int32", "i32"},
    {pcclUint64, "uint64", "u64"},      {pcclInt64, "int64", "i64"},     {pcclFloat16, "half", "float16"},
    {pcclBFloat16, "bfloat16", "bf16"}, {pcclFloat, "float", "float32"}, {pcclDouble, "double", "float64"},
};
/// The name of each quantized type in a Packing, and the algorithms that pack to it. Not op::kTypeTable: programs outside the
/// library must not depend on its internal headers.
struct CodeName {
    pcclDataType_t type;
    const char *name;
    const char *alias;
    int bits;
    bool in_ranges, in_blocks;
};
constexpr CodeName kCodeNames[] = {
    {pcclUint8, "u8", "uint8", 8, true, false},     {pcclInt8, "i8", "int8", 8, true, true},
    {pcclUint16, "u16", "uint16", 16, true, false}, {pcclInt16, "i16", "int16", 16, true, false},
    {pcclInt4, "i4", "int4", 4, false, true},       {pcclUint4, "u4", "uint4", 4, true, true},
    {pcclUint2, "u2", "uint2", 2, true, true},
};
constexpr const char *kOpNames[] = {"sum", "avg", "prod", "max", "min"};
constexpr std::array<std::string_view, 4> kAlgorithmNames = {"auto", "ring", "direct", "one-hop"};

/// Rounds a finite non-negative value to a multiple of 2^exponent, ties to even.
double round_to_multiple(double value, int exponent) {
    return std::ldexp(std::nearbyint(std::ldexp(value, -exponent)), exponent);
}

}  // namespace

double to_double(Half value) {
    const int exponent = (value.bits >> 10) & 31;
    const int fraction = value.bits & 1023;
    double magnitude = 0;
    if (exponent == 31) {
        magnitude = fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
    } else if (exponent == 0) {
        magnitude = std::ldexp(fraction, -24);
    } else {
        magnitude = std::ldexp(1024 + fraction, exponent - 25);
    }
    return (value.bits & 0x8000) != 0 ? -magnitude : magnitude;
}

double to_double(BFloat value) { return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16)); }

template <> Half from_double<Half>(double value) {
    const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    double magnitude = std::fabs(value);
    if (std::isnan(value)) return Half{static_cast<std::uint16_t>(sign | 0x7e00)};
    if (magnitude >= 65520) return Half{static_cast<std::uint16_t>(sign | 0x7c00)};
    if (magnitude < 0x1p-14) {
        return Half{static_cast<std::uint16_t>(sign | static_cast<int>(std::ldexp(round_to_multiple(magnitude, -24), 24)))};
    }
    const int exponent = std::ilogb(magnitude);
    const int fraction = static_cast<int>(std::ldexp(round_to_multiple(magnitude, exponent - 10), 10 - exponent)) - 1024;
    // A fraction that is rounded up to 1024 correctly carries into the exponent.
    return Half{static_cast<std::uint16_t>(sign | (((exponent + 15) << 10) + fraction))};
}

template <> BFloat from_double<BFloat>(double value) {
    if (std::isnan(value)) return BFloat{0x7fc0};
    // Rounds once, from double. With float in between, values near a tie would be rounded twice.
    double rounded = value;
    if (std::isfinite(value) && value != 0) {
        const int exponent = std::max(std::ilogb(std::fabs(value)), -126);
        rounded = std::copysign(round_to_multiple(std::fabs(value), exponent - 7), value);
    }
    if (std::fabs(rounded) >= 0x1p128) rounded = std::copysign(std::numeric_limits<double>::infinity(), value);
    return BFloat{static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(rounded)) >> 16)};
}

std::size_t size_of(pcclDataType_t type) {
    return visit_type(type, [](auto value) { return sizeof(value); });
}

int code_bits(pcclDataType_t type) {
    for (const CodeName &entry : kCodeNames) {
        if (entry.type == type) return entry.bits;
    }
    return 0;
}

const char *name_of(pcclDataType_t type) {
    for (const TypeName &entry : kTypeNames) {
        if (entry.type == type) return entry.name;
    }
    return "?";
}

const char *name_of(pcclRedOp_t op) { return op >= pcclSum && op <= pcclMin ? kOpNames[op] : "?"; }

std::optional<pcclDataType_t> type_named(std::string_view name) {
    for (const TypeName &entry : kTypeNames) {
        if (entry.name == name || entry.alias == name) return entry.type;
    }
    return std::nullopt;
}

std::optional<pcclRedOp_t> op_named(std::string_view name) {
    for (pcclRedOp_t op : kAllOps) {
        if (kOpNames[op] == name) return op;
    }
    return std::nullopt;
}

const char *name_of(pcclReduceAlgorithm_t algorithm) {
    return algorithm >= pcclAlgorithmAuto && algorithm <= pcclAlgorithmOneHop ? kAlgorithmNames[algorithm].data() : "?";
}

std::optional<pcclReduceAlgorithm_t> algorithm_named(std::string_view name) {
    for (std::size_t i = 0; i < kAlgorithmNames.size(); ++i) {
        if (kAlgorithmNames[i] == name) return static_cast<pcclReduceAlgorithm_t>(i);
    }
    return std::nullopt;
}

std::optional<pcclLossPolicy_t> loss_policy_named(std::string_view name) {
    if (name == "retry") return pcclLossPolicyRetry;
    if (name == "repair") return pcclLossPolicyRepair;
    return std::nullopt;
}

std::string name_of(const Packing &packing) {
    const pcclQuantizationOptions_t how = packing.quantization;
    if (packing.none()) return "none";
    std::string name(how.algorithm == pcclQuantMinMax           ? "minmax:"
                     : how.algorithm == pcclQuantZeroPointScale ? "zps:"
                                                                : "blockscale:");
    for (const CodeName &entry : kCodeNames) {
        if (entry.type == how.quantized_datatype) name.append(entry.name);
    }
    if (packing.block != 0) name.append(1, ':').append(std::to_string(packing.block));
    if (packing.scale == pcclScalePowerOfTwo) name.append(":pow2");
    return name;
}

std::optional<Packing> packing_named(std::string_view name) {
    std::vector<std::string_view> words;
    for (std::size_t colon = 0; colon != std::string_view::npos;
         name.remove_prefix(colon == std::string_view::npos ? 0 : colon + 1)) {
        colon = name.find(':');
        words.push_back(name.substr(0, colon));
    }
    Packing packing;
    if (words[0] == "none") return words.size() == 1 ? std::optional(packing) : std::nullopt;
    const bool in_blocks = words[0] == "blockscale";
    const std::string_view type = words.size() > 1 ? words[1] : in_blocks ? "i8" : "u8";
    const auto code = std::find_if(std::begin(kCodeNames), std::end(kCodeNames),
                                   [&](const CodeName &c) { return c.name == type || c.alias == type; });
    if (code == std::end(kCodeNames) || !(in_blocks ? code->in_blocks : code->in_ranges)) return std::nullopt;
    packing.quantization = {code->type, words[0] == "minmax" ? pcclQuantMinMax
                                        : in_blocks          ? pcclQuantBlockScale
                                                             : pcclQuantZeroPointScale};
    if (!in_blocks)
        return words.size() <= 2 && (words[0] == "minmax" || words[0] == "zps") ? std::optional(packing) : std::nullopt;
    for (std::size_t i = 2; i < words.size(); ++i) {
        if (words[i] == "pow2") {
            packing.scale = pcclScalePowerOfTwo;
            continue;
        }
        const auto [end, error] = std::from_chars(words[i].data(), words[i].data() + words[i].size(), packing.block);
        if (error != std::errc() || end != words[i].data() + words[i].size()) return std::nullopt;
    }
    return packing;
}

}  // namespace pccl::tools
