// Islands at the master: peers of different groups that join and leave together.
#include <gmock/gmock.h>

#include "unit/protocol_master.h"

namespace pccl::protocol {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class IslandTest : public MasterTest {
protected:
    ConnId land(std::uint64_t island, std::uint32_t group, std::uint32_t peers = 2) {
        const ConnId conn = connect();
        send(conn, wire::Hello{wire::kMagic, wire::kVersion, GroupId{group}, {}, 0, island, peers});
        return conn;
    }
    /// `n` islands of two peers each, all of them members. The result is indexed by island and group.
    std::vector<ConnId> islands(std::size_t n) {
        std::vector<ConnId> all;
        for (std::size_t i = 0; i < n; ++i)
            for (std::uint32_t group = 0; group < 2; ++group)
                all.push_back(land(i + 1, group));
        link_all();
        update({all[0], all[1]});
        EXPECT_EQ(member_count(), 2 * n);
        return all;
    }
    void update(const std::vector<ConnId> &members) {
        for (const ConnId conn : members)
            send(conn, wire::VoteUpdate{++calls_});
        asked_.clear();
    }
    std::string removal(ConnId conn) {
        const auto words = received<wire::Removed>(conn);
        return words.empty() ? "" : words.back().why;
    }
    bool pending(ConnId conn) {
        send(conn, wire::AskPending{received<wire::CallDone>(conn).back().generation, asked_[conn]++});
        return received<wire::PendingAnswer>(conn).back().pending;
    }

    std::uint32_t calls_ = 0;
    std::map<ConnId, std::uint64_t> asked_;
};

TEST_F(IslandTest, FirstIslandStartsTheRunOnceItIsWhole) {
    const ConnId a = land(7, 0);
    EXPECT_EQ(member_count(), 0U);
    const ConnId b = land(7, 1);
    EXPECT_EQ(member_count(), 2U);
    for (const ConnId conn : {a, b}) {
        ASSERT_THAT(received<wire::View>(conn), SizeIs(1));
        EXPECT_THAT(received<wire::View>(conn)[0].groups, SizeIs(2)) << "both are there from the beginning";
        EXPECT_THAT(received<wire::CallDone>(conn), SizeIs(1));
    }
}

TEST_F(IslandTest, SinglePeerStartsTheRunBeforeAnIncompleteIsland) {
    land(7, 0);
    const ConnId alone = join();
    EXPECT_EQ(member_count(), 1U);
    EXPECT_THAT(received<wire::View>(alone), SizeIs(1));
}

TEST_F(IslandTest, IslandIsAdmittedWholeOrNotAtAll) {
    const auto all = islands(1);
    const ConnId c = land(9, 0);
    link_all();
    EXPECT_FALSE(pending(all[0])) << "half of an island does not count";
    update(all);
    EXPECT_EQ(member_count(), 2U);
    const ConnId d = land(9, 1);
    for (const ConnId conn : all)
        EXPECT_FALSE(pending(conn)) << "its links are still being made";
    link_all();
    EXPECT_TRUE(pending(all[0]));
    EXPECT_TRUE(pending(all[1]));
    update(all);
    EXPECT_EQ(member_count(), 4U);
    for (const ConnId conn : {all[0], all[1], c, d}) {
        const auto view = received<wire::View>(conn).back();
        ASSERT_THAT(view.groups, SizeIs(2));
        EXPECT_EQ(view.groups[0].size, view.groups[1].size);
    }
}

TEST_F(IslandTest, IncompleteIslandDoesNotBlockOthers) {
    const auto all = islands(1);
    land(9, 0);
    const ConnId e = land(10, 0), f = land(10, 1);
    link_all();
    EXPECT_TRUE(pending(all[0]));
    update(all);
    EXPECT_EQ(member_count(), 4U);
    EXPECT_THAT(received<wire::View>(e), SizeIs(1));
    EXPECT_THAT(received<wire::View>(f), SizeIs(1));
}

TEST_F(IslandTest, LossOfOnePeerRemovesItsIslandOnly) {
    const auto all = islands(3);
    lose(all[2]);
    EXPECT_TRUE(closed_.contains(all[3]));
    EXPECT_THAT(removal(all[3]), HasSubstr("with its island: peer 3 was lost"));
    EXPECT_EQ(received<wire::Removed>(all[3]).back().code, pcclMasterConnectionFailed);
    EXPECT_EQ(member_count(), 4U);
    thaw({all[0], all[4]});
    thaw({all[1], all[5]});
    const auto view = received<wire::View>(all[0]).back();
    EXPECT_THAT(view.ring, SizeIs(2));
    EXPECT_THAT(received<wire::View>(all[5]).back().ring, SizeIs(2));
}

TEST_F(IslandTest, PeerThatLeavesTakesItsIslandWithIt) {
    const auto all = islands(2);
    send(all[0], wire::Leave{});
    EXPECT_TRUE(closed_.contains(all[1]));
    EXPECT_EQ(received<wire::Removed>(all[1]).back().code, pcclSuccess);
    EXPECT_EQ(member_count(), 2U);
}

TEST_F(IslandTest, SilentPeerTakesItsIslandWithIt) {
    const auto all = islands(2);
    pass(12s, {all[0]});
    EXPECT_THAT(removal(all[1]), HasSubstr("silent"));
    EXPECT_EQ(member_count(), 2U);
}

TEST_F(IslandTest, IncompleteIslandIsRefusedAtItsLimit) {
    const auto all = islands(1);
    const ConnId c = land(9, 0, 3), d = land(9, 1, 3);
    link_all();
    pass(29s);
    EXPECT_FALSE(closed_.contains(c));
    pass(2s);
    EXPECT_THAT(removal(c), HasSubstr("2 of the 3 peers of its island came within 30"));
    EXPECT_THAT(removal(d), HasSubstr("2 of the 3"));
    EXPECT_FALSE(closed_.contains(all[0]));
}

TEST_F(IslandTest, InvalidIslandIsRefused) {
    const auto all = islands(1);
    EXPECT_THAT(removal(land(5, 0, 0)), HasSubstr("it has 0 peers"));
    land(6, 0);
    EXPECT_THAT(removal(land(6, 0)), HasSubstr("in group 0, too"));
    EXPECT_THAT(removal(land(6, 1, 3)), HasSubstr("gives it 2 peers and this peer gives it 3"));
    EXPECT_FALSE(closed_.contains(all[0]));
}

TEST_F(IslandTest, RestartedIslandWaitsForItsOldPeersToEnd) {
    const auto all = islands(2);
    const ConnId c = land(2, 0), d = land(2, 1);
    link_all();
    EXPECT_FALSE(pending(all[0])) << "the master still counts the old island as a member";
    EXPECT_FALSE(closed_.contains(c));
    lose(all[2]);
    EXPECT_TRUE(closed_.contains(all[3]));
    EXPECT_FALSE(closed_.contains(c)) << "it is a different island";
    thaw({all[0]});
    thaw({all[1]});
    link_all();
    EXPECT_TRUE(pending(all[0]));
    EXPECT_TRUE(pending(all[1]));
    update({all[0], all[1]});
    EXPECT_EQ(member_count(), 4U);
    EXPECT_THAT(received<wire::View>(d).back().ring, SizeIs(2));
}

TEST_F(IslandTest, IslandWithATakenNumberIsRefused) {
    const auto all = islands(1);
    const ConnId c = land(1, 0), d = land(1, 1);
    link_all();
    pass(31s);
    EXPECT_THAT(removal(c), HasSubstr("give this island another number"));
    EXPECT_THAT(removal(d), HasSubstr("give this island another number"));
    EXPECT_EQ(received<wire::Removed>(d).back().code, pcclInvalidUsage);
    EXPECT_EQ(member_count(), 2U);
    EXPECT_FALSE(closed_.contains(all[0]));
}

TEST_F(IslandTest, IslandSurvivesARestartOfTheMaster) {
    Record record;
    record.next_peer = 65;
    record.view = ViewNumber{2};
    record.starts = 1;
    for (std::uint32_t group = 0; group < 2; ++group) {
        GroupRecord known;
        known.id = GroupId{group};
        known.view.epoch = ViewNumber{2};
        for (std::uint64_t island = 1; island <= 2; ++island)
            known.view.ring.push_back(PeerId{2 * island - 1 + group});
        record.groups.push_back(known);
    }
    for (std::uint64_t id = 1; id <= 4; ++id) {
        Secret secret{};
        secret.fill(static_cast<std::uint8_t>(id));
        record.members.push_back({PeerId{id}, GroupId{static_cast<std::uint32_t>((id - 1) % 2)}, secret, {}, 0, (id + 1) / 2, 2});
    }
    auto values = encode(record);
    auto read = decode_record(values);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->members[3].island, 2U);
    EXPECT_EQ(read->members[3].island_peers, 2U);
    MasterOptions options;
    options.journal = true;
    options.recovery_window = 3s;
    master_ = Master(
        options, [] { return Secret{}; }, *read);
    step(MasterTick{});
    for (const std::uint64_t id : {1, 2, 3}) {  // peer 4 does not come back
        const ConnId conn = connect();
        wire::Resume resume;
        resume.run = read->run;
        resume.peer = PeerId{id};
        resume.secret = read->members[id - 1].secret;
        resume.member = true;
        resume.view = read->view;
        send(conn, resume);
        wire::RecoveryReport account;
        account.view = account.epoch = read->view;
        send(conn, account);
    }
    for (int i = 0; i < 5; ++i) {
        now_ = now_ + 1s;
        step(MasterTick{});
    }
    EXPECT_EQ(member_count(), 2U) << "peer 3 has left the run with peer 4";
    values.erase("islands");
    EXPECT_TRUE(decode_record(values)) << "a journal of a version without islands";
}

}  // namespace
}  // namespace pccl::protocol
