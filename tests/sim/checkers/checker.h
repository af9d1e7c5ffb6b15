// The invariants of the protocol. Each has a checker of its own, which sees only what Observer reports.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sim/observer.h"

namespace pccl::sim {

/// The violations as text. The first one is usually the cause of the rest.
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

/// Two members never disagree on the outcome of an operation, nor on its result. The n-th call with a tag, counted from an
/// update_topology, succeeds at all members or at none.
std::unique_ptr<Checker> check_outcomes(Verdict &verdict);
/// View numbers at a member only grow, and all members of a view receive the same contents.
std::unique_ptr<Checker> check_views(Verdict &verdict);
/// No buffer is touched after its call has ended, and every call ends once.
std::unique_ptr<Checker> check_buffers(Verdict &verdict);
/// A peer whose membership has ended is never a member again under its old id.
std::unique_ptr<Checker> check_identity(Verdict &verdict);
/// The k-th answer of a generation to are_peers_pending is the same at all members of a group.
std::unique_ptr<Checker> check_answers(Verdict &verdict);
/// In runs where only the master dies, and is started again, no call fails.
std::unique_ptr<Checker> check_continuity(Verdict &verdict);
/// After a synchronization all members hold the same content at the same revision.
std::unique_ptr<Checker> check_state(Verdict &verdict);
/// An element becomes final once at a member, from the values of all members of the ring at that time. No ring grows during a
/// repair.
std::unique_ptr<Checker> check_repairs(Verdict &verdict);
/// In runs where only paths between nodes fail, nobody is removed while good paths form a ring of the group.
std::unique_ptr<Checker> check_removals(Verdict &verdict);
/// In runs where all nodes belong to islands, the peers of an island are admitted by one view, and all groups have equally many
/// members in every view.
std::unique_ptr<Checker> check_islands(Verdict &verdict);
/// Two members that have received the same change of their graph are neighbours of each other or neither is. Neighbours are
/// members of the group. The numbers of changes only grow.
std::unique_ptr<Checker> check_graphs(Verdict &verdict);
/// No two operations of a member have the same name, and a member never holds counters of more than `most` tags.
std::unique_ptr<Checker> check_tags(Verdict &verdict, std::size_t most);
/// Callers that follow the rules of the interface never receive an error that blames them.
std::unique_ptr<Checker> check_legality(Verdict &verdict);

/// The checkers that suit every profile. Legality is included only if the callers follow the rules (`legal_callers`).
std::vector<std::unique_ptr<Checker>> all_checkers(Verdict &verdict, bool legal_callers);

}  // namespace pccl::sim
