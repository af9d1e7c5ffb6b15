// Shared by the tests of operations: a link owner that ignores all events, and one member of an operation whose other members'
// frames the test writes.
#pragma once

#include <algorithm>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "kernel/hash.h"
#include "peer/link_table.h"
#include "peer/operation.h"

namespace pccl::peer {

class SilentOwner final : public LinkOwner {
    void on_link_up(Link &) override {}
    void on_link_down(Link &, const std::string &) override {}
};

/// The hash that the chunks of an operation with this spec carry.
inline std::uint64_t hash_of(const op::OperationSpec &spec) {
    wire::Bytes encoded;
    wire::Writer write(encoded);
    write(spec);
    return kernel::checksum(encoded.data(), encoded.size());
}

class OneMember {
protected:
    void describe(op::Collective collective, std::size_t count) {
        request.spec.collective = collective;
        request.spec.count = count;
        request.spec.type = op::Type::f32;
    }
    std::string reject_reason(PeerId from, const wire::FrameHeader &header) const {
        const char *why = op->reject_reason(from, header);
        return why ? why : "";
    }
    /// Gives the operation a valid chunk of floats with this value.
    Received deliver(PeerId from, const wire::FrameHeader &header, float value) {
        EXPECT_EQ(reject_reason(from, header), "");
        const Intake take = op->prepare_receive(header);
        EXPECT_EQ(take.action, Intake::Action::take);
        std::fill_n(reinterpret_cast<float *>(take.into), header.bytes / sizeof(float), value);
        return op->receive(header, take.into, take.keep);
    }
    static std::uint64_t checksum_of(std::size_t count, float value) {
        const std::vector<float> values(count, value);
        return kernel::checksum(values.data(), count * sizeof(float));
    }

    asio::io_context io;
    SilentOwner owner;
    Options options;
    LinkTable links{io, owner, options};
    BufferPool pool;
    ReduceRequest request;
    std::unique_ptr<Operation> op;
};

}  // namespace pccl::peer
