// This peer's place in the run: joining, admitting newcomers, and agreeing on the shared state.
//
// Guarantee: the next action of a member depends only on the outcomes of calls that end the same way at all members, so all
// members make the same calls in the same order. Runs on the trainer's thread. All functions block.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "train/agreement.h"
#include "train/collectives.h"
#include "train/outcome.h"
#include "train/question.h"

namespace pccl::train {

struct MembershipOptions {
    std::uint32_t min_peers = 1;
    std::chrono::milliseconds rejoin{600'000};
    bool optimize_topology = false;
    std::uint64_t barrier_tag = 0;
    /// For members whose states differ: a joining peer receives a state, and the run's first peer provides the first one.
    bool founder_leads = false;
};

/// The effects of one synchronization at this peer.
struct Agreed {
    bool synchronized = false;
    bool received = false;  ///< bytes were received because this peer held another content
    bool newcomer = false;  ///< it was this peer's first since it joined
    std::uint64_t tx_bytes = 0;
    std::uint64_t rx_bytes = 0;
};

class Membership {
public:
    /// Describes the present shared state, which is offered and can be overwritten.
    using State = std::function<std::vector<pcclTensorInfo_t>()>;

    Membership(Collectives &collectives, Agreement &agreement, const std::atomic<bool> &interrupted, MembershipOptions options,
               State state);

    /// Connects if necessary, and settles. Retries for MembershipOptions::rejoin. A state that is not `usable` is never sent to
    /// others. If no member has a usable state, this fails with pcclNoSharedStateAvailable.
    Outcome join(Agreed &agreed, bool usable = true);
    /// After this, no call is made on the communicator until join().
    void retire() { drop_question(); }
    /// Asks whether newcomers wait. The k-th question has the same answer at all members, and in all groups of an island.
    Outcome newcomers_wait(bool &wait);
    /// Asks the next question of newcomers_wait() now, in the background, so that newcomers_wait() need not wait for the master.
    /// A member that asks ahead and a member that does not get the same answer.
    void ask_ahead() { question_.begin(); }
    /// Admits newcomers if some wait. `grown`: some were admitted, and the caller must call settle() next.
    Outcome admit(bool &grown);
    /// Blocks until the group has `min_peers` members and all agree on the state.
    Outcome settle(Agreed &agreed);
    /// Makes settle() synchronize again although no peer has joined. `own`: this peer's state has no vote, and it receives the
    /// members' state.
    void distrust(bool own = false) {
        unsynchronized_ = true;
        takes_ = own;
    }
    /// One synchronization, repeated while peers are lost during it.
    Outcome synchronize(pcclSharedStateSyncStrategy_t strategy, Agreed &agreed);

    std::uint32_t world() const { return world_; }
    void saw(std::uint32_t world) { world_ = world; }
    /// True if all members have joined since the last synchronization, so that the next one is their first. Equal at all members.
    bool founding() const { return founding_; }
    /// The state has changed in the same way at all members.
    void changed() { ++revision_; }
    std::uint64_t revision() const { return revision_; }
    /// This peer's state is older than the state of any member.
    void outdated() { revision_ = 0; }
    /// Sets the revision of a state that was read from a file.
    void set_revision(std::uint64_t revision) {
        revision_ = revision;
        loaded_ = true;
    }

private:
    Outcome connect(Clock::Time deadline);
    Outcome ask(bool &wait);
    void prefer_the_runs();
    Outcome count_members();
    void drop_question();
    Outcome take(Agreed &agreed);
    bool lost(const Outcome &outcome) const { return outcome.code == pcclRankConnectionLost && !interrupted_; }

    Collectives &collectives_;
    Agreement &agreement_;
    const std::atomic<bool> &interrupted_;
    const MembershipOptions options_;
    const State state_;
    std::uint64_t revision_ = 0;
    std::uint32_t world_ = 0;
    bool newcomer_ = false;
    bool founding_ = false;
    bool unsynchronized_ = false;
    bool loaded_ = false;
    bool takes_ = false;                ///< this peer receives its next state from others
    bool usable_ = true;                ///< this peer's own state can be used if there are no others
    std::atomic<bool> dropped_{false};  ///< the answer to the question is no longer wanted
    Question question_;
};

}  // namespace pccl::train
