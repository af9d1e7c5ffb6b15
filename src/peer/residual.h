// What quantization has taken from one member's contributions to the all-reduces with one tag, to be added to the next (error feedback).
//
// In units of the sum, so that it holds whatever the number of members. An operation reads the residual and writes a new one beside it,
// which takes its place when the operation is committed: one that fails leaves the residual as it was. Operations with one tag follow
// one another, so no two work on a residual at the same time.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "base/ids.h"
#include "kernel/quantize.h"
#include "peer/undo.h"

namespace pccl::peer {

class Residual {
public:
    Residual(std::size_t count, op::Type operand) : count_(count), operand_(operand), now_(another()) {}

    std::size_t bytes() const { return count_ * element_bytes(); }
    std::size_t element_bytes() const { return op::size_of(kernel::compute_type(operand_)); }
    bool fits(std::size_t count, op::Type operand) const {
        return count == count_ && kernel::compute_type(operand) == kernel::compute_type(operand_);
    }
    const std::byte *now() const { return now_.get(); }
    UndoMemory another() const {
        return UndoMemory(bytes(), "what error feedback holds back", "free some and call again, or do without options->error_feedback");
    }
    void replace(UndoMemory next) { now_ = std::move(next); }

private:
    std::size_t count_;
    op::Type operand_;
    UndoMemory now_;  ///< zeros at first
};

/// The residuals of a communicator. Any thread.
class Residuals {
public:
    /// That of the tag; a new one of zeros if there is none, or (`replaced`) it is of another count or type.
    std::shared_ptr<Residual> of(Tag tag, std::size_t count, op::Type operand, bool &replaced) {
        const std::lock_guard lock(mutex_);
        auto &residual = residuals_[tag];
        replaced = residual && !residual->fits(count, operand);
        if (!residual || replaced) residual = std::make_shared<Residual>(count, operand);
        return residual;
    }
    void drop(Tag tag) {
        const std::lock_guard lock(mutex_);
        residuals_.erase(tag);
    }

private:
    std::mutex mutex_;
    std::unordered_map<Tag, std::shared_ptr<Residual>> residuals_;
};

}  // namespace pccl::peer
