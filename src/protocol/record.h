// What a master must not forget when its process ends: enough to find its run again when a new process takes its place.
//
// A record changes when the membership does or shared state was synchronized, never with an operation: what became of those the
// members tell the new process (wire::RecoveryReport). It travels as named values, so that a journal writes only those that changed.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/ids.h"
#include "base/result.h"
#include "wire/messages.h"

namespace pccl::protocol {

struct MemberRecord {
    PeerId id;
    GroupId group;
    Secret secret{};
    SocketAddress address;
    std::uint32_t lanes = 0;
    std::uint64_t island = 0;  ///< written apart, and only where there are islands
    std::uint32_t island_peers = 0;
};
template <class V> void visit(V &v, MemberRecord &m) {
    v(m.id);
    v(m.group);
    v(m.secret);
    v(m.address);
    v(m.lanes);
}

struct EdgeRecord {
    PeerId first, second;
};
template <class V> void visit(V &v, EdgeRecord &m) {
    v(m.first);
    v(m.second);
}

/// A group's graph of neighbours.
struct GraphRecord {
    wire::GraphSpec spec;
    std::uint64_t epoch = 0, changes = 0;
    std::vector<PeerId> members;
    std::vector<EdgeRecord> edges;  ///< that were chosen
};

struct GroupRecord {
    GroupId id;
    wire::View view;      ///< the one that began its epoch; `number`, `groups` and `generation` mean nothing
    wire::CallOutcome answer;  ///< of its last synchronization
    bool synced = false;
    std::uint64_t revision = 0;
    std::vector<PeerId> last_members;        ///< that took part in it
    std::vector<wire::TensorOffer> schema;  ///< hashes of no meaning
    GraphRecord graph;
};

/// What was measured between two peers, the smaller id first.
struct PathRecord {
    PeerId first, second;
    double mbit_forth = 0, mbit_back = 0;
};
template <class V> void visit(V &v, PathRecord &m) {
    v(m.first);
    v(m.second);
    v(m.mbit_forth);
    v(m.mbit_back);
}

struct Record {
    Secret run{};
    std::uint64_t starts = 0;  ///< processes that have served this run
    ViewNumber view;
    std::vector<wire::GroupSize> view_groups;  ///< as it told them
    std::uint64_t view_generation = 0;         ///< the same
    std::uint64_t next_peer = 1;  ///< ids from here on were never given
    std::uint64_t generation = 1;
    wire::CallOutcome answer;  ///< of the last call of the whole run
    std::vector<MemberRecord> members;  ///< in order of id
    std::vector<GroupRecord> groups;    ///< in order of id; each has members
    std::vector<PathRecord> paths;
};

using NamedValues = std::map<std::string, wire::Bytes>;

NamedValues encode(const Record &record);
/// Error: what is missing, unreadable or contradicts itself. Whatever it accepts, a Master can start from.
Result<Record> decode_record(const NamedValues &values);

}  // namespace pccl::protocol
