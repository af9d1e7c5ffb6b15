// The neighbour graph of a group: it is generated from a seed and repaired when members join and leave. Pure and deterministic.
//
// Guarantee: a graph over n members is connected, and each member has at least min(degree, n - 1) neighbours (min(2, n - 1) in a
// ring). In a random regular graph no member has more, except one member where degree x n is odd and a small number of members
// after a loss. When a member joins or leaves, the number of changed edges depends on the degree and not on n. An exponential
// graph is different: it is defined by the members' positions alone, so it changes as a whole.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "wire/graph.h"

namespace pccl::topology {

using wire::GraphKind;
using wire::GraphSpec;

class Graph {
public:
    using Edge = std::pair<PeerId, PeerId>;  ///< the smaller id first

    explicit Graph(const GraphSpec &spec = {}) : spec_(spec) {}
    /// Restores a saved graph. `edges` are the edges of a random_regular or preferential graph among `members`.
    Graph(const GraphSpec &spec, std::uint64_t changes, const std::vector<PeerId> &members, const std::vector<Edge> &edges);

    const GraphSpec &spec() const { return spec_; }
    /// The number of membership changes. Random choices depend on the seed and on this number.
    std::uint64_t changes() const { return changes_; }
    std::vector<PeerId> members() const;

    /// Changes the graph to one over `members`. Returns false if it is one already.
    bool update(const std::set<PeerId> &members);

    /// The members that `of` sends to: in the order of phases in an exponential graph, in ascending order in others. Empty if
    /// `of` is not a member.
    std::vector<PeerId> neighbours(PeerId of) const;
    /// The edges that update() chose. Empty for a ring and an exponential graph.
    std::vector<Edge> edges() const;

private:
    struct Random;
    using Sides = std::map<PeerId, std::set<PeerId>>;

    void link(PeerId a, PeerId b);
    void cut(PeerId a, PeerId b);
    bool linked(PeerId a, PeerId b) const { return near_.at(a).contains(b); }
    std::size_t least() const;
    void insert_regular(PeerId member, Random &random);
    std::vector<PeerId> ends_of_edges() const;
    void insert_preferential(PeerId member, std::vector<PeerId> &ends, Random &random);
    void fill(Random &random);
    bool make_way(PeerId member, Random &random);
    bool take_over(PeerId member, Random &random);
    PeerId choose(PeerId member, Random &random) const;
    std::vector<std::vector<PeerId>> parts() const;
    void join_parts();
    void trim();

    GraphSpec spec_;
    std::uint64_t changes_ = 0;
    Sides near_;  ///< the neighbours of each member; the sets are empty in a ring and an exponential graph
};

}  // namespace pccl::topology
