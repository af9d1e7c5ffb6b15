// Two small reductions that accompany each average. With them the members exchange whether each contributes, with which weight,
// and the digests of their outer states.
//
// Guarantee: all members at which an average succeeds get the same values. One thread uses this.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pccl::train {

class Together;
struct Average;
struct Contribution;

constexpr std::size_t kAllFinite = SIZE_MAX;

/// Names an element of a peer's contribution in one 64-bit word. The maximum over all peers is the word of one of them.
class Culprit {
public:
    Culprit() = default;
    explicit Culprit(std::uint64_t word) : word_(word) {}
    /// `peer` is the number of the peer in logs. `element` is an element of the fragment; the fragment's count stands for the
    /// weight.
    Culprit(std::uint64_t peer, std::size_t element) : word_((peer << kElementBits | (element & kElements)) + 1) {}

    explicit operator bool() const { return word_ != 0; }
    std::uint64_t word() const { return word_; }
    std::uint64_t peer() const { return (word_ - 1) >> kElementBits; }
    std::size_t element() const { return (word_ - 1) & kElements; }

private:
    static constexpr unsigned kElementBits = 42;  // the other 22 bits suffice for four million peers
    static constexpr std::uint64_t kElements = (std::uint64_t{1} << kElementBits) - 1;
    std::uint64_t word_ = 0;
};

class Ballot {
public:
    /// `self` is the number of this peer. `extra` holds words of the method; all members get their maxima.
    Ballot(const Contribution &c, std::uint64_t self, std::vector<std::uint64_t> extra = {});
    /// Adds the two reductions, with `tag` and `tag` + 1. The ballot must outlive them.
    void add_to(Together &ops, std::uint64_t tag);
    /// Takes the place of the reductions when this member is alone.
    void stand_alone();
    /// Writes to `out` what the reductions give for the `members` that took part.
    void count(std::uint32_t members, Average &out) const;

    std::uint64_t extra(std::size_t i) const { return highest_[kWords + i]; }
    double weights() const { return sums_[kWeight]; }

private:
    enum Word { kDigest, kComplement, kCulprit, kWords };
    enum Sum { kCounts, kWeight, kStale, kSums };

    bool verify_, own_left_out_, own_stale_;
    std::vector<std::uint64_t> words_, highest_;
    std::array<double, kSums> given_, sums_{};
};

}  // namespace pccl::train
