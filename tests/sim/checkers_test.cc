// The checkers notice violations: each test breaks the protocol on purpose and expects a checker to report it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "data_plane.h"
#include "simulation.h"

namespace pccl::sim {
namespace {

/// The number of runs (of `kRuns`) in which a checker reports a violation, and the first report.
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

/// Passes the `nth` message of a type to `change`, which may modify it. If `change` returns false, the message is not sent.
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

TEST(Checkers, NoticeACommitThatBecameAFailure) {
    const auto found = sabotaged("calm", at_message<wire::Commit>(3, [](const Node &, wire::ToPeer &message, wire::Commit &m) {
                                     message = wire::OpFailed{m.ops.front(), pcclRankConnectionLost, false, "sabotage"};
                                     return true;
                                 }));
    EXPECT_EQ(found.runs, kRuns);
    EXPECT_THAT(found.first, HasSubstr("outcomes"));
}

TEST(Checkers, NoticeACommitLostBeforeAChangeOfView) {
    const auto found =
        sabotaged("crash", at_message<wire::Commit>(2, [](const Node &, wire::ToPeer &, wire::Commit &) { return false; }));
    EXPECT_GT(found.runs, 2);  // the receiver may die before it matters
}

TEST(Checkers, NoticeARingInAnotherOrder) {
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

TEST(Checkers, NoticeAnInvertedAnswer) {
    const auto found = sabotaged("calm", [](Cluster &cluster) {
        cluster.tamper_master = [seen = 0](const Node &node, wire::ToPeer &message) mutable {
            auto *answer = std::get_if<wire::PendingAnswer>(&message);
            if (answer && node.peer->world().group > 1 && ++seen == 4) answer->pending = !answer->pending;
            return true;
        };
    });
    EXPECT_GT(found.runs, 0);  // only in runs whose programs ask
    EXPECT_THAT(found.first, HasSubstr("answers"));
}

TEST(Checkers, NoticeALostEndOfACall) {
    const auto found = sabotaged(
        "calm", at_message<wire::SyncCommit>(3, [](const Node &, wire::ToPeer &, wire::SyncCommit &) { return false; }));
    EXPECT_EQ(found.runs, kRuns);
}

TEST(Checkers, NoticeAPlanThatLacksATensor) {
    const auto found = sabotaged("calm", [](Cluster &cluster) {
        cluster.tamper_master = [](const Node &, wire::ToPeer &message) {
            if (auto *plan = std::get_if<wire::SyncPlan>(&message); plan && plan->pull.size() > 1) plan->pull.pop_back();
            return true;
        };
    });
    EXPECT_GT(found.runs, 0);
    EXPECT_THAT(found.first, HasSubstr("state"));
}

TEST(Checkers, NoticeABufferThatStaysInUse) {
    const auto found = sabotaged("calm", without_effect<protocol::EndOp>(2));
    EXPECT_EQ(found.runs, kRuns);
    EXPECT_THAT(found.first, HasSubstr("buffers"));
}

TEST(Checkers, NoticeACallThatReturnsTwice) {
    const auto found = sabotaged("calm", [](Cluster &cluster) {
        cluster.tamper_peer = [last = CallId{}](const Node &, protocol::PeerEffect &effect) mutable {
            if (auto *complete = std::get_if<protocol::Complete>(&effect)) std::swap(complete->call, last);
            return true;
        };
    });
    EXPECT_EQ(found.runs, kRuns);
}

TEST(Checkers, NoticeAChangedContribution) {
    const auto found = sabotaged("calm", [](Cluster &cluster) {
        cluster.data().tamper = [seen = 0](const Node &, const Node &, std::uint64_t &content) mutable {
            content += ++seen == 5;
        };
    });
    EXPECT_EQ(found.runs, kRuns);
    EXPECT_THAT(found.first, HasSubstr("different results"));
}

TEST(Checkers, NoticeARepairThatLacksFinalElements) {
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

TEST(Checkers, NoticeChangedFinalElementsInARepair) {
    const auto found = sabotaged("repair", [](Cluster &cluster) {
        cluster.data().tamper = [](const Node &, const Node &to, std::uint64_t &content) { content += to.index == 1; };
    });
    EXPECT_GT(found.runs, static_cast<int>(kRuns / 2));
    EXPECT_THAT(found.first, HasSubstr("different results"));
}

}  // namespace
}  // namespace pccl::sim
