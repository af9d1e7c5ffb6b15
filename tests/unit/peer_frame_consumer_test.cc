// The table of frame consumers: one consumer for each kind, and callbacks in the order of registration.
#include "peer/frame_consumer.h"

#include <gtest/gtest.h>

#include "fuzz/link_scene.h"

namespace pccl::peer {
namespace {

using wire::FrameHeader;
using wire::FrameKind;

class FixedKinds final : public FrameConsumer {
public:
    explicit FixedKinds(std::vector<FrameKind> kinds) : kinds_(std::move(kinds)) {}
    std::vector<FrameKind> kinds() const override { return kinds_; }
    Intake prepare_receive(Link &, const FrameHeader &) override { return {}; }
    bool receive(Link &, const FrameHeader &, std::byte *, const Buffer &) override { return true; }
    void clear(const Error &) override {}

private:
    std::vector<FrameKind> kinds_;
};

TEST(FrameConsumers, FindTheConsumerOfAKind) {
    FixedKinds first({FrameKind::op_open, FrameKind::reduce_chunk}), second({FrameKind::probe_data});
    FrameConsumers table;
    table.add(first);
    table.add(second);
    EXPECT_EQ(table.of(FrameKind::op_open), &first);
    EXPECT_EQ(table.of(FrameKind::reduce_chunk), &first);
    EXPECT_EQ(table.of(FrameKind::probe_data), &second);
    EXPECT_EQ(table.of(FrameKind::state_chunk), nullptr);
    EXPECT_EQ(std::vector<FrameConsumer *>(table.begin(), table.end()), (std::vector<FrameConsumer *>{&first, &second}));
}

/// The link itself handles link_hello, link_accept and ask_again.
TEST(FrameConsumers, EveryKindHasExactlyOneReceiver) {
    const fuzz::LinkScene scene;
    const std::array<const FrameConsumer *, 4> consumers{&scene.engine, &scene.transfer, &scene.prober, &scene.messages};
    for (int i = 0; i < wire::kFrameKinds; ++i) {
        const auto kind = static_cast<FrameKind>(i);
        const auto receives = [&](const FrameConsumer *consumer) { return fuzz::LinkScene::receives(*consumer, kind); };
        const bool of_link = kind == FrameKind::link_hello || kind == FrameKind::link_accept || kind == FrameKind::ask_again;
        EXPECT_EQ(std::ranges::count_if(consumers, receives), of_link ? 0 : 1) << "kind " << i;
    }
}

}  // namespace
}  // namespace pccl::peer
