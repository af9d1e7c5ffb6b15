// A caller's all-reduce, as the engine sees it, and what it leaves behind for the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "peer/residual.h"
#include "peer/undo.h"
#include "wire/frame.h"
#include "wire/repair.h"

namespace pccl::peer {

struct ReduceRequest {
    const std::byte *send = nullptr;
    std::byte *recv = nullptr;
    wire::Fingerprint what;

    std::shared_ptr<Residual> residual;  ///< with error feedback: what is added to `send`
    UndoMemory lost;                     ///< with error feedback: the next residual

    /// Of the elements from `element` on.
    kernel::Feedback feedback(std::size_t element) const {
        if (!residual) return {};
        const std::size_t offset = element * residual->element_bytes();
        return {residual->now() + offset, lost.get() + offset};
    }

    std::size_t bytes() const { return what.count * kernel::size_of(what.type); }
    bool in_place() const { return send == recv; }
    bool repairs() const { return what.fault == wire::Fault::repair; }
    /// What is overwritten is not kept: what is final stays, whatever happens.
    bool keeps_finals_in_place() const { return in_place() && repairs(); }

    bool overlaps_itself() const { return !in_place() && overlap(send, bytes(), recv, bytes()); }
    /// One writes what the other reads or writes. Reading the same is no harm.
    bool overlaps(const ReduceRequest &o) const {
        return overlap(recv, bytes(), o.recv, o.bytes()) || overlap(recv, bytes(), o.send, o.bytes()) ||
               overlap(send, bytes(), o.recv, o.bytes());
    }

    // Left behind.
    std::uint64_t tx_bytes = 0, rx_bytes = 0;  ///< as they travelled
    std::uint64_t tx_saved = 0;     ///< bytes that compression took from tx_bytes
    std::uint32_t world = 0;
    wire::Algorithm algorithm{};    ///< taken
    std::size_t lanes = 0;          ///< of the link to the successor, at the start
    std::size_t chunk_elements = 0; ///< of the largest chunk
    UndoLog undo;
    wire::FinalRanges finals;       ///< with repair: what is final, whoever is lost from now on
    std::uint32_t repairs_made = 0; ///< epochs it went on in after the first
    std::uint64_t tx_before_loss = 0;

private:
    static bool overlap(const std::byte *a, std::size_t a_bytes, const std::byte *b, std::size_t b_bytes) {
        const auto first = reinterpret_cast<std::uintptr_t>(a), second = reinterpret_cast<std::uintptr_t>(b);
        return first < second + b_bytes && second < first + a_bytes;
    }
};

}  // namespace pccl::peer
