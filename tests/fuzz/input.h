// A fuzzer's bytes as decisions. When the bytes are used up, every decision is 0, so that every input gives a run that ends.
//
// libFuzzer's FuzzedDataProvider needs clang; the corpora are replayed by builds of any compiler.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <span>
#include <string>
#include <type_traits>

namespace pccl::fuzz {

class Input {
public:
    Input(const std::uint8_t *data, std::size_t size) : rest_(data, size) {}

    bool empty() const { return rest_.empty(); }

    template <class T = std::uint8_t>
    requires std::is_trivially_copyable_v<T> T take() {
        T value{};
        const std::size_t bytes = std::min(sizeof value, rest_.size());
        if (bytes > 0) std::memcpy(static_cast<void *>(&value), rest_.data(), bytes);
        rest_ = rest_.subspan(bytes);
        return value;
    }
    /// A number from 0 to n - 1. Uses one byte if n is at most 256, otherwise four.
    std::size_t below(std::size_t n) {
        if (n <= 1) return 0;
        return (n <= 256 ? take<std::uint8_t>() : take<std::uint32_t>()) % n;
    }
    bool one_in(std::size_t n) { return below(n) == n - 1; }
    /// Mostly `right`; otherwise a number next to it, or any number.
    template <class T> T mostly(T right) {
        const auto how = take<std::uint8_t>();
        if (how < 208) return right;
        if (how < 224) return static_cast<T>(right + 1);
        if (how < 240) return static_cast<T>(right - 1);
        return take<T>();
    }
    template <class C> auto &any_of(C &choices) { return choices[below(std::size(choices))]; }
    std::span<const std::uint8_t> bytes(std::size_t most) {
        const auto some = rest_.first(std::min(most, rest_.size()));
        rest_ = rest_.subspan(some.size());
        return some;
    }
    std::span<const std::uint8_t> all() { return bytes(rest_.size()); }
    std::string text(std::size_t most) {
        const auto some = bytes(below(most + 1));
        return {some.begin(), some.end()};
    }

private:
    std::span<const std::uint8_t> rest_;
};

}  // namespace pccl::fuzz
