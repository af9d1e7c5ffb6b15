// protocol/recovery.h: the combined knowledge of the members. protocol_recovery_test.cc tests the master that uses it.
#include "protocol/recovery.h"

#include <gtest/gtest.h>

namespace pccl::protocol {
namespace {

using namespace std::chrono_literals;
using wire::Call;

constexpr PeerId kA{1}, kB{2};
constexpr ViewNumber kEpoch{3};

OpId op(std::uint64_t tag) { return {kEpoch, Tag{tag}, 0}; }

wire::RecoveryReport report(std::uint64_t commits, std::vector<std::uint64_t> recent_tags) {
    wire::RecoveryReport report;
    report.view = report.epoch = kEpoch;
    report.commits = commits;
    for (const auto tag : recent_tags)
        report.recent.push_back({{op(tag)}});
    return report;
}

TEST(MergeGroup, MemberBehindReceivesTheMissingCommits) {
    const RecoveryReports reports{{kA, report(3, {11, 12})}, {kB, report(1, {10})}};
    const auto known = merge_group(kEpoch, {}, reports);
    EXPECT_EQ(known.commit_count, 3U);
    const auto missed = missed_decisions(reports.at(kB), kEpoch, known);
    ASSERT_EQ(missed.size(), 2U);
    EXPECT_EQ(std::get<wire::Commit>(missed[0]).ops, std::vector{op(11)});
    EXPECT_EQ(std::get<wire::Commit>(missed[1]).ops, std::vector{op(12)});
    EXPECT_TRUE(missed_decisions(reports.at(kA), kEpoch, known).empty());
}

TEST(MergeGroup, CommittedOrFailedOperationIsNotDone) {
    auto first = report(1, {10}), second = report(0, {});
    second.done = {op(10), op(11), op(12)};
    first.failures.push_back({op(12), pcclInvalidUsage, false, "", {}});
    const auto known = merge_group(kEpoch, {}, {{kA, first}, {kB, second}});
    EXPECT_EQ(known.done, (std::map<OpId, std::set<PeerId>>{{op(11), {kB}}}));
    EXPECT_EQ(missed_decisions(second, kEpoch, known).size(), 2U);
}

TEST(MergeGroup, MemberOfAnEarlierEpochAddsNoCommits) {
    auto old = report(9, {});
    old.epoch = ViewNumber{2};
    const auto known = merge_group(kEpoch, {}, {{kA, old}, {kB, report(1, {10})}});
    EXPECT_EQ(known.commit_count, 1U);
    EXPECT_TRUE(missed_decisions(old, kEpoch, known).empty());
}

TEST(MergeGroup, LatestOutcomeAndRoundWin) {
    auto first = report(0, {}), second = report(0, {});
    first.group_outcome.decision = 4;
    first.forgotten = {{1, 5, {}}};
    second.forgotten = {{2, 8, {}}};
    const auto known = merge_group(kEpoch, {}, {{kA, first}, {kB, second}});
    EXPECT_EQ(known.outcome.decision, 4U);
    EXPECT_EQ(known.forgotten->floor, 8U);
}

TEST(MissedOutcome, EndedCallIsAnsweredAtAMemberThatIsInIt) {
    wire::CallOutcome run;
    run.decision = 5;
    run.kind = Call::update_topology;
    auto waiting = report(0, {});
    waiting.open = Call::update_topology;
    waiting.open_number = 7;
    waiting.run_outcome.decision = 4;
    const auto missed = missed_outcome(waiting, 2, run, {});
    ASSERT_TRUE(missed);
    EXPECT_EQ(std::get<wire::CallDone>(*missed).call, 7U);
    waiting.run_outcome.decision = 5;
    EXPECT_FALSE(missed_outcome(waiting, 2, run, {})) << "it is in its next call already";
    waiting.run_outcome.decision = 4;
    waiting.aborted = true;
    EXPECT_FALSE(missed_outcome(waiting, 2, run, {}));
}

TEST(MissedOutcome, CommittedSynchronizationIsSentAgain) {
    wire::CallOutcome group;
    group.decision = 2;
    group.epoch = kEpoch;
    group.kind = Call::sync_shared_state;
    group.sync = 8;
    auto waiting = report(0, {});
    waiting.open = Call::sync_shared_state;
    waiting.group_outcome.decision = 1;
    const auto missed = missed_outcome(waiting, 2, {}, group);
    ASSERT_TRUE(missed);
    EXPECT_EQ(std::get<wire::SyncCommit>(*missed).sync, 8U);
}

TEST(RecoveryWindow, MemberThatLeftHasNoPartInTheOutcome) {
    Recovery recovery;
    EXPECT_FALSE(recovery.started());
    recovery.start(Time{5s});
    recovery.report(kA, report(0, {}));
    recovery.report(kB, report(0, {}));
    recovery.leave(kB);
    recovery.disconnect(kA);
    EXPECT_FALSE(recovery.is_settled(kA));
    EXPECT_TRUE(recovery.is_settled(kB));
    recovery.report(kA, report(0, {}));
    EXPECT_EQ(recovery.present().size(), 1U);
    EXPECT_TRUE(recovery.has_left(kB));
}

TEST(RecoveryReport, ContradictionIsNotWellFormed) {
    EXPECT_TRUE(well_formed(report(1, {10}), kEpoch, kEpoch));
    EXPECT_FALSE(well_formed(report(0, {10}), kEpoch, kEpoch));
    EXPECT_FALSE(well_formed(report(1, {10}), ViewNumber{2}, kEpoch));
    EXPECT_FALSE(well_formed(report(1, {10}), kEpoch, ViewNumber{2}));
}

}  // namespace
}  // namespace pccl::protocol
