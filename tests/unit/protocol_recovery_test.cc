// A master that takes the place of one that ended, message by message: which peers it accepts as members, and the messages that
// it sends them.
#include "protocol/master.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pccl::protocol {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// A run of two members, 1 and 2, in view 5, whose master has just been restarted.
class RecoveryTest : public testing::Test {
protected:
    RecoveryTest() {
        record_.run.fill(9);
        record_.starts = 1;
        record_.view = ViewNumber{5};
        record_.view_groups = {{GroupId{0}, 2}};
        record_.next_peer = 65;
        record_.generation = 3;
        for (std::uint64_t id = 1; id <= 2; ++id)
            record_.members.push_back({PeerId{id}, GroupId{0}, secret_of(id), {}, 0});
        GroupRecord group;
        group.view.epoch = ViewNumber{5};
        group.view.ring = {PeerId{1}, PeerId{2}};
        group.view.full_mesh = true;
        record_.groups = {group};
    }

    static Secret secret_of(std::uint64_t id) {
        Secret secret{};
        secret.fill(static_cast<std::uint8_t>(id + 100));
        return secret;
    }
    void start() {
        MasterOptions options;
        options.journal = true;
        options.recovery_window = 5s;
        master_.emplace(
            options, [] { return Secret{}; }, record_);
        step(MasterTick{});
    }
    void step(const MasterInput &input) {
        MasterEffects effects;
        master_->step(now_, input, effects);
        for (auto &effect : effects) {
            if (auto *sent = std::get_if<SendToPeer>(&effect)) sent_[sent->conn].push_back(std::move(sent->message));
            if (auto *persist = std::get_if<Persist>(&effect)) persisted_ = persist->record;
        }
    }
    void send(ConnId conn, wire::ToMaster message) { step(Received{conn, std::move(message)}); }
    wire::Resume resume_of(std::uint64_t id) const {
        wire::Resume resume;
        resume.run = record_.run;
        resume.peer = PeerId{id};
        resume.secret = secret_of(id);
        resume.member = true;
        resume.view = record_.view;
        return resume;
    }
    ConnId connect() {
        const ConnId conn{next_conn_++};
        step(Connected{conn, {}});
        return conn;
    }
    ConnId come_back(const wire::Resume &resume) {
        const ConnId conn = connect();
        send(conn, resume);
        return conn;
    }
    /// The report of both members of an undisturbed run.
    wire::RecoveryReport account_of(std::uint64_t id) const {
        wire::RecoveryReport account;
        account.view = account.epoch = record_.view;
        account.generation = record_.generation;
        account.links = {{PeerId{3 - id}, 1, ViewNumber{4}, true, 50}};
        return account;
    }
    ConnId recover(std::uint64_t id, const wire::RecoveryReport &account) {
        const ConnId conn = come_back(resume_of(id));
        send(conn, account);
        return conn;
    }
    template <class M> std::vector<M> received(ConnId conn) {
        std::vector<M> found;
        for (const auto &message : sent_[conn]) {
            if (const auto *m = std::get_if<M>(&message)) found.push_back(*m);
        }
        return found;
    }
    static OpId op(std::uint64_t tag, std::uint32_t seq = 0) { return {ViewNumber{5}, Tag{tag}, seq}; }

    Record record_;
    std::optional<Master> master_;
    std::shared_ptr<const Record> persisted_;
    Time now_{1s};
    std::uint64_t next_conn_ = 1;
    std::map<ConnId, std::vector<wire::ToPeer>> sent_;
};

TEST_F(RecoveryTest, ReturningMembersKeepTheirIdsAndContinue) {
    start();
    const ConnId a = recover(1, account_of(1)), b = recover(2, account_of(2));
    for (const auto &[conn, id] : {std::pair{a, 1}, std::pair{b, 2}}) {
        ASSERT_EQ(received<wire::Welcome>(conn).size(), 1U);
        EXPECT_EQ(received<wire::Welcome>(conn)[0].you.value, static_cast<std::uint64_t>(id));
        EXPECT_EQ(received<wire::Resumed>(conn).size(), 1U);
        EXPECT_TRUE(received<wire::Freeze>(conn).empty());
        EXPECT_TRUE(received<wire::View>(conn).empty());
    }
    send(a, wire::Done{{op(7)}});
    send(b, wire::Done{{op(7)}});
    EXPECT_EQ(received<wire::Commit>(a).size(), 1U);
}

TEST_F(RecoveryTest, WrongSecretDoesNotResumeAMember) {
    start();
    wire::Resume forged = resume_of(1);
    forged.secret.fill(1);
    const ConnId impostor = come_back(forged);
    ASSERT_EQ(received<wire::Removed>(impostor).size(), 1U);
    EXPECT_TRUE(received<wire::Welcome>(impostor).empty());
    EXPECT_EQ(received<wire::Welcome>(come_back(resume_of(1))).size(), 1U);
}

TEST_F(RecoveryTest, LateMemberIsRefusedWithAReason) {
    start();
    recover(1, account_of(1));
    now_ = now_ + 6s;
    step(MasterTick{});
    const ConnId late = come_back(resume_of(2));
    ASSERT_EQ(received<wire::Removed>(late).size(), 1U);
    EXPECT_THAT(received<wire::Removed>(late)[0].why, HasSubstr("call pcclConnect to join again"));
}

TEST_F(RecoveryTest, MissingMemberIsLostWithAFreezeAndAView) {
    start();
    const ConnId a = recover(1, account_of(1));
    EXPECT_TRUE(received<wire::Resumed>(a).empty());
    now_ = now_ + 6s;
    step(MasterTick{});
    EXPECT_EQ(received<wire::Resumed>(a).size(), 1U);
    ASSERT_EQ(received<wire::Freeze>(a).size(), 1U);
    send(a, wire::Frozen{received<wire::Freeze>(a)[0].freeze, {}});
    ASSERT_EQ(received<wire::View>(a).size(), 1U);
    EXPECT_EQ(received<wire::View>(a)[0].ring, std::vector<PeerId>{PeerId{1}});
    EXPECT_EQ(persisted_->members.size(), 1U);
}

TEST_F(RecoveryTest, OutdatedJournalIsNotResumedFrom) {
    start();
    wire::Resume resume = resume_of(1);
    resume.view = ViewNumber{6};
    const ConnId conn = come_back(resume);
    ASSERT_EQ(received<wire::Removed>(conn).size(), 1U);
    EXPECT_THAT(received<wire::Removed>(conn)[0].why, HasSubstr("the journal is out of date"));
}

TEST_F(RecoveryTest, CommitOfOneMemberIsSentToTheOther) {
    start();
    wire::RecoveryReport first = account_of(1), second = account_of(2);
    first.commits = 3;
    first.recent = {{{op(7)}}, {{op(8)}}};
    second.commits = 2;
    second.recent = {{{op(7)}}};
    second.done = {op(8)};
    const ConnId a = recover(1, first), b = recover(2, second);
    EXPECT_TRUE(received<wire::Commit>(a).empty());
    ASSERT_EQ(received<wire::Commit>(b).size(), 1U);
    EXPECT_EQ(received<wire::Commit>(b)[0].ops, std::vector<OpId>{op(8)});
}

TEST_F(RecoveryTest, ResultOfAllPresentIsCommittedBeforeTheFreeze) {
    start();
    wire::RecoveryReport account = account_of(1);
    account.done = {op(7)};
    const ConnId a = recover(1, account);
    now_ = now_ + 6s;
    step(MasterTick{});
    ASSERT_EQ(received<wire::Commit>(a).size(), 1U);
    EXPECT_EQ(received<wire::Freeze>(a).size(), 1U);
}

TEST_F(RecoveryTest, FailureOfOneMemberIsSentToTheOther) {
    start();
    wire::RecoveryReport first = account_of(1), second = account_of(2);
    first.failures = {{op(7), pcclInvalidUsage, false, "counts differ", PeerId{1}}};
    second.done = {op(7)};
    recover(1, first);
    const ConnId b = recover(2, second);
    ASSERT_EQ(received<wire::OpFailed>(b).size(), 1U);
    EXPECT_EQ(received<wire::OpFailed>(b)[0].why, "counts differ");
    EXPECT_EQ(received<wire::OpFailed>(b)[0].culprit, PeerId{1});
}

TEST_F(RecoveryTest, TagRoundOfOneMemberIsSentToTheOther) {
    start();
    wire::RecoveryReport first = account_of(1), second = account_of(2);
    first.forgotten = {{2, 7, {Tag{3}}}};
    second.forgotten = {{1, 5, {}}};
    const ConnId a = recover(1, first), b = recover(2, second);
    EXPECT_EQ(received<wire::ForgetTags>(a).size(), 0u);
    ASSERT_EQ(received<wire::ForgetTags>(b).size(), 1u);
    EXPECT_EQ(received<wire::ForgetTags>(b)[0].round, 2u);
    EXPECT_EQ(received<wire::ForgetTags>(b)[0].floor, 7u);
    EXPECT_EQ(received<wire::ForgetTags>(b)[0].keep, std::vector{Tag{3}});
}

TEST_F(RecoveryTest, CallThatEndedAtOneMemberEndsAtTheOther) {
    start();
    wire::RecoveryReport first = account_of(1), second = account_of(2);
    first.generation = 4;
    first.run_outcome = {7, {}, wire::Call::update_topology, pcclSuccess, 0, 0, ""};
    second.open = wire::Call::update_topology;
    second.open_number = 12;
    recover(1, first);
    const ConnId b = recover(2, second);
    ASSERT_EQ(received<wire::CallDone>(b).size(), 1U);
    EXPECT_EQ(received<wire::CallDone>(b)[0].call, 12U);
    EXPECT_EQ(received<wire::CallDone>(b)[0].generation, 4U);
}

TEST_F(RecoveryTest, CallWithoutAnOutcomeIsDecidedAgain) {
    start();
    wire::RecoveryReport first = account_of(1), second = account_of(2);
    first.open = second.open = wire::Call::update_topology;
    first.open_number = 4;
    second.open_number = 12;
    const ConnId a = recover(1, first), b = recover(2, second);
    EXPECT_TRUE(received<wire::CallDone>(b).empty());
    send(a, wire::VoteUpdate{4});
    send(b, wire::VoteUpdate{12});
    EXPECT_EQ(received<wire::CallDone>(a).size(), 1U);
    EXPECT_EQ(received<wire::CallDone>(b).size(), 1U);
}

TEST_F(RecoveryTest, LinkThatOnlyOneEndHasEndsTheEpoch) {
    start();
    wire::RecoveryReport second = account_of(2);
    second.links[0].up = false;
    const ConnId a = recover(1, account_of(1)), b = recover(2, second);
    EXPECT_EQ(received<wire::OpenLink>(a).size(), 1U);
    EXPECT_EQ(received<wire::Freeze>(a).size(), 1U);
    EXPECT_EQ(received<wire::Freeze>(b).size(), 1U);
}

TEST_F(RecoveryTest, NewcomerWaitsUntilTheMembersAreBack) {
    start();
    const ConnId newcomer = connect();
    send(newcomer, wire::Hello{});
    EXPECT_TRUE(received<wire::Welcome>(newcomer).empty());
    recover(1, account_of(1));
    recover(2, account_of(2));
    ASSERT_EQ(received<wire::Welcome>(newcomer).size(), 1U);
    EXPECT_EQ(received<wire::Welcome>(newcomer)[0].you, PeerId{65});
}

TEST_F(RecoveryTest, ReportFromAFutureEpochEndsTheConnection) {
    start();
    wire::RecoveryReport report = account_of(1);
    report.epoch = ViewNumber{99};
    const ConnId a = recover(1, report);
    EXPECT_EQ(received<wire::Removed>(a).size(), 1U);
}

TEST_F(RecoveryTest, GraphIsRestoredAndSentAgain) {
    auto &graph = record_.groups[0].graph;
    graph.spec = {wire::GraphKind::preferential, 2, 11};
    graph.epoch = 4;
    graph.changes = 2;
    graph.members = {PeerId{1}, PeerId{2}, PeerId{3}};  // 3 was lost with the last process
    graph.edges = {{PeerId{1}, PeerId{2}}, {PeerId{2}, PeerId{3}}};
    const auto again = decode_record(encode(record_));
    ASSERT_TRUE(again) << again.error().what;
    record_ = *again;
    start();
    const ConnId a = recover(1, account_of(1));
    recover(2, account_of(2));
    ASSERT_EQ(received<wire::Neighbours>(a).size(), 1U);
    EXPECT_EQ(received<wire::Neighbours>(a)[0].graph, graph.spec);
    EXPECT_EQ(received<wire::Neighbours>(a)[0].epoch, 4U);
    EXPECT_EQ(received<wire::Neighbours>(a)[0].neighbours, std::vector{PeerId{2}});
    EXPECT_TRUE(std::holds_alternative<wire::Neighbours>(sent_[a].back()));
}

TEST_F(RecoveryTest, JournalWithoutGraphsIsAccepted) {
    auto values = encode(record_);
    ASSERT_EQ(values.erase("group/0/graph"), 1U);
    EXPECT_TRUE(decode_record(values));
    record_.groups[0].graph.spec = {wire::GraphKind::random_regular, 1, 0};
    EXPECT_FALSE(decode_record(encode(record_))) << "an impossible graph";
}

}  // namespace
}  // namespace pccl::protocol
