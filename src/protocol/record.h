// The state that a master must not lose when its process ends: enough for a new process to continue the run.
//
// A record changes with the membership or a synchronization of shared state, never with an operation: members report operations
// to the new process (wire::RecoveryReport). It is stored as named values, so that a journal writes only those that changed.
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
    std::uint64_t island = 0;  ///< stored separately, and only if there are islands
    std::uint32_t island_peers = 0;
};
template <class V> void visit(V &v, MemberRecord &m) { v(m.id, m.group, m.secret, m.address, m.lanes); }

struct EdgeRecord {
    PeerId first, second;
};
template <class V> void visit(V &v, EdgeRecord &m) { v(m.first, m.second); }

/// A group's graph of neighbours.
struct GraphRecord {
    wire::GraphSpec spec;
    std::uint64_t epoch = 0, changes = 0;
    std::vector<PeerId> members;
    std::vector<EdgeRecord> edges;  ///< edges of a preferential or random graph
};

struct GroupRecord {
    GroupId id;
    wire::View view;           ///< the one that began its epoch; `number`, `groups` and `generation` are not used
    wire::CallOutcome answer;  ///< outcome of its last synchronization
    bool synced = false;
    std::uint64_t revision = 0;
    std::vector<PeerId> last_members;       ///< members that took part in it
    std::vector<wire::TensorOffer> schema;  ///< its hashes have no meaning
    GraphRecord graph;
};

/// The bandwidth measured between two peers, the smaller id first.
struct PathRecord {
    PeerId first, second;
    double mbit_forth = 0, mbit_back = 0;
};
template <class V> void visit(V &v, PathRecord &m) { v(m.first, m.second, m.mbit_forth, m.mbit_back); }

struct Record {
    Secret run{};
    std::uint64_t starts = 0;  ///< master processes of this run so far
    ViewNumber view;
    std::vector<wire::GroupSize> view_groups;  ///< as sent with `view`
    std::uint64_t view_generation = 0;         ///< as sent with `view`
    std::uint64_t next_peer = 1;               ///< this id and larger ones were never given
    std::uint64_t generation = 1;
    wire::CallOutcome answer;           ///< outcome of the last call of the whole run
    std::vector<MemberRecord> members;  ///< in order of id
    std::vector<GroupRecord> groups;    ///< in order of id; each has members
    std::vector<PathRecord> paths;
};

using NamedValues = std::map<std::string, wire::Bytes>;

NamedValues encode(const Record &record);
/// Error: a value is missing, unreadable or contradicts another. A Master can start from every record that it accepts.
Result<Record> decode_record(const NamedValues &values);

}  // namespace pccl::protocol
