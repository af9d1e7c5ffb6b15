// See train/ballot.h.
#include "train/ballot.h"

#include "train/averager.h"

namespace pccl::train {

Ballot::Ballot(const Contribution &c, std::uint64_t self, std::vector<std::uint64_t> extra)
    : verify_(c.verify), own_left_out_(c.not_finite != kAllFinite), own_stale_(c.stale), words_(kWords), given_{} {
    words_[kDigest] = c.digest;
    words_[kComplement] = ~c.digest;
    words_[kCulprit] = own_left_out_ ? Culprit(self, c.not_finite).word() : 0;
    words_.insert(words_.end(), extra.begin(), extra.end());
    highest_.resize(words_.size());
    given_[kCounts] = own_left_out_ ? 0.0 : 1.0;
    given_[kWeight] = own_left_out_ ? 0.0 : static_cast<double>(static_cast<float>(c.weight));
    given_[kStale] = own_stale_ ? 1.0 : 0.0;
}

void Ballot::add_to(Together &ops, std::uint64_t tag) {
    ops.add({given_.data(), sums_.data(), describe_reduce(given_.size(), pcclSum, tag, pcclDouble)});
    ops.add({words_.data(), highest_.data(), describe_reduce(words_.size(), pcclMax, tag + 1, pcclUint64)});
}

void Ballot::stand_alone() {
    sums_ = given_;
    highest_ = words_;
}

void Ballot::count(std::uint32_t members, Average &out) const {
    out.counted = static_cast<std::uint32_t>(sums_[kCounts]);
    out.left_out = members - out.counted;
    out.culprit = Culprit(highest_[kCulprit]);
    out.own_left_out = own_left_out_;
    const auto stale = static_cast<std::uint32_t>(sums_[kStale]);
    out.stale = stale != 0 && stale < members;  // at least one member must have a state to send
    out.own_stale = out.stale && own_stale_;
    out.diverged = verify_ && highest_[kDigest] != ~highest_[kComplement];
    out.nothing = out.counted == 0;
    out.overflow = out.step_overflow = kAllFinite;
}

}  // namespace pccl::train
