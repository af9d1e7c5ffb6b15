// A caller's all-reduce, reduce-scatter or all-gather, as the engine sees it, and what it leaves behind for the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "peer/residual.h"
#include "peer/undo.h"
#include "wire/frame.h"
#include "wire/repair.h"

namespace pccl::peer {

struct ReduceRequest {
    const std::byte *send = nullptr;
    std::byte *recv = nullptr;
    op::OperationSpec what;
    op::Span shard;        ///< of a reduce-scatter or an all-gather: this member's, all that `recv` or `send` has room for
    std::uint64_t membership = 0;  ///< of whom it is (peer/shard.h)
    bool check_finite = false;     ///< fails at all members if something given is not finite
    std::string refusal;           ///< why it must fail, if something is not

    op::Span whole() const { return {0, what.count}; }
    /// The elements of the whole buffer that `send`, or `recv`, holds.
    op::Span sends() const { return what.collective == op::Collective::all_gather ? shard : whole(); }
    op::Span receives() const { return what.collective == op::Collective::reduce_scatter ? shard : whole(); }
    /// Where an element of the whole buffer is.
    const std::byte *sent(std::size_t element) const { return send + in_bytes(element - sends().begin); }
    std::byte *place(std::size_t element) const { return recv + in_bytes(element - receives().begin); }

    std::shared_ptr<Residual> residual;  ///< with error feedback: what is added to `send`
    UndoMemory lost;                     ///< with error feedback: the next residual

    /// Of the elements from `element` on.
    kernel::Feedback feedback(std::size_t element) const {
        if (!residual) return {};
        const std::size_t offset = element * residual->element_bytes();
        return {residual->now() + offset, lost.get() + offset};
    }

    std::size_t in_bytes(std::size_t elements) const { return elements * op::size_of(what.type); }
    std::size_t bytes() const { return in_bytes(what.count); }
    /// What is sent and what is received of an element is in the same place.
    bool in_place() const {
        return reinterpret_cast<std::uintptr_t>(send) - in_bytes(sends().begin) == reinterpret_cast<std::uintptr_t>(recv) - in_bytes(receives().begin);
    }
    bool repairs() const { return what.on_peer_loss == op::LossPolicy::repair; }
    /// What is overwritten is not kept: what is final stays, whatever happens.
    bool keeps_finals_in_place() const { return in_place() && repairs(); }

    /// What is given and what is got, where they are in one place, and something is written there: its copy is kept in `undo`.
    op::Span overwritten() const {
        const bool is_shard = what.collective != op::Collective::all_reduce;
        const bool written = what.collective != op::Collective::all_gather || what.quantization.algorithm != op::Quant::none;
        return !in_place() || !written ? op::Span{} : is_shard ? shard : whole();
    }
    bool overwrites(op::Span span) const {
        const auto all = overwritten();
        return span.begin >= all.begin && span.begin - all.begin < all.count;
    }
    /// Of a span that it overwrites, before that.
    void save(op::Span span) { undo.save(in_bytes(span.begin - overwritten().begin), in_bytes(span.count)); }
    const std::byte *saved(std::size_t element) const { return undo.at(in_bytes(element - overwritten().begin)); }
    void begin_undo() {
        if (const auto span = overwritten(); span.count > 0) undo.begin(place(span.begin), in_bytes(span.count));
    }

    bool overlaps_itself() const { return !in_place() && overlap(send, send_bytes(), recv, recv_bytes()); }
    /// One writes what the other reads or writes. Reading the same is no harm.
    bool overlaps(const ReduceRequest &o) const {
        return overlap(recv, recv_bytes(), o.recv, o.recv_bytes()) || overlap(recv, recv_bytes(), o.send, o.send_bytes()) ||
               overlap(send, send_bytes(), o.recv, o.recv_bytes());
    }

    // Left behind.
    std::uint64_t tx_bytes = 0, rx_bytes = 0;  ///< as they travelled
    std::uint64_t tx_saved = 0;     ///< bytes that compression took from tx_bytes
    std::uint32_t world = 0;
    op::Algorithm algorithm{};    ///< taken
    std::size_t lanes = 0;          ///< of the link to the successor, at the start
    std::size_t chunk_elements = 0; ///< of the largest chunk
    UndoLog undo;
    op::FinalRanges finals;       ///< with repair: what is final, whoever is lost from now on
    std::uint32_t repairs_made = 0; ///< epochs it went on in after the first
    std::uint64_t tx_before_loss = 0;

private:
    std::size_t send_bytes() const { return in_bytes(sends().count); }
    std::size_t recv_bytes() const { return in_bytes(receives().count); }
    static bool overlap(const std::byte *a, std::size_t a_bytes, const std::byte *b, std::size_t b_bytes) {
        const auto first = reinterpret_cast<std::uintptr_t>(a), second = reinterpret_cast<std::uintptr_t>(b);
        return a_bytes > 0 && b_bytes > 0 && first < second + b_bytes && second < first + a_bytes;
    }
};

}  // namespace pccl::peer
