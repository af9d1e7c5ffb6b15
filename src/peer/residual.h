// Error feedback: the quantization errors of one member's contributions to the operations with one tag, to add to the next
// contribution.
//
// A residual is in units of the sum, so it stays valid when the number of members changes. An operation reads the residual and
// writes the next one into separate memory, which replaces it when the operation is committed. An operation that fails leaves the
// residual as it was. Operations with one tag run one after another, so no two use a residual at the same time.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "base/ids.h"
#include "kernel/quantize.h"
#include "peer/mapped_buffer.h"

namespace pccl::peer {

class Residual {
public:
    Residual(std::size_t count, op::Type operand) : count_(count), operand_(operand), now_(allocate()) {}

    std::size_t bytes() const { return count_ * element_bytes(); }
    std::size_t element_bytes() const { return op::size_of(kernel::compute_type(operand_)); }
    bool fits(std::size_t count, op::Type operand) const {
        return count == count_ && kernel::compute_type(operand) == kernel::compute_type(operand_);
    }
    const std::byte *now() const { return now_.get(); }
    /// Memory for the next residual.
    MappedBuffer allocate() const {
        return MappedBuffer(bytes(), "the residual of error feedback",
                            "free memory and call again, or clear options->error_feedback");
    }
    void replace(MappedBuffer next) { now_ = std::move(next); }

private:
    std::size_t count_;
    op::Type operand_;
    MappedBuffer now_;  ///< zeros at first
};

/// The residuals of a communicator. Any thread.
class Residuals {
public:
    /// Returns the residual of the tag: a new one of zeros if the tag has none, or if it is for another count or type
    /// (`replaced`).
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
