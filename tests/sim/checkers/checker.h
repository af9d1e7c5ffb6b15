// The invariants of the protocol, each watched by a checker of its own that knows nothing of how the simulator works.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sim/observer.h"

namespace pccl::sim {

/// What was found wrong, in words; the first one is usually the cause of the rest.
struct Verdict {
    std::vector<std::string> violations;
    bool ok() const { return violations.empty(); }
};

class Checker : public Observer {
public:
    Checker(const char *name, Verdict &verdict) : name_(name), verdict_(verdict) {}

protected:
    void violated(const std::string &what) { verdict_.violations.push_back(std::string(name_) + ": " + what); }
    void require(bool holds, const std::string &what) {
        if (!holds) violated(what);
    }

private:
    const char *name_;
    Verdict &verdict_;
};

/// Two members never disagree on the outcome of an operation, nor on its result; and the n-th call with a tag, counted from an
/// update_topology on, succeeds at all members or at none.
std::unique_ptr<Checker> check_outcomes(Verdict &verdict);
/// View numbers at a member only grow, and all members of a view agree on what it is.
std::unique_ptr<Checker> check_views(Verdict &verdict);
/// No buffer is touched after its call has ended, and every call ends once.
std::unique_ptr<Checker> check_buffers(Verdict &verdict);
/// A peer that is gone never takes part in anything again under its old id.
std::unique_ptr<Checker> check_identity(Verdict &verdict);
/// The k-th answer of a generation is the same at all members of a group.
std::unique_ptr<Checker> check_answers(Verdict &verdict);
/// Where nobody dies but the master, which comes back, no call fails.
std::unique_ptr<Checker> check_continuity(Verdict &verdict);
/// After a synchronization all members hold the same content at the same revision.
std::unique_ptr<Checker> check_state(Verdict &verdict);
/// An element becomes final once at a member, of the values of all members of the ring there is then, and no ring grows under a repair.
std::unique_ptr<Checker> check_repairs(Verdict &verdict);
/// Where nothing fails but paths between nodes: nobody is removed as long as good paths make a ring of the group.
std::unique_ptr<Checker> check_exile(Verdict &verdict);
/// Where all nodes are of islands: the peers of one are admitted by one view, and all groups have as many members in every view.
std::unique_ptr<Checker> check_islands(Verdict &verdict);
/// Neighbours are mutual where both have heard of the same change of their graph, and of those who were in the group; changes only grow.
std::unique_ptr<Checker> check_graphs(Verdict &verdict);
/// No two operations of a member have one name, and a member never remembers more than `most` tags.
std::unique_ptr<Checker> check_tags(Verdict &verdict, std::size_t most);
/// Callers that keep the rules are never told that they broke them.
std::unique_ptr<Checker> check_legality(Verdict &verdict);

/// All of them; legality only where callers do keep the rules.
std::vector<std::unique_ptr<Checker>> all_checkers(Verdict &verdict, bool legal_callers);

}  // namespace pccl::sim
