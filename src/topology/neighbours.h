// Who gossips with whom: a graph over the members of a group, grown from a seed and mended as members come and go. Pure and deterministic.
//
// Guarantee: over n members a graph is connected, and each member has at least min(degree, n - 1) neighbours (a ring: min(2, n - 1)).
// Of a random regular graph each has no more, but one where degree x n is odd, and few after members were lost. A member that
// comes or goes changes a number of edges that depends on the degree, not on n; but an exponential graph, which is its members'
// places in their order and nothing else, changes as a whole.
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
    /// As it was: `edges` of random_regular and preferential ones, among these members.
    Graph(const GraphSpec &spec, std::uint64_t changes, const std::vector<PeerId> &members, const std::vector<Edge> &edges);

    const GraphSpec &spec() const { return spec_; }
    /// How often the members have changed: what is chosen then follows from the seed and from this.
    std::uint64_t changes() const { return changes_; }
    std::vector<PeerId> members() const;

    /// Makes it a graph over these members. False: it is one.
    bool update(const std::set<PeerId> &members);

    /// Whom that member sends to. Of an exponential graph in the order of its phases, else ascending. Nobody, of who is no member.
    std::vector<PeerId> neighbours(PeerId of) const;
    /// What update() chose; none of a ring and an exponential one.
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
    Sides near_;  ///< a member's neighbours; empty sets of rings and exponential graphs
};

}  // namespace pccl::topology
