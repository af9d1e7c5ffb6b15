// A caller's collective operation as the engine sees it, and its outcome for the caller.
//
// The caller's thread fills in the request and later reads the outcome. In between, the request belongs to the I/O thread.
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
    op::OperationSpec spec;
    ConstBufferView send;          ///< the elements inputs() of the whole buffer
    BufferView recv;               ///< the elements outputs() of the whole buffer
    op::Span shard;                ///< this member's shard, if an argument is one
    std::uint64_t membership = 0;  ///< the members for which the shard was computed (peer/shard.h)
    bool check_finite = false;     ///< the operation fails at all members if an input element is not finite
    std::string refusal;           ///< why the operation must fail; empty if nothing forbids it

    /// The elements of the whole buffer that `send` and `recv` hold.
    op::Span inputs() const { return covered(spec.input()); }
    op::Span outputs() const { return covered(spec.output()); }
    /// Sets both views. `spec` and `shard` must be set before.
    void set_buffers(const void *sendbuff, void *recvbuff) {
        send = {sendbuff, in_bytes(inputs().count)};
        recv = {recvbuff, in_bytes(outputs().count)};
    }
    /// Host memory from `element` of the whole buffer on: to read the input, to read the result, to write the result.
    const std::byte *input(std::size_t element) const { return send.read(in_bytes(element - inputs().begin)); }
    const std::byte *result(std::size_t element) const { return recv.read(in_bytes(element - outputs().begin)); }
    std::byte *output(std::size_t element) const { return recv.write(in_bytes(element - outputs().begin)); }
    /// Writes a span of the result.
    void store(op::Span span, const std::byte *values) const {
        recv.copy_from(in_bytes(span.begin - outputs().begin), values, in_bytes(span.count));
    }

    std::shared_ptr<Residual> residual;  ///< with error feedback: added to the input
    MappedBuffer next_residual;          ///< with error feedback

    /// The error feedback of the elements from `element` on.
    kernel::Feedback feedback(std::size_t element) const {
        if (!residual) return {};
        const std::size_t offset = element * residual->element_bytes();
        return {residual->now() + offset, next_residual.get() + offset};
    }

    std::size_t in_bytes(std::size_t elements) const { return elements * op::size_of(spec.type); }
    std::size_t bytes() const { return in_bytes(spec.count); }
    /// True if the input and the result of each element have the same address.
    bool in_place() const { return send.address() - in_bytes(inputs().begin) == recv.address() - in_bytes(outputs().begin); }
    bool repairs() const { return spec.on_peer_loss == op::LossPolicy::repair; }
    /// True if a chunk replaces its input as a whole when it becomes final, and no copy of the input is saved: final chunks stay.
    bool keeps_finals_in_place() const { return in_place() && repairs(); }

    /// The elements whose input the result overwrites. Their input is copied to `undo` first. Without a reduction and without
    /// quantization the result is equal to the input, so nothing needs a copy.
    op::Span overwritten() const {
        const bool changes = spec.combines() || spec.quantized();
        return !in_place() || !changes ? op::Span{} : spec.sharded() ? shard : covered(op::Extent::whole);
    }
    bool overwrites(op::Span span) const {
        const auto all = overwritten();
        return span.begin >= all.begin && span.begin - all.begin < all.count;
    }
    /// Copies the input of a span that is about to be overwritten.
    void save(op::Span span) { undo.save(in_bytes(span.begin - overwritten().begin), in_bytes(span.count)); }
    const std::byte *saved(std::size_t element) const { return undo.at(in_bytes(element - overwritten().begin)); }
    void begin_undo() {
        if (const auto span = overwritten(); span.count > 0) undo.begin({output(span.begin), in_bytes(span.count)});
    }

    bool overlaps_itself() const { return !in_place() && send.overlaps(recv); }
    /// True if one request writes memory that the other one reads or writes.
    bool overlaps(const ReduceRequest &o) const {
        const ConstBufferView mine = recv, theirs = o.recv;
        return mine.overlaps(theirs) || mine.overlaps(o.send) || send.overlaps(theirs);
    }

    // The outcome.
    std::uint64_t tx_bytes = 0, rx_bytes = 0;  ///< bytes on the wire, headers included
    std::uint64_t tx_saved = 0;                ///< bytes that compression saved in `tx_bytes`
    std::uint32_t world = 0;                   ///< members
    op::Algorithm algorithm{};                 ///< chosen; `automatic` if the operation never started
    std::size_t lanes = 0;                     ///< lanes of the link to the successor when the operation started
    std::size_t chunk_elements = 0;            ///< elements of the largest chunk
    UndoLog undo;
    op::FinalRanges finals;            ///< with repair: elements that are final, whichever member is lost later
    std::uint32_t repairs_made = 0;    ///< epochs after the first in which the operation continued
    std::uint64_t tx_before_loss = 0;  ///< `tx_bytes` at the first loss

private:
    op::Span covered(op::Extent extent) const { return extent == op::Extent::shard ? shard : op::Span{0, spec.count}; }
};

}  // namespace pccl::peer
