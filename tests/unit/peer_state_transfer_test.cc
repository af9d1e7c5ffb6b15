// Pulling and serving shared state with two other peers, whose frames are written here. Invalid frames are in
// peer_invalid_frames_test.cc.
#include "fuzz/link_scene.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"

namespace pccl::fuzz {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr PeerId kFirst{2}, kSecond{3};
constexpr std::uint32_t kChunks = 4;
constexpr std::size_t kBytes = kChunks * kernel::kHashChunkBytes;

/// This peer holds 'a' in all chunks; the elected content is 'b', which both other peers hold.
class StateTransferTest : public ::testing::Test {
protected:
    static void SetUpTestSuite() { set_log_level(LogLevel::off); }

    StateTransferTest() {
        scene.options.compression = Compression::off;
        for (const PeerId other : {kFirst, kSecond}) {
            scene.expect_link(other);
            Remote &remote = scene.connect(other);
            scene.greet(remote, 1, other);
            scene.deliver(remote, SIZE_MAX);
        }
        auto sums = kernel::chunk_checksums(mine.data(), kBytes);
        const auto hash = kernel::content_hash(sums);
        session->tensors.push_back({{mine.data(), kBytes}, std::move(sums), hash});
        scene.transfer.offer(session);
    }

    Remote &first() { return scene.remotes[0]; }
    Remote &second() { return scene.remotes[1]; }
    void pull(bool in_place = true) {
        wire::SyncPlan plan;
        plan.sync = 1;
        plan.in_place = in_place;
        plan.pull = {{0, kernel::content_hash(list).bytes, {kFirst, kSecond}}};
        scene.transfer.pull(plan);
        scene.turn();
    }
    static FrameHeader header(FrameKind kind, std::uint32_t chunk = 0) {
        FrameHeader h;
        h.kind = kind;
        h.epoch = 1;
        h.aux = chunk;
        return h;
    }
    void send(Remote &from, const FrameHeader &h, const std::string &payload) {
        LinkScene::send(from, h, payload);
        scene.deliver(from, SIZE_MAX);
    }
    void send_list(Remote &from) {
        send(from, header(FrameKind::state_list), {reinterpret_cast<const char *>(list.data()), list.size() * 8});
    }
    void send_chunk(Remote &from, std::uint32_t chunk) {
        send(from, header(FrameKind::state_chunk, chunk), std::string(kernel::kHashChunkBytes, 'b'));
    }
    /// The chunks that have been requested from a holder since the last call.
    std::set<std::uint32_t> requests_at(Remote &holder) {
        scene.turn();
        scene.receive(holder);
        std::set<std::uint32_t> chunks;
        FrameHeader h;
        std::string payload;
        while (scene.next_frame(holder, h, payload)) {
            if (h.kind == FrameKind::state_ask_chunk) chunks.insert(h.aux);
        }
        return chunks;
    }
    bool succeeded() const { return scene.pulled && scene.pulled->second; }

    const std::string elected = std::string(kBytes, 'b');
    std::string mine = std::string(kBytes, 'a');
    const std::vector<std::uint64_t> list = kernel::chunk_checksums(elected.data(), kBytes);
    std::shared_ptr<SyncSession> session = std::make_shared<SyncSession>();
    LinkScene scene;
};

TEST_F(StateTransferTest, PullsFromBothHolders) {
    pull();
    send_list(first());
    const auto at_first = requests_at(first()), at_second = requests_at(second());
    EXPECT_EQ(at_first.size(), kChunks / 2);
    EXPECT_EQ(at_second.size(), kChunks / 2);
    for (const std::uint32_t chunk : at_first)
        send_chunk(first(), chunk);
    EXPECT_FALSE(scene.pulled);
    for (const std::uint32_t chunk : at_second)
        send_chunk(second(), chunk);
    EXPECT_TRUE(succeeded());
    EXPECT_TRUE(mine == elected);
    EXPECT_EQ(session->rx_bytes, kBytes);
}

TEST_F(StateTransferTest, PullsOnlyChunksThatDiffer) {
    std::fill_n(mine.begin(), 3 * kernel::kHashChunkBytes, 'b');
    auto sums = kernel::chunk_checksums(mine.data(), kBytes);
    const auto hash = kernel::content_hash(sums);
    session = std::make_shared<SyncSession>();
    session->tensors.push_back({{mine.data(), kBytes}, std::move(sums), hash});
    scene.transfer.offer(session);
    pull();
    send_list(first());
    auto chunks = requests_at(first());
    chunks.merge(requests_at(second()));
    EXPECT_THAT(chunks, UnorderedElementsAre(3u));
}

TEST_F(StateTransferTest, RequestsRefusedChunksFromTheOtherHolder) {
    pull();
    send_list(first());
    const auto refused = requests_at(first()), others = requests_at(second());
    ASSERT_THAT(refused, testing::Not(IsEmpty()));
    send(first(), header(FrameKind::state_refuse, *refused.begin()), "");
    EXPECT_EQ(requests_at(second()), refused) << "all chunks of the excluded holder";
    EXPECT_THAT(requests_at(first()), IsEmpty());
    for (std::uint32_t chunk = 0; chunk < kChunks; ++chunk)
        send_chunk(second(), chunk);
    EXPECT_TRUE(succeeded());
    EXPECT_TRUE(mine == elected);
}

TEST_F(StateTransferTest, RequestsChunksOfALostHolderFromTheOther) {
    pull();
    send_list(first());
    const auto lost = requests_at(first());
    requests_at(second());
    scene.lose(kFirst);
    EXPECT_EQ(requests_at(second()), lost);
    for (std::uint32_t chunk = 0; chunk < kChunks; ++chunk)
        send_chunk(second(), chunk);
    EXPECT_TRUE(succeeded());
    EXPECT_TRUE(mine == elected);
}

TEST_F(StateTransferTest, RequestsTheListOfALostHolderFromTheOther) {
    pull();
    scene.lose(kFirst);
    send_list(second());
    EXPECT_EQ(requests_at(second()).size(), kChunks);
}

TEST_F(StateTransferTest, FailsWhenAllHoldersRefuse) {
    pull();
    send(first(), header(FrameKind::state_refuse), "");
    EXPECT_FALSE(scene.pulled);
    send(second(), header(FrameKind::state_refuse), "");
    ASSERT_TRUE(scene.pulled);
    EXPECT_FALSE(scene.pulled->second);
}

TEST_F(StateTransferTest, LeavesTheOldContentUntilTheCommitIfNotInPlace) {
    pull(false);
    send_list(first());
    for (std::uint32_t chunk = 0; chunk < kChunks; ++chunk) {
        for (Remote *holder : {&first(), &second()})
            send_chunk(*holder, chunk);
    }
    ASSERT_TRUE(succeeded());
    EXPECT_TRUE(mine == std::string(kBytes, 'a'));
    scene.transfer.end(1);
    session->apply();
    EXPECT_TRUE(mine == elected);
}

TEST_F(StateTransferTest, ServesTheOfferedContentAndRefusesOther) {
    const auto &offered = session->tensors[0].hash;
    const auto ask = [&](const kernel::ContentHash &hash) {
        send(first(), header(FrameKind::state_ask_chunk, 1),
             {reinterpret_cast<const char *>(hash.bytes.data()), hash.bytes.size()});
        scene.turn();
        scene.receive(first());
        FrameHeader h;
        std::string payload;
        while (scene.next_frame(first(), h, payload)) {
            if (h.kind == FrameKind::state_chunk) EXPECT_TRUE(payload == std::string(kernel::kHashChunkBytes, 'a'));
            if (h.kind == FrameKind::state_chunk || h.kind == FrameKind::state_refuse) return h.kind;
        }
        return FrameKind::link_accept;
    };
    EXPECT_EQ(ask(offered), FrameKind::state_chunk);
    EXPECT_EQ(ask(kernel::content_hash(list)), FrameKind::state_refuse);
}

}  // namespace
}  // namespace pccl::fuzz
