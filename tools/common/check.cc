// Seeded inputs and the float64 reference.
#include "common/check.h"

#include "common/elements.h"
#include "common/mix.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace pccl::tools {

namespace {

constexpr std::size_t kPeriod = 65521;  // prime
/// Ranks below this contribute factors of two to integer products: 2^6 fits the smallest type.
constexpr int kRanksWithFactors = 6;

/// Element `i` of `rank`, before rounding to the type. No operator leaves the range of an integer type with these values.
double ideal_value(const Case &what, int rank, std::size_t i) {
    const std::uint64_t bits =
        mix(mix(static_cast<std::uint64_t>(rank) * 1024 + static_cast<std::uint64_t>(what.buffer)) + i % kPeriod);
    const double unit = static_cast<double>(bits >> 11) * 0x1p-53;
    if (is_float(what.type)) return what.op == pcclProd ? 0.75 + unit / 2 : 2 * unit - 1;
    if (what.op == pcclProd) return rank < kRanksWithFactors ? 1 + static_cast<double>(bits & 1) : 1;
    const bool is_signed = what.type == pcclInt8 || what.type == pcclInt16 || what.type == pcclInt32 || what.type == pcclInt64;
    const bool adds = what.op == pcclSum || what.op == pcclAvg;
    const double limit = adds ? std::max(1.0, std::floor(120.0 / what.ranks)) : 120.0;
    return is_signed ? std::floor(unit * (2 * limit + 1)) - limit : std::floor(unit * (limit + 1));
}

double combine(pcclRedOp_t op, double a, double b) {
    switch (op) {
    case pcclSum:
    case pcclAvg: return a + b;
    case pcclProd: return a * b;
    case pcclMax: return std::max(a, b);
    case pcclMin: break;
    }
    return std::min(a, b);
}

/// The exact result and the largest error of a correct implementation.
struct Reference {
    std::vector<double> value;
    std::vector<double> tolerance;
};

template <typename T> Reference reference(const Case &what) {
    const std::size_t size = std::min(what.count, kPeriod);
    Reference out{std::vector<double>(size), std::vector<double>(size)};
    for (std::size_t i = 0; i < size; ++i) {
        double total = 0;
        double magnitude = 0;
        for (int rank = 0; rank < what.ranks; ++rank) {
            const double term = to_double(from_double<T>(ideal_value(what, rank, i)));
            total = rank == 0 ? term : combine(what.op, total, term);
            magnitude += std::fabs(term);
        }
        if (what.op == pcclAvg) {
            total /= what.ranks;
            magnitude /= what.ranks;
            if (!is_float(what.type)) total = std::trunc(total);
        }
        out.value[i] = total;
        // Each addition can round once, in any order, and so can each multiplication. Maxima and integers are exact.
        const double scale = what.op == pcclProd ? std::fabs(total) : magnitude;
        const bool exact = what.op == pcclMax || what.op == pcclMin;
        out.tolerance[i] = exact ? 0 : (what.ranks + 1) * roundoff<T>() * scale;
    }
    return out;
}

/// The relative L2 error that quantization can cause: each rank's contribution and each partial sum is rounded to one of 2^bits
/// steps of its block's range (about 2 here, 1.5 for products).
double allowed_relative_error(const Case &what) {
    const pcclDataType_t to = what.packing.quantization.quantized_datatype;
    double steps = std::ldexp(1.0, code_bits(to)) - 1;
    // The range is from the largest magnitude to its negative, and a power of two can leave half of the codes unused.
    if (what.packing.quantization.algorithm == pcclQuantBlockScale) steps /= what.packing.scale == pcclScalePowerOfTwo ? 3 : 1.5;
    return 4.0 * std::sqrt(static_cast<double>(what.ranks)) / steps +
           4 * visit_type(what.type, [](auto value) { return roundoff<decltype(value)>(); });
}

template <typename T> Verdict check_typed(const Case &what, const void *result) {
    const Reference expected = reference<T>(what);
    Verdict verdict;
    double error_square = 0;
    double norm_square = 0;
    const bool quantized = !what.packing.none();
    for (std::size_t i = 0; i < what.count; ++i) {
        const std::size_t at = i % kPeriod;
        const double found = to_double(load<T>(result, i));
        const double error = found - expected.value[at];
        error_square += error * error;
        norm_square += expected.value[at] * expected.value[at];
        const bool fine = quantized ? std::isfinite(found) : std::fabs(error) <= expected.tolerance[at];
        if (!fine && verdict.wrong++ == 0) {
            verdict.first_wrong = i;
            verdict.expected = expected.value[at];
            verdict.found = found;
        }
    }
    verdict.relative_error = norm_square > 0 ? std::sqrt(error_square / norm_square) : std::sqrt(error_square);
    if (quantized && !(verdict.relative_error <= allowed_relative_error(what))) verdict.wrong = what.count;
    return verdict;
}

}  // namespace

void fill_input(const Case &what, int rank, void *out) {
    visit_type(what.type, [&](auto example) {
        using T = decltype(example);
        const std::size_t period = std::min(what.count, kPeriod);
        for (std::size_t i = 0; i < period; ++i)
            store(out, i, from_double<T>(ideal_value(what, rank, i)));
        auto *bytes = static_cast<unsigned char *>(out);
        for (std::size_t done = period; done < what.count;) {
            const std::size_t step = std::min(period, what.count - done);
            std::copy_n(bytes, step * sizeof(T), bytes + done * sizeof(T));
            done += step;
        }
    });
}

Verdict check_result(const Case &what, const void *result) {
    return visit_type(what.type, [&](auto value) { return check_typed<decltype(value)>(what, result); });
}

}  // namespace pccl::tools
