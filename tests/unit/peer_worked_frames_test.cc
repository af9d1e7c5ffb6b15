// The worked bytes of data frames in docs/internals/protocol.md are the bytes that a peer sends.
#include <cstring>

#include "collective/ring_plan.h"
#include "kernel/hash.h"
#include "unit/worked_example.h"
#include "wire/frame.h"

namespace pccl::peer {
namespace {

using wire::FrameHeader;
using wire::FrameKind;

wire::Bytes average_of_a_thousand_floats() {
    op::OperationSpec what;
    what.count = 1000;
    what.type = op::Type::f32;
    what.op = op::Op::avg;
    wire::Bytes bytes;
    wire::Writer write(bytes);
    write(what);
    return bytes;
}

FrameHeader second_call_with_tag_9(FrameKind kind) {
    FrameHeader header;
    header.kind = kind;
    header.epoch = 3;
    header.tag = 9;
    header.seq = 1;
    return header;
}

/// The frame as hexadecimal text: the header with its own checksum, then the payload.
std::string sent(FrameHeader header, const wire::Bytes &payload) {
    header.header_checksum = kernel::checksum(&header, wire::kHeaderChecked);
    wire::Bytes bytes(sizeof header);
    std::memcpy(bytes.data(), &header, sizeof header);
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    return in_hex(bytes);
}

TEST(WorkedFrame, OpeningEqualsTheDocument) {
    const auto payload = average_of_a_thousand_floats();
    FrameHeader header = second_call_with_tag_9(FrameKind::op_open);
    header.bytes = static_cast<std::uint32_t>(payload.size());
    header.checksum = kernel::checksum(payload.data(), payload.size());
    EXPECT_EQ(sent(header, payload), in_hex(worked_example("op_open")));
}

/// The reduce_chunk of the example, complete: its first chunk of block 1, 488 ones.
FrameHeader first_contribution() {
    const std::vector<float> ones(collective::RingPlan(1000, sizeof(float), 2, 0).chunk(1, 0).count, 1.0F);
    const auto spec = average_of_a_thousand_floats();
    FrameHeader header = second_call_with_tag_9(FrameKind::reduce_chunk);
    header.index = 1;
    header.offset = kernel::checksum(spec.data(), spec.size());
    header.bytes = static_cast<std::uint32_t>(ones.size() * sizeof(float));
    header.checksum = kernel::checksum(ones.data(), header.bytes);
    return header;
}

TEST(WorkedFrame, ContributionEqualsTheDocument) {
    const collective::RingPlan plan(1000, sizeof(float), 2, 0);
    ASSERT_EQ(plan.first_block(), 1u);
    ASSERT_EQ(plan.chunks(1), 1u);
    EXPECT_EQ(sent(first_contribution(), {}), in_hex(worked_example("reduce_chunk")));
}

TEST(WorkedFrame, RequestForASecondCopyEqualsTheDocument) {
    FrameHeader damaged = first_contribution();
    damaged.header_checksum = kernel::checksum(&damaged, wire::kHeaderChecked);
    wire::Bytes payload(sizeof damaged);
    std::memcpy(payload.data(), &damaged, sizeof damaged);
    FrameHeader header;
    header.kind = FrameKind::ask_again;
    header.bytes = static_cast<std::uint32_t>(payload.size());
    header.checksum = kernel::checksum(payload.data(), payload.size());
    EXPECT_EQ(sent(header, payload), in_hex(worked_example("ask_again")));
}

}  // namespace
}  // namespace pccl::peer
