// Neighbours for gossip: the graph that a group's members ask for. It is repaired as members join and leave, and each member
// receives its own neighbours.
//
// A graph depends on the one before it, so the master and its journal keep it, and a newcomer gets the same graph as all other
// members.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

wire::Neighbours Master::neighbours_of(const Peer &peer, std::uint32_t call) const {
    const Group &group = groups_.at(peer.group);
    return {call, pcclSuccess, "", group.graph.spec(), group.graph_epoch, group.graph.neighbours(peer.id)};
}

/// The first request decides. A request for another graph is refused until a request of kind none deletes the graph.
void Master::on(Peer &peer, const wire::SetGraph &asked) {
    Group &group = groups_.at(peer.group);
    const auto &now = group.graph.spec();
    const auto refused = [&](pcclResult_t code, const std::string &why) {
        send(peer, wire::Neighbours{asked.call, code, why, now, group.graph_epoch, {}});
    };
    if (!asked.graph.well_formed())
        return refused(pcclInvalidArgument, "invalid graph: its kind allows no degree of " + std::to_string(asked.graph.degree));
    if (now == asked.graph) return send(peer, neighbours_of(peer, asked.call));
    if (now.kind != wire::GraphKind::none && asked.graph.kind != wire::GraphKind::none) {
        return refused(pcclInvalidUsage, "the group has another graph: kind " + std::to_string(static_cast<int>(now.kind)) +
                                             ", degree " + std::to_string(now.degree) + ", seed " + std::to_string(now.seed));
    }
    group.graph = topology::Graph(asked.graph);
    const auto members = members_of(peer.group);
    group.graph.update({members.begin(), members.end()});
    ++group.graph_epoch;
    changed_ = true;
    for (const PeerId id : members)
        send(peers_.at(id), neighbours_of(peers_.at(id), id == peer.id ? asked.call : 0));
}

/// Called after the view that changed the members was sent.
void Master::update_graph(GroupId id) {
    Group &group = groups_.at(id);
    const auto members = members_of(id);
    if (group.graph.spec().kind == wire::GraphKind::none || !group.graph.update({members.begin(), members.end()})) return;
    ++group.graph_epoch;
    for (const PeerId member : members)
        send(peers_.at(member), neighbours_of(peers_.at(member), 0));
}

}  // namespace pccl::protocol
