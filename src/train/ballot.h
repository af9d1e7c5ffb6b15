// What the members tell one another beside each average, in two small reductions: who contributes, with what weight, and the digests of
// their outer states.
//
// Guarantee: all members that an average is done at read the same from it. One thread.
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

/// Names an element of a peer's contribution in one word. The maximum over all peers is the name that one of them gave.
class Culprit {
public:
    Culprit() = default;
    explicit Culprit(std::uint64_t word) : word_(word) {}
    /// `peer`: the number by which logs name it. `element`: of the fragment; the fragment's count stands for the weight.
    Culprit(std::uint64_t peer, std::size_t element) : word_((peer << kElementBits | (element & kElements)) + 1) {}

    explicit operator bool() const { return word_ != 0; }
    std::uint64_t word() const { return word_; }
    std::uint64_t peer() const { return (word_ - 1) >> kElementBits; }
    std::size_t element() const { return (word_ - 1) & kElements; }

private:
    static constexpr unsigned kElementBits = 42;  // the other 22 hold four million peers
    static constexpr std::uint64_t kElements = (std::uint64_t{1} << kElementBits) - 1;
    std::uint64_t word_ = 0;
};

class Ballot {
public:
    /// `self`: the number of this peer. `extra`: words of the method's own, of which all members get the maxima.
    Ballot(const Contribution &c, std::uint64_t self, std::vector<std::uint64_t> extra = {});
    /// Two reductions, with `tag` and the tag after it. This must outlive them.
    void add_to(Together &ops, std::uint64_t tag);
    /// In place of those: this member is alone.
    void stand_alone();
    /// What the `members` that took part have told.
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
