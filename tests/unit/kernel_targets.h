// Runs a test body once on every instruction set that this machine has and the kernels are compiled for.
#pragma once

#include "kernel/targets.h"

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernel/reduce.h"
#include "unit/each_target.h"

namespace pccl::kernel {

/// Calls `body(target)`; failures name the target.
template <class Body> void on_every_target(Body body) { test::on_every_target(target_name, body); }

/// `bytes` bytes at an address that is `offset` past a multiple of 64, between guards that must not change.
class Buffer {
public:
    explicit Buffer(std::size_t bytes, std::size_t offset = 0) : bytes_(bytes), all_(bytes + offset + 2 * kGuard + 64, kFill) {
        const auto base = reinterpret_cast<std::uintptr_t>(all_.data()) + kGuard;
        start_ = (base + 63) / 64 * 64 - base + kGuard + offset;
    }
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;

    std::uint8_t *data() { return all_.data() + start_; }
    const std::uint8_t *data() const { return all_.data() + start_; }
    std::size_t size() const { return bytes_; }
    void assign(const std::vector<std::uint8_t> &from) {
        if (!from.empty()) std::memcpy(data(), from.data(), from.size());
    }
    std::vector<std::uint8_t> contents() const { return {data(), data() + bytes_}; }
    bool guards_hold() const {
        for (std::size_t i = 0; i < all_.size(); ++i)
            if ((i < start_ || i >= start_ + bytes_) && all_[i] != kFill) return false;
        return true;
    }

private:
    static constexpr std::size_t kGuard = 64;
    static constexpr std::uint8_t kFill = 0xA5;
    std::size_t bytes_;
    std::size_t start_ = 0;
    std::vector<std::uint8_t> all_;
};

/// Counts from 0 to 257, and some that need many vectors.
inline std::vector<std::size_t> test_counts() {
    std::vector<std::size_t> counts;
    for (std::size_t n = 0; n <= 257; ++n)
        counts.push_back(n);
    counts.insert(counts.end(), {511, 512, 513, 4099});
    return counts;
}

}  // namespace pccl::kernel
