// Neighbours for gossip: the graph that a group's members ask for, mended as they come and go, and told to each as far as it concerns it.
//
// What the graph is follows from what it was, so the master keeps it, and its journal does; a newcomer agrees with all others for that.
#include "protocol/master.h"

#include <algorithm>

namespace pccl::protocol {

wire::Neighbours Master::neighbours_of(const Peer &peer, std::uint32_t call) const {
    const Group &group = groups_.at(peer.group);
    return {call, pcclSuccess, "", group.graph.spec(), group.graph_epoch, group.graph.neighbours(peer.id)};
}

/// The first who asks decides; who asks for another one is told so. With kind none there is no graph any more.
void Master::on_set_graph(Peer &peer, const wire::SetGraph &asked) {
    Group &group = groups_.at(peer.group);
    const auto &now = group.graph.spec();
    const auto refused = [&](pcclResult_t code, const std::string &why) {
        send(peer, wire::Neighbours{asked.call, code, why, now, group.graph_epoch, {}});
    };
    if (!asked.graph.well_formed()) return refused(pcclInvalidArgument, "no graph has such a degree");
    if (now == asked.graph) return send(peer, neighbours_of(peer, asked.call));
    if (now.kind != wire::GraphKind::none && asked.graph.kind != wire::GraphKind::none) {
        return refused(pcclInvalidUsage, "the group has another graph: kind " + std::to_string(static_cast<int>(now.kind)) + ", degree " +
                                             std::to_string(now.degree) + ", seed " + std::to_string(now.seed));
    }
    group.graph = topology::Graph(asked.graph);
    const auto members = members_of(peer.group);
    group.graph.update({members.begin(), members.end()});
    ++group.graph_epoch;
    changed_ = true;
    for (const PeerId id : members) send(peers_.at(id), neighbours_of(peers_.at(id), id == peer.id ? asked.call : 0));
}

/// After the view that says who the members are.
void Master::update_graph(GroupId id) {
    Group &group = groups_.at(id);
    const auto members = members_of(id);
    if (group.graph.spec().kind == wire::GraphKind::none || !group.graph.update({members.begin(), members.end()})) return;
    ++group.graph_epoch;
    for (const PeerId member : members) send(peers_.at(member), neighbours_of(peers_.at(member), 0));
}

}  // namespace pccl::protocol
