// See inputs.h.
#include "peer/inputs.h"

#include "common/elements.h"
#include "common/mix.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numbers>
#include <stdexcept>

namespace pccl::itest {

namespace {

struct Pattern {
    enum Kind { kConstant, kNormal, kHeavy, kUniform } kind;
    double a = 0;
    double b = 0;
};

Pattern parse(const std::string &text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos) throw std::invalid_argument("unknown input pattern " + text);
    const std::string kind = text.substr(0, colon);
    char *end = nullptr;
    Pattern pattern{Pattern::kConstant, std::strtod(text.c_str() + colon + 1, &end), 0};
    if (*end == ',') pattern.b = std::strtod(end + 1, nullptr);
    if (kind == "normal")
        pattern.kind = Pattern::kNormal;
    else if (kind == "heavy")
        pattern.kind = Pattern::kHeavy;
    else if (kind == "uniform")
        pattern.kind = Pattern::kUniform;
    else if (kind != "constant")
        throw std::invalid_argument("unknown input pattern " + text);
    return pattern;
}

double unit(std::uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }

double normal(std::uint64_t bits) {
    return std::sqrt(-2 * std::log(unit(bits))) * std::cos(2 * std::numbers::pi * unit(tools::mix(bits)));
}

double value_at(const Pattern &pattern, int rank, std::size_t i) {
    const std::uint64_t bits = tools::mix(tools::mix(static_cast<std::uint64_t>(rank) + 77) + i);
    switch (pattern.kind) {
    case Pattern::kConstant: return pattern.a;
    case Pattern::kUniform: return pattern.a + (pattern.b - pattern.a) * unit(bits);
    case Pattern::kHeavy: return pattern.a * normal(bits) * std::exp(pattern.b * normal(tools::mix(~bits)));
    case Pattern::kNormal: break;
    }
    return pattern.a + pattern.b * normal(bits);
}

/// The positions of the values that are not finite, at rank 0.
constexpr std::size_t kNonFiniteStride = 1009;

template <typename T> void fill_typed(const Pattern &pattern, const tools::Case &what, int rank, void *out) {
    for (std::size_t i = 0; i < what.count; ++i)
        tools::store(out, i, tools::from_double<T>(value_at(pattern, rank, i)));
}

template <typename T> tools::Verdict check_typed(const Pattern &pattern, const tools::Case &what, const void *result) {
    tools::Verdict verdict;
    double error_square = 0;
    double norm_square = 0;
    for (std::size_t i = 0; i < what.count; ++i) {
        double expected = 0;
        for (int rank = 0; rank < what.ranks; ++rank) {
            const double term = tools::to_double(tools::from_double<T>(value_at(pattern, rank, i)));
            if (rank == 0 || what.op == pcclSum || what.op == pcclAvg)
                expected += term;
            else if (what.op == pcclMax)
                expected = std::max(expected, term);
            else if (what.op == pcclMin)
                expected = std::min(expected, term);
            else
                expected *= term;
        }
        if (what.op == pcclAvg) expected /= what.ranks;
        const double found = tools::to_double(tools::load<T>(result, i));
        if (!std::isfinite(found) && verdict.wrong++ == 0) {
            verdict.first_wrong = i;
            verdict.expected = expected;
            verdict.found = found;
        }
        error_square += (found - expected) * (found - expected);
        norm_square += expected * expected;
    }
    verdict.relative_error = std::sqrt(error_square / std::max(norm_square, 1e-300));
    return verdict;
}

/// NaN and infinities of rank 0 must give NaN or infinity; all other elements must be as without them. Exception: a quantized
/// block with such an element may become NaN as a whole, but not plausible numbers.
template <typename T> tools::Verdict check_nonfinite(const tools::Case &what, const void *result) {
    constexpr std::size_t kBlock = 256;
    tools::Verdict verdict;
    for (std::size_t i = 0; i < what.count; ++i) {
        const double found = tools::to_double(tools::load<T>(result, i));
        const bool special = i % kNonFiniteStride == 7;
        bool may_be_lost = false;
        if (!what.packing.none()) {
            for (std::size_t j = i - i % kBlock; j < i - i % kBlock + kBlock; ++j)
                may_be_lost |= j % kNonFiniteStride == 7;
        }
        const bool fine = special ? !std::isfinite(found) : std::isfinite(found) || may_be_lost;
        if (!fine && verdict.wrong++ == 0) {
            verdict.first_wrong = i;
            verdict.found = found;
        }
    }
    return verdict;
}

template <typename T> void plant_nonfinite(const tools::Case &what, void *out) {
    const double specials[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                               -std::numeric_limits<double>::infinity()};
    for (std::size_t i = 7; i < what.count; i += kNonFiniteStride) {
        tools::store(out, i, tools::from_double<T>(specials[i / kNonFiniteStride % 3]));
    }
}

}  // namespace

void fill_input(const std::string &pattern, const tools::Case &what, int rank, void *out) {
    if (pattern == "seeded" || pattern == "nonfinite") {
        tools::fill_input(what, rank, out);
        if (pattern == "seeded" || rank != 0) return;
        return tools::visit_type(what.type, [&](auto v) {
            if constexpr (!std::numeric_limits<decltype(v)>::is_integer) plant_nonfinite<decltype(v)>(what, out);
        });
    }
    tools::visit_type(what.type, [&](auto v) { fill_typed<decltype(v)>(parse(pattern), what, rank, out); });
}

tools::Verdict check_result(const std::string &pattern, const tools::Case &what, const void *result) {
    if (pattern == "seeded") return tools::check_result(what, result);
    return tools::visit_type(what.type, [&](auto v) {
        if (pattern == "nonfinite") return check_nonfinite<decltype(v)>(what, result);
        return check_typed<decltype(v)>(parse(pattern), what, result);
    });
}

std::uint64_t hash_bytes(const void *data, std::size_t bytes) {
    const auto *at = static_cast<const unsigned char *>(data);
    std::uint64_t hash = bytes;
    for (; bytes >= 8; at += 8, bytes -= 8)
        hash = (hash ^ tools::load<std::uint64_t>(at, 0)) * 0x9fb21c651e98df25 + (hash >> 29);
    std::uint64_t rest = 0;
    std::copy_n(at, bytes, reinterpret_cast<unsigned char *>(&rest));
    return tools::mix(hash ^ rest);
}

}  // namespace pccl::itest
