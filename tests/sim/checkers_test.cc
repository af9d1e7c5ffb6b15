// The checkers are worth something: each breach of the protocol, made on purpose, is caught.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "data_plane.h"
#include "simulation.h"

namespace pccl::sim {
namespace {

/// How many of `kRuns` runs of a profile are found to be wrong, and what is said about the first.
struct Found {
    int runs = 0;
    std::string first;
};
constexpr std::uint64_t kRuns = 10;

Found sabotaged(const char *profile, std::function<void(Cluster &)> sabotage) {
    Found found;
    for (std::uint64_t seed = 1; seed <= kRuns; ++seed) {
        const RunReport report = run({find_profile(profile), seed, nullptr, sabotage});
        if (report.violations.empty()) continue;
        if (found.runs++ == 0) found.first = report.violations.front();
    }
    return found;
}

/// Lets the `nth` message of a kind be changed by `change`, which says whether it is sent at all.
template <class M, class Change> auto at_message(int nth, Change change) {
    return [=](Cluster &cluster) {
        cluster.tamper_master = [=, seen = 0](const Node &node, wire::ToPeer &message) mutable {
            auto *m = std::get_if<M>(&message);
            return !m || ++seen != nth || change(node, message, *m);
        };
    };
}
template <class E> auto without_effect(int nth) {
    return [=](Cluster &cluster) {
        cluster.tamper_peer = [=, seen = 0](const Node &, protocol::PeerEffect &effect) mutable {
            return !std::holds_alternative<E>(effect) || ++seen != nth;
        };
    };
}

using testing::HasSubstr;

TEST(Checkers, OneMembersCommitTurnedIntoAFailure) {
    const auto found = sabotaged("calm", at_message<wire::Commit>(3, [](const Node &, wire::ToPeer &message, wire::Commit &m) {
                                     message = wire::OpFailed{m.ops.front(), pcclRankConnectionLost, false, "sabotage"};
                                     return true;
                                 }));
    EXPECT_EQ(found.runs, kRuns);
    EXPECT_THAT(found.first, HasSubstr("outcomes"));
}

TEST(Checkers, OneMembersCommitLostBeforeAChangeOfView) {
    const auto found =
        sabotaged("crash", at_message<wire::Commit>(2, [](const Node &, wire::ToPeer &, wire::Commit &) { return false; }));
    EXPECT_GT(found.runs, 2);  // the one that it was meant for may die before it matters
}

TEST(Checkers, OneMembersRingInAnotherOrder) {
    const auto found = sabotaged("calm", [](Cluster &cluster) {
        cluster.tamper_master = [done = false](const Node &, wire::ToPeer &message) mutable {
            auto *view = std::get_if<wire::View>(&message);
            if (!view || view->ring.size() < 2 || done) return true;
            done = true;
            std::swap(view->ring[0], view->ring[1]);
            return true;
        };
    });
    EXPECT_GT(found.runs, static_cast<int>(kRuns / 2));
    EXPECT_THAT(found.first, HasSubstr("views"));
}

TEST(Checkers, OneMembersAnswerTurnedRound) {
    const auto found = sabotaged("calm", [](Cluster &cluster) {
        cluster.tamper_master = [seen = 0](const Node &node, wire::ToPeer &message) mutable {
            auto *answer = std::get_if<wire::PendingAnswer>(&message);
            if (answer && node.peer->world().group > 1 && ++seen == 4) answer->pending = !answer->pending;
            return true;
        };
    });
    EXPECT_GT(found.runs, 0);  // of programs that ask
    EXPECT_THAT(found.first, HasSubstr("answers"));
}

TEST(Checkers, AnEndOfACallThatIsLost) {
    const auto found = sabotaged(
        "calm", at_message<wire::SyncCommit>(3, [](const Node &, wire::ToPeer &, wire::SyncCommit &) { return false; }));
    EXPECT_EQ(found.runs, kRuns);
}

TEST(Checkers, APlanThatLeavesOutATensor) {
    const auto found = sabotaged("calm", [](Cluster &cluster) {
        cluster.tamper_master = [](const Node &, wire::ToPeer &message) {
            if (auto *plan = std::get_if<wire::SyncPlan>(&message); plan && plan->pull.size() > 1) plan->pull.pop_back();
            return true;
        };
    });
    EXPECT_GT(found.runs, 0);
    EXPECT_THAT(found.first, HasSubstr("state"));
}

TEST(Checkers, ABufferThatStaysInUse) {
    const auto found = sabotaged("calm", without_effect<protocol::EndOp>(2));
    EXPECT_EQ(found.runs, kRuns);
    EXPECT_THAT(found.first, HasSubstr("buffers"));
}

TEST(Checkers, ACallThatReturnsTwice) {
    const auto found = sabotaged("calm", [](Cluster &cluster) {
        cluster.tamper_peer = [last = CallId{}](const Node &, protocol::PeerEffect &effect) mutable {
            if (auto *complete = std::get_if<protocol::Complete>(&effect)) std::swap(complete->call, last);
            return true;
        };
    });
    EXPECT_EQ(found.runs, kRuns);
}

TEST(Checkers, AContributionChangedOnItsWay) {
    const auto found = sabotaged("calm", [](Cluster &cluster) {
        cluster.data().tamper = [seen = 0](const Node &, const Node &, std::uint64_t &content) mutable {
            content += ++seen == 5;
        };
    });
    EXPECT_EQ(found.runs, kRuns);
    EXPECT_THAT(found.first, HasSubstr("different results"));
}

TEST(Checkers, AMemberThatIsNotToldWhatIsFinalElsewhere) {
    const auto found = sabotaged("repair", [](Cluster &cluster) {
        cluster.tamper_master = [done = false](const Node &, wire::ToPeer &message) mutable {
            auto *view = std::get_if<wire::View>(&message);
            if (!view || done) return true;
            for (auto &op : view->repaired) {
                done = done || !op.holdings.empty();
                op.holdings.clear();
            }
            return true;
        };
    });
    EXPECT_GT(found.runs, 0);
}

TEST(Checkers, ValuesAndFinalElementsChangedOnTheirWayToOneMember) {
    const auto found = sabotaged("repair", [](Cluster &cluster) {
        cluster.data().tamper = [](const Node &, const Node &to, std::uint64_t &content) { content += to.index == 1; };
    });
    EXPECT_GT(found.runs, static_cast<int>(kRuns / 2));
    EXPECT_THAT(found.first, HasSubstr("different results"));
}

}  // namespace
}  // namespace pccl::sim
