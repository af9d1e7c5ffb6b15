// This peer's place in the run: joining, admitting newcomers, and agreeing on the shared state.
//
// Guarantee: what a member does next depends on nothing but the outcomes of calls that end alike at all members, so all of them make the
// same calls in the same order. Runs on the trainer's thread; everything blocks.
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
    bool founder_leads = false;  ///< where members' states differ: those who join are given one, and the first to come has the first
};

/// What one synchronization did here.
struct Agreed {
    bool synchronized = false;
    bool received = false;  ///< bytes came: what this peer held was another content
    bool newcomer = false;  ///< it was this peer's first since it joined
    std::uint64_t tx_bytes = 0;
    std::uint64_t rx_bytes = 0;
};

class Membership {
public:
    /// Describes the shared state as it is now, to be offered and overwritten.
    using State = std::function<std::vector<pcclTensorInfo_t>()>;

    Membership(Collectives &collectives, Agreement &agreement, const std::atomic<bool> &interrupted, MembershipOptions options, State state);

    /// Connects if need be, and settles. Tries for as long as the options say. A state that is not `usable` is never given to others; where no
    /// member has one that is, this fails with pcclNoSharedStateAvailable.
    Outcome join(Agreed &agreed, bool usable = true);
    /// Makes no call on the communicator from here on, until join().
    void retire() { drop_question(); }
    /// Asks whether newcomers wait. The same answer at all members: that of the k-th question to the k-th question, of any group of an island.
    Outcome newcomers_wait(bool &wait);
    /// Asks now, in the background, what newcomers_wait() will be asked next: it need not wait for the master then. Who was quick to ask and
    /// who did not ask ahead get the same answer.
    void ask_ahead() { question_.begin(); }
    /// Admits them if they do. `grown`: some were, and settle() has to follow.
    Outcome admit(bool &grown);
    /// Until the group has `min_peers` and all agree on the state.
    Outcome settle(Agreed &agreed);
    /// settle() agrees once more, though nobody has joined. `own`: this peer's state has no vote, and it is given all that members hold.
    void distrust(bool own = false) {
        unsynchronized_ = true;
        takes_ = own;
    }
    /// One synchronization, repeated while peers are lost in it.
    Outcome synchronize(pcclSharedStateSyncStrategy_t strategy, Agreed &agreed);

    std::uint32_t world() const { return world_; }
    void saw(std::uint32_t world) { world_ = world; }
    /// All members have joined since the last synchronization and will agree for the first time. Equal at all members.
    bool founding() const { return founding_; }
    /// The state has changed, at all members alike.
    void changed() { ++revision_; }
    std::uint64_t revision() const { return revision_; }
    /// What this peer holds is older than what any member has.
    void outdated() { revision_ = 0; }
    /// Of a state that was read from a file.
    void set_revision(std::uint64_t revision) { revision_ = revision; loaded_ = true; }

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
    bool takes_ = false;   ///< its next state comes from others
    bool usable_ = true;   ///< its own would do if there were no others
    std::atomic<bool> dropped_{false};  ///< nobody waits for the question any more
    Question question_;
};

}  // namespace pccl::train
