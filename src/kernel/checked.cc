// See kernel/checked.h.
#include "kernel/checked.h"

#include <array>

namespace pccl::kernel {

namespace {

/// Elements of a piece: three pieces of the widest type fit the first-level cache.
constexpr std::size_t kPiece = 1024;
static_assert(kPiece % Checksum::kGrain == 0);

/// Calls work(begin, count, last) for all pieces but the last one, which is no shorter than the others unless it is the only one.
template <class Work> void for_each_piece(std::size_t count, Work &&work) {
    std::size_t begin = 0;
    for (; count - begin >= 2 * kPiece; begin += kPiece)
        work(begin, kPiece, false);
    work(begin, count - begin, true);
}

/// One running checksum over an array.
struct Seal {
    Checksum sum;
    std::uint64_t value = 0;
    void take(const std::byte *data, std::size_t bytes, bool last, const std::byte *read = nullptr, std::byte *write = nullptr) {
        if (last)
            value = sum.finish(data, bytes);
        else
            sum.add(data, bytes, read, write);
    }
};

}  // namespace

Seals combine_checked(const Combine &how, void *out, const void *a, const void *b, std::size_t count) {
    const std::size_t wide = size_of(accumulator(how.type, how.op)), narrow = size_of(how.type);
    const std::size_t a_size = how.a_is_input ? narrow : wide, b_size = how.b_is_input ? narrow : wide;
    auto *to = static_cast<std::byte *>(out);
    const auto *first = static_cast<const std::byte *>(a), *second = static_cast<const std::byte *>(b);
    Seal in, result;
    for_each_piece(count, [&](std::size_t begin, std::size_t n, bool last) {
        in.take(first + begin * a_size, n * a_size, last, second + begin * b_size, out == a ? nullptr : to + begin * wide);
        combine(how, to + begin * wide, first + begin * a_size, second + begin * b_size, n);
        result.take(to + begin * wide, n * wide, last);
    });
    return {in.value, result.value};
}

Seals combine_and_finish_checked(const Combine &how, void *out, const void *a, const void *b, std::size_t count,
                                 std::uint32_t divisor) {
    const std::size_t wide = size_of(accumulator(how.type, how.op)), narrow = size_of(how.type);
    const std::size_t a_size = how.a_is_input ? narrow : wide, b_size = how.b_is_input ? narrow : wide;
    auto *to = static_cast<std::byte *>(out);
    const auto *first = static_cast<const std::byte *>(a), *second = static_cast<const std::byte *>(b);
    alignas(64) std::array<std::byte, 2 * kPiece * 8> wider;  // used if the sum is wider than the result
    Seal in, result;
    for_each_piece(count, [&](std::size_t begin, std::size_t n, bool last) {
        std::byte *final = to + begin * narrow;
        std::byte *sum = wide == narrow ? final : wider.data();
        in.take(first + begin * a_size, n * a_size, last, second + begin * b_size, final);
        combine(how, sum, first + begin * a_size, second + begin * b_size, n);
        finish(how.type, how.op, final, sum, n, divisor);
        result.take(final, n * narrow, last);
    });
    return {in.value, result.value};
}

}  // namespace pccl::kernel
